"""`GET /containers/{id}/changes`: what a container changed of its image's files.

An overlay's upper directory has just that: what is there was added or modified, a whiteout or a
name missing below an opaque directory was deleted. The tree belongs to a container that may be
running and hostile: it is walked by descriptors, and no link is followed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.layers import layer_directories, opaque
from barque.daemon.containers.rootfs import writable_rootfs
from barque.oci.id_maps import IdMaps

MODIFIED, ADDED, DELETED = 0, 1, 2
MAX_DEPTH = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# What the runtime makes to mount on; Docker has them in a layer below the container's.
MADE_TO_MOUNT_ON = frozenset(
    {
        "/.dockerenv",
        "/dev",
        "/dev/console",
        "/dev/mqueue",
        "/dev/pts",
        "/dev/shm",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/mtab",
        "/etc/resolv.conf",
        "/proc",
        "/sys",
        "/sbin/docker-init",
    }
)


async def changes(engine: Engine, container: Container) -> list[dict[str, Any]]:
    """API: FilesystemChange, by path."""
    container.refuse_when_gone()
    try:
        with engine.measures.timed("changes"):
            found = await _changes(engine, container)
    except (OSError, errors.BarqueError):
        container.refuse_when_gone()  # it was removed meanwhile
        raise
    found.sort()
    return [{"Path": path, "Kind": kind} for path, kind in found]


async def _changes(engine: Engine, container: Container) -> list[tuple[str, int]]:
    layers = layer_directories(await writable_rootfs(engine, container))
    if len(layers) < 2:
        return await _changes_of_copy(engine, container, layers[0])
    remap = engine.defaults.remap_of(container.record.host.userns_mode)
    maps = remap.maps if remap else None
    return await asyncio.to_thread(lambda: list(compare(layers[0], layers[1:], maps)))


async def _changes_of_copy(
    engine: Engine, container: Container, root: str
) -> list[tuple[str, int]]:
    """Of a container whose snapshot is a whole tree: beside its image's."""
    parent = container.record.chain_id
    if not parent:
        return await asyncio.to_thread(lambda: list(compare_trees(root, "")))
    key = f"{container.id}-changes-{secrets.token_hex(4)}"
    await engine.supervisor.view(key, container.id, parent)
    try:
        (below,) = layer_directories(await engine.supervisor.mounts(key))
        return await asyncio.to_thread(lambda: list(compare_trees(root, below)))
    finally:
        await asyncio.shield(engine.supervisor.remove_snapshot(key))


def compare_trees(root: str, before: str) -> Iterator[tuple[str, int]]:
    """The changes that make the tree `root` from the tree `before` ("" for an empty one)."""
    with ExitStack() as stack:
        new = os.open(root, _DIRECTORY)
        stack.callback(os.close, new)
        old = os.open(before, _DIRECTORY) if before else -1
        if before:
            stack.callback(os.close, old)
        yield from _two_directories(new, old, "", 0)


def _two_directories(new: int, old: int, path: str, depth: int) -> Iterator[tuple[str, int]]:
    if depth > MAX_DEPTH:
        raise errors.ResourceExhausted(f"deeper than {MAX_DEPTH} directories: {path[:100]}")
    names = os.listdir(new)
    for name in names:
        try:
            yield from _two_entries(new, old, name, f"{path}/{name}", depth)
        except FileNotFoundError:
            continue  # gone since it was listed
    if old >= 0:
        for name in set(os.listdir(old)) - set(names):
            yield f"{path}/{name}", DELETED


def _two_entries(new: int, old: int, name: str, path: str, depth: int) -> Iterator[tuple[str, int]]:
    now, before = os.lstat(name, dir_fd=new), _facts_of(old, name)
    is_directory = stat.S_ISDIR(now.st_mode)
    if path in MADE_TO_MOUNT_ON and not is_directory:
        return
    inner: list[tuple[str, int]] = []
    if is_directory:
        fd = os.open(name, _DIRECTORY, dir_fd=new)
        below = -1
        try:
            if before is not None and stat.S_ISDIR(before.st_mode):
                below = os.open(name, _DIRECTORY, dir_fd=old)
            inner = list(_two_directories(fd, below, path, depth + 1))
        finally:
            os.close(fd)
            if below >= 0:
                os.close(below)
    if before is None:
        if path not in MADE_TO_MOUNT_ON or inner:
            yield path, ADDED
    elif is_directory and stat.S_ISDIR(before.st_mode):
        if _changed(now, before, path, inner):
            yield path, MODIFIED
    elif _facts_differ(now, before):
        yield path, MODIFIED
    yield from inner


def _facts_of(directory: int, name: str) -> os.stat_result | None:
    if directory < 0:
        return None
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _facts_differ(now: os.stat_result, before: os.stat_result) -> bool:
    """By what a copy keeps: a file of the same size and time is the same file."""
    return (
        (now.st_mode, now.st_uid, now.st_gid, now.st_rdev)
        != (before.st_mode, before.st_uid, before.st_gid, before.st_rdev)
        or now.st_size != before.st_size
        or now.st_mtime_ns != before.st_mtime_ns
    )


def compare(
    upper: str, lowers: Sequence[str], maps: IdMaps | None = None
) -> Iterator[tuple[str, int]]:
    """The changes that `upper` makes to the merged `lowers` (top first).

    `maps`: ids in `upper` are the machine's, those in `lowers` the container's.
    """
    with ExitStack() as stack:
        top = os.open(upper, _DIRECTORY)
        stack.callback(os.close, top)
        below = [os.open(path, _PATH) for path in lowers]
        for fd in below:
            stack.callback(os.close, fd)
        yield from _directory(top, below, "", 0, maps)


def _directory(
    upper: int, lowers: list[int], path: str, depth: int, maps: IdMaps | None
) -> Iterator[tuple[str, int]]:
    if depth > MAX_DEPTH:
        raise errors.ResourceExhausted(f"deeper than {MAX_DEPTH} directories: {path[:100]}")
    names = os.listdir(upper)
    for name in names:
        try:
            yield from _entry(upper, lowers, name, f"{path}/{name}", depth, maps)
        except FileNotFoundError:
            continue  # gone since it was listed
    if opaque(upper):
        for name in _names(lowers) - set(names):
            yield f"{path}/{name}", DELETED


def _entry(
    upper: int, lowers: list[int], name: str, path: str, depth: int, maps: IdMaps | None
) -> Iterator[tuple[str, int]]:
    facts = os.lstat(name, dir_fd=upper)
    if path in MADE_TO_MOUNT_ON and not stat.S_ISDIR(facts.st_mode):
        return
    if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
        yield path, DELETED
        return
    below = _lookup(lowers, name)
    try:
        before = os.fstat(below[0]) if below else None
        if not stat.S_ISDIR(facts.st_mode):
            yield path, MODIFIED if before else ADDED
            return
        fd = os.open(name, _DIRECTORY, dir_fd=upper)
        try:
            merged = below if before is not None and stat.S_ISDIR(before.st_mode) else []
            inner = list(_directory(fd, merged, path, depth + 1, maps))
        finally:
            os.close(fd)
        if before is None:
            if path not in MADE_TO_MOUNT_ON or inner:
                yield path, ADDED
        elif _changed(facts, before, path, inner, maps):
            yield path, MODIFIED
        yield from inner
    finally:
        for fd in below:
            os.close(fd)


def _changed(
    now: os.stat_result,
    before: os.stat_result,
    path: str,
    inner: list[tuple[str, int]],
    maps: IdMaps | None = None,
) -> bool:
    """Whether a directory counts as modified: itself, or by what was made or deleted in it.

    Its time says nothing where the runtime has made something to mount on.
    """
    direct = path.count("/") + 1
    if any(kind != MODIFIED and inside.count("/") == direct for inside, kind in inner):
        return True
    owner = now.st_uid, now.st_gid
    if maps is not None:
        owner = maps.uids.to_container(owner[0]), maps.gids.to_container(owner[1])
    if (now.st_mode, *owner) != (before.st_mode, before.st_uid, before.st_gid):
        return True
    holds = any(place.rpartition("/")[0] == path for place in MADE_TO_MOUNT_ON)
    return not holds and now.st_mtime_ns != before.st_mtime_ns


def _lookup(lowers: list[int], name: str) -> list[int]:
    """What the merged lower layers have by that name: a directory's parts, or one descriptor."""
    found: list[int] = []
    for directory in lowers:
        try:
            fd = os.open(name, _PATH, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        facts = os.fstat(fd)
        if stat.S_ISDIR(facts.st_mode):
            found.append(fd)
            if opaque(fd):
                break
            continue
        if found or (stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0):
            os.close(fd)
        else:
            found.append(fd)
        break
    return found


def _names(lowers: list[int]) -> set[str]:
    """What is in the merged lower directory."""
    seen: set[str] = set()
    hidden: set[str] = set()
    for directory in lowers:
        for name in os.listdir(f"/proc/self/fd/{directory}"):
            facts = os.lstat(name, dir_fd=directory)
            if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
                hidden.add(name)
            elif name not in hidden:
                seen.add(name)
    return seen
