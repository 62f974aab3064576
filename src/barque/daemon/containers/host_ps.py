"""What the host's own `ps` prints of a container's processes: for options that are its alone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Sequence
from typing import NamedTuple

from barque import errors

TIMEOUT_S = 10.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Listing(NamedTuple):
    titles: list[str]
    rows: list[list[str]]


async def listing(options: Sequence[str], pids: Collection[int]) -> Listing:
    """`ps OPTIONS`, of these processes. Raises Unsupported without a `ps`.

    Raises InvalidArgument where it refuses them, or prints no column PID.
    """
    program = shutil.which("ps", path=PATH)
    if program is None:
        words = " ".join(options)
        raise errors.Unsupported(
            f"ps options {words!r} take a ps on the host: use -ef or -o COLUMNS"
        )
    process = await asyncio.create_subprocess_exec(
        program,
        *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": PATH, "LC_ALL": "C.UTF-8"},
    )
    try:
        output, refusal = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise errors.Timeout(f"ps did not end within {TIMEOUT_S:g} s") from None
    if process.returncode:
        first = next(iter(refusal.decode(errors="replace").strip().splitlines()), "no reason")
        raise errors.InvalidArgument(f"ps {' '.join(options)}: {first}")
    return parse(output.decode(errors="replace"), pids)


def parse(text: str, pids: Collection[int]) -> Listing:
    """The lines of `ps` that are about `pids`; its last column takes the rest of a line."""
    lines = text.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise errors.InvalidArgument("couldn't find PID field in ps output")
    place, last = titles.index("PID"), len(titles) - 1
    wanted = {str(pid) for pid in pids}
    rows = [line.split(maxsplit=last) for line in lines[1:]]
    return Listing(titles, [row for row in rows if len(row) > place and row[place] in wanted])
