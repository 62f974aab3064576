"""Directories of a layer that was unpacked before what is below it was known.

An archive may have `a/b` and no word of `a`: then `a` looks as it does below. Where that is not
known yet, the lower directory is empty and marked; whoever unpacks marks each such directory, and
the root; `settle` makes it right.

Where there is no lower directory to mark, the root of what was unpacked apart says by an attribute
what is left to do once it has its place: `place` does it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from barque.linux.fs import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)

MARK = "trusted.barque.unknown"
APART = "trusted.barque.apart"  # of the root; its value has a letter for what there is
DIRECTORIES, HIDES = b"d", b"h"  # marked directories below the root; marks of overlayfs
HIDDEN = ("trusted.overlay.", "user.overlay.", "trusted.barque.")
OPAQUE = "trusted.overlay.opaque"
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV


def mark(path: str | bytes) -> None:
    os.setxattr(path, MARK, b"y")


def settle(root: str, lowers: Sequence[str]) -> None:
    """Every marked directory looks as it does in the merged `lowers` (nearest first), or stays."""
    if marked(root):
        _settle(root, lowers, _directories(root))


def set_apart(root: str | bytes, *, directories: bool, hides: bool) -> None:
    os.setxattr(root, APART, b"=" + DIRECTORIES * directories + HIDES * hides)


def place(root: str, lowers: Sequence[str]) -> None:
    """What was unpacked apart lies on `lowers` (nearest first; none: it is the first layer)."""
    try:
        left = os.getxattr(root, APART, follow_symlinks=False)
    except OSError:
        return
    _settle(root, lowers, _directories(root) if DIRECTORIES in left else [root])
    if HIDES in left and not lowers:
        _uncover(root)
    os.removexattr(root, APART)


def _uncover(root: str) -> None:
    """A first layer has nothing to hide: overlayfs's marks would be seen."""
    for _, _, names, directory in os.fwalk(root):
        if OPAQUE in os.listxattr(directory):
            os.removexattr(directory, OPAQUE)
        for name in names:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                os.unlink(name, dir_fd=directory)


def _settle(root: str, lowers: Sequence[str], directories: Iterable[str]) -> None:
    below = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in lowers]
    try:
        for path in directories:
            if marked(path):
                os.removexattr(path, MARK)
                _take(path, os.path.relpath(path, root), below)
    finally:
        for fd in below:
            os.close(fd)


def marked(path: str | bytes) -> bool:
    try:
        os.getxattr(path, MARK, follow_symlinks=False)
    except OSError:
        return False
    return True


def _directories(root: str) -> Iterator[str]:
    """With the root, and no link followed."""
    for path, _, _, fd in os.fwalk(root, topdown=False):
        del fd
        yield path


def _take(path: str, inside: str, lowers: Sequence[int]) -> None:
    for lower in lowers:
        try:
            found = openat2(lower, inside, _PLACE, resolve=_RESOLVE)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            return  # hidden, or no directory, from here on down
        try:
            copy_attributes(found, path)
        finally:
            os.close(found)
        return


def copy_attributes(source: int, target: str | bytes) -> None:
    """Owner, mode, extended attributes and times of the open directory `source`."""
    facts = os.fstat(source)
    os.chown(target, facts.st_uid, facts.st_gid)
    os.chmod(target, facts.st_mode & 0o7777)
    path = f"/proc/self/fd/{source}"
    for name in os.listxattr(path):
        if not name.startswith(HIDDEN):
            os.setxattr(target, name, os.getxattr(path, name), follow_symlinks=False)
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
