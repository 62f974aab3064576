"""Unpacking a tar archive below an open directory: nothing in it leads anywhere else.

    unpacker = Unpacker(parents)
    unpacker.feed(chunk); ...; unpacker.end()        # and close() always

The names of an archive are untrusted. `..` leads nowhere above the directory; an entry's parent is
opened by `parents`, which decides about links on the way; its last component is made by O_EXCL or
its like and never followed.
"""

from __future__ import annotations

import errno
import os
import stat

from barque.errors import InvalidArgument, ResourceExhausted
from barque.oci import tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Parents = Callable[[tuple[bytes, ...]], int]

MAX_DEPTH = 512
MAX_OPEN_PARENTS = 64
NAME_BYTES = 255
PIECE_BYTES = 1 << 20
# For a larger write the kernel looks for pages that lie together, up to three times as long as it
# writes; splice(2), page by page, takes twice as long too.
WRITE_BYTES = 32 << 10
KEPT_XATTRS = (b"user.", b"security.capability")
ACCESS_LISTS = b"system.posix_acl_"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Parts = tuple[bytes, ...]


def below(directory: int) -> Parents:
    """Parents opened one component at a time from `directory`; a link on the way is an error."""

    def opened(parts: Parts) -> int:
        fd = os.dup(directory)
        for part in parts:
            try:
                inner = os.open(part, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    return opened


class Unpacker:
    """`owner` replaces every entry's; without `chown` owners are left to the kernel.

    `keep_kinds`: a directory is never replaced by something else, nor something else by one (the
    API's noOverwriteDirNonDir). `top`: the archive is the whole of the directory:
    an entry for itself (`./`) counts, and so do access lists.
    Raises InvalidArgument, ResourceExhausted, OSError.
    """

    def __init__(
        self,
        parents: Parents,
        *,
        owner: tuple[int, int] | None = None,
        chown: bool = True,
        keep_kinds: bool = False,
        rename: Callable[[bytes], bytes] | None = None,
        top: bool = False,
    ) -> None:
        self._open = parents
        self._owner = owner
        self._chown = chown
        self._keep_kinds = keep_kinds
        self._rename = rename
        self._top = top
        self._kept = (*KEPT_XATTRS, ACCESS_LISTS) if top else KEPT_XATTRS
        self._reader = tar.Reader()
        self._cache: dict[Parts, int] = {}
        self._file = -1
        self._entry: tar.Entry | None = None
        self._times: dict[Parts, tar.Entry] = {}
        self.entries = 0

    def feed(self, data: bytes) -> None:
        self._reader.feed(data)
        self._take()

    def take_from(self, pipe: int) -> bool:
        """Move the rest of a large file from `pipe` into it; False: not now.

        What `feed` was given must have come from the same pipe. The pipe's end leaves the file
        short, which the next `end` tells.
        """
        place = self._reader.expected() if self._file >= 0 else None
        if place is None or place[1] < PIECE_BYTES:
            return False
        offset, left = place
        buffer = memoryview(bytearray(PIECE_BYTES))
        while left:
            moved = os.readv(pipe, [buffer[:left]])
            if not moved:
                return False
            done = 0
            while done < moved:
                part = buffer[done : min(moved, done + WRITE_BYTES)]
                done += os.pwrite(self._file, part, offset + done)
            offset, left = offset + moved, left - moved
            self._reader.taken(moved)
        return True

    def end(self) -> None:
        """The archive is whole; what could only be set last is set now."""
        self._reader.end()
        self._take()
        self._finish_file()
        for parts, entry in reversed(self._times.items()):
            try:
                fd = self._directory(parts)
            except OSError:
                continue  # replaced by a later entry
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._forget()

    def _take(self) -> None:
        while (event := self._reader.next_event()) is not None:
            if isinstance(event, tar.Data):
                self._data(event)
            elif isinstance(event, tar.Entry):
                self._finish_file()
                try:
                    self._make(event)
                except OSError as error:
                    raise _named(error, event) from error

    def _data(self, data: tar.Data) -> None:
        if self._file < 0:
            return  # of an entry that only touches what is there
        view, offset = data.payload, data.offset
        while view:
            written = os.pwrite(self._file, view[:WRITE_BYTES], offset)
            view, offset = view[written:], offset + written

    def _make(self, entry: tar.Entry) -> None:
        self.entries += 1
        name = entry.name if self._rename is None else self._rename(entry.name)
        parts = split(name)
        if not parts:
            if entry.kind != tar.DIRECTORY:
                raise InvalidArgument(f"archive has an entry without a name: {entry.name!r}")
            if self._top:
                self._attributes(self._directory(()), entry)
                self._times[()] = entry
            return  # the directory itself: it is there
        parent, last = self._parent(parts[:-1]), parts[-1]
        if entry.kind == tar.DIRECTORY:
            self._make_directory(entry, parent, last, parts)
            return
        self._clear(entry, parent, last)
        if entry.kind == tar.REGULAR:
            plain = entry.mode & 0o7000 == 0
            self._file = os.open(last, _NEW, entry.mode if plain else 0o600, dir_fd=parent)
            self._entry = entry
        elif entry.kind == tar.LINK:
            self._link(entry, parent, last)
        elif entry.kind == tar.SYMLINK:
            os.symlink(entry.link, last, dir_fd=parent)
            self._own(entry, parent, last)
            os.utime(
                last, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False
            )
        else:
            self._make_node(entry, parent, last)

    def _make_directory(self, entry: tar.Entry, parent: int, name: bytes, parts: Parts) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.lstat(name, dir_fd=parent)
            if not stat.S_ISDIR(found.st_mode):
                self._clear(entry, parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            self._attributes(fd, entry)
        finally:
            os.close(fd)
        self._times[parts] = entry

    def _link(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        target = split(entry.link if self._rename is None else self._rename(entry.link))
        if not target:
            raise InvalidArgument(f"archive has a hard link to no file: {entry.name!r}")
        source = self._open(target[:-1])
        try:
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _make_node(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        kinds = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK}
        kind = kinds.get(entry.kind, stat.S_IFIFO)
        device = os.makedev(entry.major, entry.minor) if kind != stat.S_IFIFO else 0
        os.mknod(name, kind | 0o600, device, dir_fd=parent)
        self._own(entry, parent, name)
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{fd}", entry.mode)
        finally:
            os.close(fd)

    def _own(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        if self._chown:
            uid, gid = self._owner or (entry.uid, entry.gid)
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    def _attributes(self, fd: int, entry: tar.Entry) -> None:
        """Owner, mode, attributes: in this order, for each clears what comes later."""
        found = os.fstat(fd)  # costs less than a change that changes nothing
        if self._chown:
            owner = self._owner or (entry.uid, entry.gid)
            if (found.st_uid, found.st_gid) != owner:
                os.fchown(fd, *owner)
                found = os.fstat(fd)
        if found.st_mode & 0o7777 != entry.mode:
            os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            if key.startswith(self._kept):
                try:
                    os.setxattr(fd, key, value)
                except OSError as error:
                    if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                        raise

    def _finish_file(self) -> None:
        if self._file < 0:
            return
        fd, entry = self._file, self._entry
        assert entry is not None
        self._file = -1
        try:
            if entry.pieces is not None:
                os.ftruncate(fd, entry.size)
            self._attributes(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _clear(self, entry: tar.Entry, parent: int, name: bytes) -> None:
        """Make room for an entry that is no directory, or whose place is taken by none."""
        try:
            found = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return
        is_directory, wanted = stat.S_ISDIR(found.st_mode), entry.kind == tar.DIRECTORY
        if self._keep_kinds and is_directory != wanted:
            shown = entry.name.decode("utf-8", "replace")
            what = (
                ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            )
            raise InvalidArgument(f'cannot overwrite {what[0]} "{shown}" with {what[1]} "{shown}"')
        self._forget(parent)
        remove(parent, name)

    def _parent(self, parts: Parts) -> int:
        """The directory of an entry; those that the archive leaves out are made."""
        try:
            return self._directory(parts)
        except FileNotFoundError:
            above = self._parent(parts[:-1])
            try:
                os.mkdir(parts[-1], 0o755, dir_fd=above)
            except FileExistsError:
                raise InvalidArgument(
                    f"archive has an entry below a link to nothing: {b'/'.join(parts)[:200]!r}"
                ) from None
            return self._directory(parts)

    def _directory(self, parts: Parts) -> int:
        known = self._cache.get(parts)
        if known is None:
            known = self._open(parts)
            if len(self._cache) >= MAX_OPEN_PARENTS:
                self._forget()
            self._cache[parts] = known
        return known

    def _forget(self, keep: int = -1) -> None:
        """What paths lead to may have changed, or too many are open; `keep` is in use."""
        for parts, fd in list(self._cache.items()):
            if fd != keep:
                del self._cache[parts]
                os.close(fd)


def split(name: bytes) -> Parts:
    """The components of a name; `..` cannot lead above the top. Raises InvalidArgument."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise InvalidArgument(f"archive has an entry that leads out of it: {name[:200]!r}")
            parts.pop()
        elif len(part) > NAME_BYTES:
            raise InvalidArgument(f"archive has a file name of {len(part)} bytes")
        else:
            parts.append(part)
    if len(parts) > MAX_DEPTH:
        raise ResourceExhausted(f"archive has an entry more than {MAX_DEPTH} directories deep")
    return tuple(parts)


def remove(directory: int, name: bytes) -> None:
    """Remove an entry with all below it; never through a link, never into another mount."""
    try:
        os.unlink(name, dir_fd=directory)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        if os.fstat(fd).st_dev != os.fstat(directory).st_dev:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), os.fsdecode(name))
        for inner in os.listdir(fd):
            remove(fd, os.fsencode(inner))
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)


def _named(error: OSError, entry: tar.Entry) -> OSError:
    name = entry.name.decode("utf-8", "replace")
    return OSError(error.errno, error.strerror or str(error), name)
