"""Watching directories and files: inotify(7)."""

from __future__ import annotations

import ctypes
import os

from barque.linux.libc import encode, prototype, raise_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.linux.libc import StrPath

IN_ACCESS = 0x1
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_ONLYDIR = 0x1000000
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

_inotify_init1 = prototype("inotify_init1", ctypes.c_int)
_inotify_add_watch = prototype("inotify_add_watch", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_inotify_rm_watch = prototype("inotify_rm_watch", ctypes.c_int, ctypes.c_int)


def inotify_init1(flags: int = IN_NONBLOCK | IN_CLOEXEC) -> int:
    """A descriptor that is readable when something watched has happened."""
    fd = _inotify_init1(flags)
    if fd < 0:
        raise_errno("inotify_init1")
    return fd


def inotify_add_watch(fd: int, path: StrPath, mask: int) -> int:
    """Watch `path` for the events in `mask`; the watch's number."""
    watch = _inotify_add_watch(fd, encode(path), mask)
    if watch < 0:
        raise_errno("inotify_add_watch", path)
    return watch


def inotify_rm_watch(fd: int, watch: int) -> None:
    if _inotify_rm_watch(fd, watch) < 0:
        raise_errno("inotify_rm_watch")
