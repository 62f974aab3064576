"""The streams of a process below a shim that is not ours: fifos, and a relay at their other ends.

The relay (`barque-stdio`, docs/boundaries.md section 8) is to the daemon what our shim is: it
serves the stdio socket and writes the log. It ends when the output has ended and nobody needs the
socket any more.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path

from barque import errors, program
from barque.containerd.client.tasks import Stdio
from barque.daemon.containers import stdio

START_LIMIT_S = 20.0
DRAIN_LIMIT_S = 3.0
FIFOS = ("stdin", "stdout", "stderr")


def directory(socket: Path) -> Path:
    """Where the fifos of the process with this stdio socket are, if it has any."""
    return socket.with_suffix(".fifos")


async def start(address: str, socket: Path, *, stdin: bool, terminal: bool) -> Stdio:
    """Make the fifos and serve `address`; what to tell the shim. Raises BarqueError."""
    fifos = directory(socket)
    fifos.mkdir(mode=0o700, exist_ok=True)
    try:
        await _serve(address, fifos, "terminal" if terminal else "pipes")
    except BaseException:
        shutil.rmtree(fifos, ignore_errors=True)
        raise
    return Stdio(
        stdin=str(fifos / "stdin") if stdin else "",
        stdout=str(fifos / "stdout"),
        stderr="" if terminal else str(fifos / "stderr"),
        terminal=terminal,
    )


async def _serve(address: str, fifos: Path, kind: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *program.command("barque-stdio", address, str(fifos), kind),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(START_LIMIT_S):
            line = (await child.stdout.readline()).decode(errors="replace").strip()
            await child.wait()
    except TimeoutError as error:
        raise errors.Unavailable("the relay of the process's streams does not start") from error
    if line != "ok":
        raise errors.BarqueError(f"the relay of the process's streams: {line or 'ended at start'}")


async def drained(socket: Path) -> None:
    """Return once all output of an ended process is in its log; another may keep a fifo open."""
    if not directory(socket).exists():
        return
    with suppress(errors.Unavailable, TimeoutError):
        client = await stdio.Stdio.connect(str(socket), stdio.Wanted(stdout=False, stderr=False))
        try:
            async with asyncio.timeout(DRAIN_LIMIT_S):
                while await client.read():
                    pass
        finally:
            client.close()


def remove(socket: Path) -> None:
    """The process is gone: take its socket and fifos away, and so end a relay. Idempotent."""
    socket.unlink(missing_ok=True)
    fifos = directory(socket)
    if not fifos.exists():
        return
    for name in FIFOS[1:]:  # the end of a writer: of a shim that never came
        with suppress(OSError):
            os.close(os.open(fifos / name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    shutil.rmtree(fifos, ignore_errors=True)
