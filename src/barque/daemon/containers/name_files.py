"""/etc/hosts and /etc/resolv.conf of a running container that joins or leaves a network.

Written in place: the files are mounted in the container, which may have changed them. Its own lines
of /etc/hosts stay; a resolv.conf that is not as we wrote it is the container's and stays whole.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from barque.daemon.networks.texts import NameFiles

MAX_BYTES = 1 << 20  # of a file that a container may have filled


def follow(directory: Path, before: NameFiles, after: NameFiles) -> None:
    """Bring the files in `directory` from `before` to `after`."""
    _rewrite(directory / "hosts", lambda text: _hosts(text, before, after))
    if before.resolv_conf != after.resolv_conf:
        _rewrite(
            directory / "resolv.conf",
            lambda text: after.resolv_conf if text == before.resolv_conf else text,
        )


def _hosts(text: str, before: NameFiles, after: NameFiles) -> str:
    gone = Counter(before.hosts) - Counter(after.hosts)
    come = Counter(after.hosts) - Counter(before.hosts)
    kept = []
    for line in text.splitlines(keepends=True):
        if gone[line.rstrip("\n")] > 0:
            gone[line.rstrip("\n")] -= 1
        else:
            kept.append(line)
    if kept and come and not kept[-1].endswith("\n"):
        kept.append("\n")
    return "".join([*kept, *(f"{line}\n" for line in come.elements())])


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    """A file that is missing or too large is left alone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(fd, "r+b") as file:
        old = file.read(MAX_BYTES + 1)
        if len(old) > MAX_BYTES:
            return
        new = change(old.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if new != old:
            file.seek(0)
            file.write(new)
            file.truncate()
