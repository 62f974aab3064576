"""What a container has written: the bytes of its own files, as Docker counts them.

Docker: daemon/graphdriver, pkg/directory. A file counts by its length and once for all its names; a
directory counts nothing, so a new container has written nothing. The layer belongs to the
container, which may change it meanwhile: no link in it is followed.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.rootfs import writable_rootfs
from barque.linux.fs import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_INSIDE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


async def written_bytes(engine: Engine, container: Container) -> int:
    """Of an overlay; elsewhere what its snapshotter says. 0 of one that has just gone."""
    try:
        for mount in await writable_rootfs(engine, container):
            for option in mount.options:
                if option.startswith("upperdir="):
                    return await asyncio.to_thread(_bytes_below, option.partition("=")[2])
        return await engine.supervisor.snapshot_size(container.id)
    except (errors.NotFound, FileNotFoundError):
        return 0


def _bytes_below(directory: str) -> int:
    top = os.open(directory, _DIRECTORY)
    try:
        return _sum(top)
    finally:
        os.close(top)


def _sum(top: int) -> int:
    total, seen = 0, set[int]()
    pending = ["."]
    while pending:
        path = pending.pop()
        with suppress(OSError):  # it went, or became something else, meanwhile
            fd = openat2(top, path, _DIRECTORY, resolve=_INSIDE)
            try:
                for entry in os.scandir(fd):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{path}/{entry.name}")
                    else:
                        total += _once(entry.stat(follow_symlinks=False), seen)
            finally:
                os.close(fd)
    return total


def _once(facts: os.stat_result, seen: set[int]) -> int:
    """The length, where no other name of the file was counted. Devices and such have none."""
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode)) or facts.st_ino in seen:
        return 0
    if facts.st_nlink > 1:
        seen.add(facts.st_ino)
    return facts.st_size
