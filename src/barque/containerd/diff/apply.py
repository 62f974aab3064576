"""Applying a layer onto a directory that may be hostile already, from an archive that may be too.

Source: image-spec, layer.md, "Applying Changesets". Nothing leads out of the directory: an entry's
parent is opened with openat2(2) as a process whose root the directory is would open it, and its
last component is made with O_EXCL or its like, never followed.

Two kinds of target:
    plain      whiteouts remove what is there
    overlay    an overlay's upper directory: whiteouts become overlay's own marks for what is in
               `lowers`, and directories made on the way look as they do below
Source of the marks: Linux, Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence

from barque.containerd.snapshots import unknown_parents
from barque.errors import DataLoss, InvalidArgument, ResourceExhausted
from barque.linux.fs import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    openat2,
    write_at,
)
from barque.linux.fs import remove_at as _remove_at
from barque.oci import tar

ENTRIES_MAX = 4_000_000
DEPTH_MAX = 512
LINKS_MAX = 40
OPEN_PARENTS_MAX = 64
WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
RESERVED = b".wh..wh."
# An image must not speak to overlayfs, or to us: with these it could redirect a lookup.
FOREIGN_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"trusted.barque.")
RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
O_PARENT = os.O_PATH | os.O_DIRECTORY
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Parts = tuple[bytes, ...]


class Applier:
    """Applies one archive's events in order; `finish` must follow, `close` always."""

    def __init__(
        self,
        root: int,
        *,
        overlay: bool,
        lowers: Sequence[int] = (),
        xattrs: str = "trusted",
        apart: bool = False,
    ) -> None:
        """`root` and `lowers` (nearest first) are open directories, which stay the caller's.

        `xattrs`: where overlay's own marks are, "user" for one mounted with userxattr. `apart`:
        what is below is not known yet, and `unknown_parents.place` will be called.
        """
        self._root = root
        self._overlay = overlay
        self._lowers = lowers
        self._opaque = f"{xattrs}.overlay.opaque"
        self._apart = apart
        self._unknown = apart or (
            overlay and any(unknown_parents.marked(_path(lower)) for lower in lowers)
        )
        self._unknown_directories = False
        self._hides = False
        self._file = -1
        self._entry: tar.Entry | None = None
        self._parents: OrderedDict[Parts, int] = OrderedDict()
        self._made: set[Parts] = set()  # by this layer: its own whiteouts do not concern them
        self._directory_times: dict[Parts, int] = {}
        self._entries = 0

    # Events

    def entry(self, entry: tar.Entry) -> None:
        self._finish_file()
        self._entries += 1
        if self._entries > ENTRIES_MAX:
            raise ResourceExhausted(f"layer has more than {ENTRIES_MAX} entries")
        parts = split(entry.name)
        try:
            if not parts:
                self._apply_root(entry)
            elif parts[-1].startswith(WHITEOUT):
                self._apply_whiteout(parts)
            else:
                self._apply_entry(entry, parts)
        except OSError as error:
            raise _explain(error, entry) from error

    def data(self, data: tar.Data) -> None:
        assert self._file >= 0
        assert self._entry is not None
        try:
            write_at(self._file, data.payload, data.offset)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                os.ftruncate(self._file, 0)  # to give the layer up takes room too
            raise _explain(error, self._entry) from error

    def finish(self) -> None:
        """After the last entry: what could only be set when nothing changes any more."""
        self._finish_file()
        if self._unknown and () not in self._directory_times:
            unknown_parents.mark(_path(self._root))
        if self._apart:
            unknown_parents.set_apart(
                _path(self._root), directories=self._unknown_directories, hides=self._hides
            )
        for parts, mtime_ns in reversed(self._directory_times.items()):
            try:
                directory = self._open(parts) if parts else os.dup(self._root)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced or whited out by a later entry
            try:
                os.utime(_path(directory), ns=(mtime_ns, mtime_ns))
            finally:
                os.close(directory)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._forget_parents()

    # Entries

    def _apply_root(self, entry: tar.Entry) -> None:
        if entry.kind != tar.DIRECTORY:
            raise InvalidArgument(f"layer has a root that is not a directory: {entry.name!r}")
        root = _path(self._root)
        os.chown(root, entry.uid, entry.gid)
        os.chmod(root, entry.mode)
        _set_xattrs(root, entry)
        self._directory_times[()] = entry.mtime_ns

    def _apply_entry(self, entry: tar.Entry, parts: Parts) -> None:
        parent, name = self._parent(parts[:-1]), parts[-1]
        match entry.kind:
            case tar.DIRECTORY:
                self._make_directory(parent, name, parts)
                self._directory_times[parts] = entry.mtime_ns
            case tar.REGULAR:
                self._open_file(entry, parent, name)
            case tar.LINK:
                self._link(entry, parent, name)
            case tar.SYMLINK:
                self._replace(parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
            case _:
                self._replace(parent, name, lambda: _make_node(entry, parent, name))
        self._made.add(parts)
        if entry.kind not in (tar.REGULAR, tar.LINK):
            _set_attributes(entry, parent, name)

    def _make_directory(self, parent: int, name: bytes, parts: Parts) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                return
            self._remove(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
            if self._overlay:  # what is below by that name stays hidden
                os.setxattr(_below(parent, name), self._opaque, b"y", follow_symlinks=False)

    def _open_file(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        try:
            self._file = os.open(name, NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._remove(parent, name)
            self._file = os.open(name, NEW_FILE, 0o600, dir_fd=parent)
        self._entry = entry

    def _finish_file(self) -> None:
        if self._file < 0:
            return
        fd, entry = self._file, self._entry
        assert entry is not None
        self._file = -1
        try:
            if entry.pieces is not None:
                os.ftruncate(fd, entry.size)
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            _set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError as error:
            raise _explain(error, entry) from error
        finally:
            os.close(fd)

    def _link(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        target = split(entry.link)
        if not target:
            raise InvalidArgument(f"layer has a hard link to its root: {entry.name!r}")
        source = self._open(target[:-1])
        try:
            self._replace(
                parent,
                name,
                lambda: os.link(
                    target[-1],
                    name,
                    src_dir_fd=source,
                    dst_dir_fd=parent,
                    follow_symlinks=False,
                ),
                keep=os.stat(target[-1], dir_fd=source, follow_symlinks=False),
            )
        finally:
            os.close(source)

    def _replace(
        self, parent: int, name: bytes, make: object, keep: os.stat_result | None = None
    ) -> None:
        """Do `make`; if something has the name, remove it first (unless it is `keep` itself)."""
        assert callable(make)
        try:
            make()
        except FileExistsError:
            if keep is not None:
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if (found.st_dev, found.st_ino) == (keep.st_dev, keep.st_ino):
                    return
            self._remove(parent, name)
            make()

    # Whiteouts

    def _apply_whiteout(self, parts: Parts) -> None:
        if parts[-1] == OPAQUE:
            self._make_opaque(parts[:-1])
            return
        if parts[-1].startswith(RESERVED):
            return  # aufs's own bookkeeping, which is no part of the file system
        name = parts[-1][len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise InvalidArgument(f"layer has a whiteout of nothing: {b'/'.join(parts)!r}")
        hidden = (*parts[:-1], name)
        if self._overlay:
            self._hide(hidden)
        elif hidden not in self._made:
            self._remove_below(hidden)

    def _hide(self, parts: Parts) -> None:
        """Overlay's mark for "not there any more": a character device 0:0."""
        self._hides = True
        parent, name = self._parent(parts[:-1]), parts[-1]
        if parts in self._made:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.setxattr(_below(parent, name), self._opaque, b"y", follow_symlinks=False)
            return
        self._replace(
            parent,
            name,
            lambda: os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent),
        )

    def _make_opaque(self, parts: Parts) -> None:
        if self._overlay:
            if not parts:
                raise InvalidArgument("layer hides everything below its root")
            parent = self._parent(parts)
            os.setxattr(_path(parent), self._opaque, b"y")
            self._hides = True
            return
        try:
            directory = self._open(parts)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            with os.scandir(_path(directory)) as entries:
                names = [entry.name for entry in entries]
            for name in map(os.fsencode, names):
                if (*parts, name) not in self._made:
                    self._remove(directory, name)
        finally:
            os.close(directory)

    def _remove_below(self, parts: Parts) -> None:
        try:
            directory = self._open(parts[:-1])
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            self._remove(directory, parts[-1])
        finally:
            os.close(directory)

    # Directories

    def _open(self, parts: Parts) -> int:
        """A directory in the target, links followed as if the target were the root."""
        return openat2(self._root, b"/".join(parts) or b".", O_PARENT, resolve=RESOLVE)

    def _parent(self, parts: Parts) -> int:
        """The directory for an entry, made with all above it where it is not there."""
        known = self._parents.get(parts)
        if known is not None:
            self._parents.move_to_end(parts)
            return known
        try:
            directory = self._open(parts)
        except FileNotFoundError:
            directory = self._make_parents(parts)
        except NotADirectoryError:
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
                os.close(self._open(parts[:depth]))
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
        return self._open(parts)

    def _make_parent(self, parts: Parts) -> None:
        """One directory that the archive did not mention: looks as it does below, or plain."""
        parent, name = self._open(parts[:-1]), parts[-1]
        try:
            self._make_directory(parent, name, parts)
            path = _below(parent, name)
            os.chmod(path, 0o755)
            if self._unknown:
                unknown_parents.mark(path)
                self._unknown_directories = True
                if not self._apart:
                    unknown_parents.mark(_path(self._root))
            for lower in self._lowers:
                try:
                    below = openat2(
                        lower, b"/".join(parts), O_PARENT | os.O_NOFOLLOW, resolve=RESOLVE
                    )
                except FileNotFoundError:
                    continue
                except NotADirectoryError:
                    break  # hidden, or no directory, from here on down
                try:
                    unknown_parents.copy_attributes(below, path)
                finally:
                    os.close(below)
                break
        finally:
            os.close(parent)

    def _aim_of_link(self, parts: Parts) -> Parts | None:
        """Where a link to nothing leads, inside the target; None when there is no link."""
        parent = self._open(parts[:-1])
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
        parent = self._open(parts[:-1])
        try:
            found = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)
        return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0

    def _remove(self, parent: int, name: bytes) -> None:
        """Remove an entry with all below; never through a link, never into another mount."""
        try:
            os.unlink(name, dir_fd=parent)
            self._forget_parents(parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            self._forget_parents(parent)
            _remove_at(parent, os.fsdecode(name))

    def _forget_parents(self, keep: int = -1) -> None:
        """What paths lead to may have changed."""
        for parts, directory in list(self._parents.items()):
            if directory != keep:
                os.close(directory)
                del self._parents[parts]


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


def _make_node(entry: tar.Entry, parent: int, name: bytes) -> None:
    if entry.kind == tar.FIFO:
        os.mkfifo(name, 0o600, dir_fd=parent)
        return
    kind = stat.S_IFCHR if entry.kind == tar.CHARACTER else stat.S_IFBLK
    if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
        raise InvalidArgument(f"layer has a device number out of range: {entry.name!r}")
    os.mknod(name, kind | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)


def _set_attributes(entry: tar.Entry, parent: int, name: bytes) -> None:
    """Ownership first: the kernel clears set-id bits and capabilities when it changes."""
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    if entry.kind != tar.SYMLINK:
        os.chmod(name, entry.mode, dir_fd=parent)
    if entry.xattrs:
        _set_xattrs(_below(parent, name), entry)
    times = (entry.mtime_ns, entry.mtime_ns)
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def _set_xattrs(target: int | bytes, entry: tar.Entry) -> None:
    for name, value in entry.xattrs.items():
        if name.startswith(FOREIGN_XATTRS):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # a file system without this kind has none to keep
                raise


def _path(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


def _below(directory: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%s" % (directory, name)


def _explain(error: OSError, entry: tar.Entry) -> Exception:
    """What an entry met: what is the archive's fault is told as such."""
    name = entry.name.decode(errors="replace")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(f"no space left on device for {name!r} of a layer")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EEXIST):
        return InvalidArgument(f"layer entry {name!r} can not be made: {error.strerror}")
    if error.errno in (errno.EINVAL, errno.ENAMETOOLONG, errno.ERANGE, errno.EOVERFLOW):
        return InvalidArgument(f"layer entry {name!r} can not be made: {error.strerror}")
    return DataLoss(f"layer entry {name!r} can not be made: {error.strerror}")
