"""Directories of a layer that was unpacked before what is below it was known.

An archive may have `a/b` and no word of `a`: then `a` looks as it does below. Where that is not
known yet, the lower directory is empty and marked; whoever unpacks marks each such directory, and
the root; `settle` makes it right.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from barque.linux.fs import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)

MARK = "trusted.barque.unknown"
HIDDEN = ("trusted.overlay.", "user.overlay.", MARK)
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV


def mark(path: str | bytes) -> None:
    os.setxattr(path, MARK, b"y")


def settle(root: str, lowers: Sequence[str]) -> None:
    """Every marked directory looks as it does in the merged `lowers` (nearest first), or stays."""
    if not marked(root):
        return
    below = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in lowers]
    try:
        for path in _directories(root):
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
