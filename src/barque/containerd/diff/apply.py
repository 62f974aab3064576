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
from collections.abc import Callable, Sequence

from barque.containerd.diff.attributes import explained, make_node, set_attributes, set_xattrs
from barque.containerd.diff.directories import Directories, Parts, path_below, path_of, split
from barque.containerd.snapshots import unknown_parents
from barque.errors import InvalidArgument, ResourceExhausted
from barque.linux.fs import write_at
from barque.oci import tar

ENTRIES_MAX = 4_000_000
WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
RESERVED = b".wh..wh."
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
        self._opaque = f"{xattrs}.overlay.opaque"
        self._apart = apart
        self._directories = Directories(
            root, overlay=overlay, lowers=lowers, opaque=self._opaque, apart=apart
        )
        self._hides = False
        self._file = -1
        self._entry: tar.Entry | None = None
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
            raise explained(error, entry) from error

    def data(self, data: tar.Data) -> None:
        assert self._file >= 0
        assert self._entry is not None
        try:
            write_at(self._file, data.payload, data.offset)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                os.ftruncate(self._file, 0)  # to give the layer up takes room too
            raise explained(error, self._entry) from error

    def finish(self) -> None:
        """After the last entry: what could only be set when nothing changes any more."""
        self._finish_file()
        if self._directories.unknown and () not in self._directory_times:
            unknown_parents.mark(path_of(self._root))
        if self._apart:
            unknown_parents.set_apart(
                path_of(self._root), directories=self._directories.made_unknown, hides=self._hides
            )
        for parts, mtime_ns in reversed(self._directory_times.items()):
            try:
                directory = self._directories.open(parts) if parts else os.dup(self._root)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced or whited out by a later entry
            try:
                os.utime(path_of(directory), ns=(mtime_ns, mtime_ns))
            finally:
                os.close(directory)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._directories.close()

    # Entries

    def _apply_root(self, entry: tar.Entry) -> None:
        if entry.kind != tar.DIRECTORY:
            raise InvalidArgument(f"layer has a root that is not a directory: {entry.name!r}")
        root = path_of(self._root)
        os.chown(root, entry.uid, entry.gid)
        os.chmod(root, entry.mode)
        set_xattrs(root, entry)
        self._directory_times[()] = entry.mtime_ns

    def _apply_entry(self, entry: tar.Entry, parts: Parts) -> None:
        parent, name = self._directories.parent(parts[:-1]), parts[-1]
        match entry.kind:
            case tar.DIRECTORY:
                self._directories.make_directory(parent, name)
                self._directory_times[parts] = entry.mtime_ns
            case tar.REGULAR:
                self._open_file(entry, parent, name)
            case tar.LINK:
                self._link(entry, parent, name)
            case tar.SYMLINK:
                self._replace(parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
            case _:
                self._replace(parent, name, lambda: make_node(entry, parent, name))
        self._made.add(parts)
        if entry.kind not in (tar.REGULAR, tar.LINK):
            set_attributes(entry, parent, name)

    def _open_file(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        try:
            self._file = os.open(name, NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._directories.remove(parent, name)
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
            set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError as error:
            raise explained(error, entry) from error
        finally:
            os.close(fd)

    def _link(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        target = split(entry.link)
        if not target:
            raise InvalidArgument(f"layer has a hard link to its root: {entry.name!r}")
        source = self._directories.open(target[:-1])
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
        self,
        parent: int,
        name: bytes,
        make: Callable[[], None],
        keep: os.stat_result | None = None,
    ) -> None:
        """Do `make`; if something has the name, remove it first (unless it is `keep` itself)."""
        try:
            make()
        except FileExistsError:
            if keep is not None:
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if (found.st_dev, found.st_ino) == (keep.st_dev, keep.st_ino):
                    return
            self._directories.remove(parent, name)
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
        parent, name = self._directories.parent(parts[:-1]), parts[-1]
        if parts in self._made:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.setxattr(path_below(parent, name), self._opaque, b"y", follow_symlinks=False)
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
            parent = self._directories.parent(parts)
            os.setxattr(path_of(parent), self._opaque, b"y")
            self._hides = True
            return
        try:
            directory = self._directories.open(parts)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            with os.scandir(path_of(directory)) as entries:
                names = [entry.name for entry in entries]
            for name in map(os.fsencode, names):
                if (*parts, name) not in self._made:
                    self._directories.remove(directory, name)
        finally:
            os.close(directory)

    def _remove_below(self, parts: Parts) -> None:
        try:
            directory = self._directories.open(parts[:-1])
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            self._directories.remove(directory, parts[-1])
        finally:
            os.close(directory)
