"""Files and directories taken whole: shared blocks, exchanged names, names that must be free."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

from barque.linux.libc import AT_FDCWD, encode, prototype, raise_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.linux.libc import StrPath

FICLONE = 0x40049409
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
_NO_CLONE = (
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EPERM,
    errno.ETXTBSY,
)

_renameat2 = prototype(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)


def clone_file(source: int, target: int) -> bool:
    """Let file `target` share all blocks of `source`; False where the filesystem cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return False
    return True


def data_extents(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what is not a hole in a file of `size` bytes. lseek(2), SEEK_DATA."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                break
            if error.errno == errno.EINVAL:  # no holes here
                return [(0, size)]
            raise
        at = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        if at > start:
            found.append((start, at - start))
        else:
            break
    return found


def exchange(first: StrPath, second: StrPath) -> None:
    """Swap two names in one step. renameat2(2), RENAME_EXCHANGE."""
    _rename(first, second, RENAME_EXCHANGE)


def rename_new(source: StrPath, target: StrPath) -> None:
    """Rename to a name that is free; EEXIST when it is not. renameat2(2), RENAME_NOREPLACE."""
    _rename(source, target, RENAME_NOREPLACE)


def _rename(source: StrPath, target: StrPath, flags: int) -> None:
    if _renameat2(AT_FDCWD, encode(source), AT_FDCWD, encode(target), flags) < 0:
        raise_errno("renameat2", target)
