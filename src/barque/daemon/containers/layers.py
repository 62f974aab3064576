"""Read one file of a container's root file system without mounting it.

A prepared snapshot is an overlay (or one plain directory): the kernel would show the merged tree,
we walk it by hand, component by component, the way overlayfs looks up: the topmost layer that has
a name decides, a whiteout hides the layers below, an opaque directory stops the descent. Each
step is openat(O_PATH | O_NOFOLLOW) on a directory fd of a layer, symbolic links are followed by
us and start again at the container's root, so no image can lead the daemon to a file of the host
(invariants 3 and 4 of the design; CVE-2022-23648, CVE-2024-9676, CVE-2026-47262).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack

from barque import errors

MAX_LINKS = 40
MAX_FILE_BYTES = 4 << 20
_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def layer_directories(mounts: Sequence[tuple[str, str, Sequence[str]]]) -> list[str]:
    """The directories of a snapshot, top first, from its mounts as (type, source, options)."""
    if len(mounts) != 1:
        raise errors.Unsupported(f"snapshot has {len(mounts)} mounts: reading it is not there yet")
    kind, source, options = mounts[0]
    if kind == "bind":
        return [source]
    if kind != "overlay":
        raise errors.Unsupported(f"reading a {kind} snapshot is not there yet")
    upper, lower = [], []
    for option in options:
        key, _, value = option.partition("=")
        if key == "upperdir":
            upper = [value]
        elif key == "lowerdir":
            lower = value.split(":")
    return upper + lower


def read_file(directories: Sequence[str], path: str, limit: int = MAX_FILE_BYTES) -> bytes | None:
    """The content of the regular file `path` (from the container's root), None when there is none.

    Raises ResourceExhausted beyond `limit` bytes. A fifo, a device or a directory counts as none.
    """
    with ExitStack() as stack:
        roots = [_open_root(stack, directory) for directory in directories]
        entry = _Walk(stack, roots).resolve(path)
        if entry is None or not stat.S_ISREG(os.fstat(entry).st_mode):
            return None
        return _read(entry, path, limit)


def is_directory(directories: Sequence[str], path: str) -> bool:
    """Whether `path`, links followed inside the container, is a directory."""
    with ExitStack() as stack:
        roots = [_open_root(stack, directory) for directory in directories]
        entry = _Walk(stack, roots).resolve(path)
        return entry is not None and stat.S_ISDIR(os.fstat(entry).st_mode)


def _open_root(stack: ExitStack, directory: str) -> int:
    return _owned(stack, os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def _owned(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _read(entry: int, path: str, limit: int) -> bytes:
    """A checked O_PATH fd is re-opened through our own /proc, never by its name."""
    fd = os.open(f"/proc/self/fd/{entry}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size > limit:
            raise errors.ResourceExhausted(f"{path} of the image is larger than {limit} bytes")
        chunks, size = [], 0
        while chunk := file.read(min(1 << 16, limit + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise errors.ResourceExhausted(f"{path} of the image is larger than {limit} bytes")
        return b"".join(chunks)


class _Walk:
    def __init__(self, stack: ExitStack, roots: list[int]) -> None:
        self._stack = stack
        self._roots = roots
        self._links = 0

    def resolve(self, path: str) -> int | None:
        """An O_PATH fd of what `path` names in the merged tree."""
        todo = [part for part in reversed(path.split("/")) if part]
        trail = [self._roots]
        while todo:
            name = todo.pop()
            if name == ".":
                continue
            if name == "..":
                trail = trail[:-1] or trail
                continue
            found = self._lookup(trail[-1], name)
            if isinstance(found, list):
                trail.append(found)
                continue
            if found is None:
                return None
            target = self._link_target(found)
            if target is None:
                return None if todo else found
            if target.startswith("/"):
                trail = trail[:1]
            todo += [part for part in reversed(target.split("/")) if part]
        return trail[-1][0]

    def _link_target(self, entry: int) -> str | None:
        if not stat.S_ISLNK(os.fstat(entry).st_mode):
            return None
        self._links += 1
        if self._links > MAX_LINKS:
            raise errors.InvalidArgument("too many levels of symbolic links in the image")
        return os.fsdecode(os.readlink("", dir_fd=entry))

    def _lookup(self, directories: list[int], name: str) -> int | list[int] | None:
        """A merged directory as its fds, anything else as one fd, None when there is none."""
        merged: list[int] = []
        for directory in directories:
            try:
                fd = os.open(name, _PATH_FLAGS, dir_fd=directory)
            except (FileNotFoundError, NotADirectoryError):
                continue
            _owned(self._stack, fd)
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                merged.append(fd)
                if opaque(fd):
                    break
                continue
            if merged or (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                break
            return fd
        return merged or None


def opaque(fd: int) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            continue
    return False
