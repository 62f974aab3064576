"""Directories of the tree that a layer is applied onto: found, and made where they are missing.

Nothing leads out: a path is opened with openat2(2) as a process whose root the tree is would open
it, and a directory is made by a name in an open one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence

from barque.containerd.snapshots import unknown_parents
from barque.errors import InvalidArgument
from barque.linux.fs import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    openat2,
    remove_at,
)

DEPTH_MAX = 512
LINKS_MAX = 40
OPEN_PARENTS_MAX = 64
RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
O_PARENT = os.O_PATH | os.O_DIRECTORY

Parts = tuple[bytes, ...]


class Directories:
    """The tree below `root`; a few of its directories are open until `close`."""

    def __init__(
        self, root: int, *, overlay: bool, lowers: Sequence[int], opaque: str, apart: bool
    ) -> None:
        """As `Applier` is told; `opaque` is the name of overlay's mark."""
        self._root = root
        self._overlay = overlay
        self._lowers = lowers
        self._opaque = opaque
        self._apart = apart
        self._parents: OrderedDict[Parts, int] = OrderedDict()
        self.unknown = apart or (
            overlay and any(unknown_parents.marked(path_of(lower)) for lower in lowers)
        )
        self.made_unknown = False  # a directory whose looks below are not known yet

    def open(self, parts: Parts) -> int:
        """A directory in the target, links followed as if the target were the root."""
        return openat2(self._root, b"/".join(parts) or b".", O_PARENT, resolve=RESOLVE)

    def parent(self, parts: Parts) -> int:
        """The directory for an entry, made with all above it where it is not there."""
        known = self._parents.get(parts)
        if known is not None:
            self._parents.move_to_end(parts)
            return known
        try:
            directory = self.open(parts)
        except (FileNotFoundError, NotADirectoryError):
            directory = self._make_parents(parts)
        self._parents[parts] = directory
        if len(self._parents) > OPEN_PARENTS_MAX:
            os.close(self._parents.popitem(last=False)[1])
        return directory

    def _make_parents(self, parts: Parts, links: int = 0) -> int:
        if len(parts) > DEPTH_MAX or links > LINKS_MAX:
            raise InvalidArgument("layer has an entry too many directories or links deep")
        for depth in range(1, len(parts) + 1):
            try:
                os.close(self.open(parts[:depth]))
            except FileNotFoundError:
                aim = self._aim_of_link(parts[:depth])
                if aim is None:
                    self._make_parent(parts[:depth])
                else:
                    os.close(self._make_parents(aim, links + 1))
            except NotADirectoryError:
                if not self._is_mark(parts[:depth]):
                    raise
                self._make_parent(parts[:depth])
        return self.open(parts)

    def _make_parent(self, parts: Parts) -> None:
        """One directory that the archive did not mention: looks as it does below, or plain."""
        parent, name = self.open(parts[:-1]), parts[-1]
        try:
            self.make_directory(parent, name)
            path = path_below(parent, name)
            os.chmod(path, 0o755)
            if self.unknown:
                unknown_parents.mark(path)
                self.made_unknown = True
                if not self._apart:
                    unknown_parents.mark(path_of(self._root))
            for lower in self._lowers:
                try:
                    same = openat2(
                        lower, b"/".join(parts), O_PARENT | os.O_NOFOLLOW, resolve=RESOLVE
                    )
                except FileNotFoundError:
                    continue
                except NotADirectoryError:
                    break  # hidden, or no directory, from here on down
                try:
                    unknown_parents.copy_attributes(same, path)
                finally:
                    os.close(same)
                break
        finally:
            os.close(parent)

    def _aim_of_link(self, parts: Parts) -> Parts | None:
        """Where a link to nothing leads, inside the target; None when there is no link."""
        parent = self.open(parts[:-1])
        try:
            aim = os.readlink(parts[-1], dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise
        finally:
            os.close(parent)
        return _inside(aim if aim.startswith(b"/") else b"/".join((*parts[:-1], aim)))

    def _is_mark(self, parts: Parts) -> bool:
        """Whether a whiteout of this layer is in the place of a directory."""
        if not self._overlay:
            return False
        parent = self.open(parts[:-1])
        try:
            found = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)
        return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0

    def make_directory(self, parent: int, name: bytes) -> None:
        """One that is there stays as it is; what else is there goes."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                return
            self.remove(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
            if self._overlay:  # what is below by that name stays hidden
                os.setxattr(path_below(parent, name), self._opaque, b"y", follow_symlinks=False)

    def remove(self, parent: int, name: bytes) -> None:
        """Remove an entry with all below; never through a link, never into another mount."""
        try:
            os.unlink(name, dir_fd=parent)
            self._forget(parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            self._forget(parent)
            remove_at(parent, os.fsdecode(name))

    def _forget(self, keep: int = -1) -> None:
        """What paths lead to may have changed."""
        for parts, directory in list(self._parents.items()):
            if directory != keep:
                os.close(directory)
                del self._parents[parts]

    def close(self) -> None:
        self._forget()


def split(name: bytes) -> Parts:
    """The components of an archive's path; () is the root.

    Raises InvalidArgument for one that leads out of the root, has too long a component, or is too
    deep.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise InvalidArgument(f"layer has an entry that leads out of it: {name!r}")
            parts.pop()
            continue
        if len(part) > 255:
            raise InvalidArgument(f"layer has a file name of {len(part)} bytes")
        parts.append(part)
    if len(parts) > DEPTH_MAX:
        raise InvalidArgument(f"layer has an entry more than {DEPTH_MAX} directories deep")
    return tuple(parts)


def _inside(path: bytes) -> Parts:
    """A path as a process would clean it whose root the target is: `..` stops there."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return tuple(parts)


def path_of(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


def path_below(directory: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%s" % (directory, name)
