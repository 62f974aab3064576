"""Packing a tree of files into a tar archive, by descriptors: no link in it leads elsewhere.

    for piece in pack(directory, b"name", b"name-in-the-archive"):
        send(piece)                                   # bytes; a large file as an open descriptor

Owners, modes, times, links of both kinds, devices and file capabilities are kept; sockets are left
out. A file that shrinks while it is read is filled with zeros, one that grows is cut: the archive
stays whole.
"""

from __future__ import annotations

import os
import stat

from barque.errors import ResourceExhausted
from barque.oci import tar
from barque.oci.tar_writer import END_OF_ARCHIVE, header_of, padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 512
SMALL_BYTES = 128 << 10  # read at once; larger files are given as descriptors
FLUSH_BYTES = 512 << 10
CHUNK_BYTES = 1 << 20
CAPABILITY = "security.capability"
KEPT_XATTRS = ("user.", CAPABILITY, "system.posix_acl_")
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
OTHER_KINDS = {
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}


class Content:
    """The next `size` bytes of the archive are those of the open file `fd`, from its start.

    Whoever takes it reads it before the next piece; the descriptor is closed then.
    """

    __slots__ = ("fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        """Exactly `size` bytes."""
        left = self.size
        while left:
            data = os.read(self.fd, min(CHUNK_BYTES, left))
            if not data:
                data = bytes(min(CHUNK_BYTES, left))
            left -= len(data)
            yield data


def pack(directory: int, name: bytes, renamed: bytes) -> Iterator[bytes | Content]:
    """The archive of what is `name` in `directory`, called `renamed` inside, to its last block.

    Raises OSError as the kernel says when `name` is not there; what goes while its directory is
    packed is left out.
    """
    walk = _Walk()
    facts = os.lstat(name, dir_fd=directory)
    yield from walk.entry(directory, name, renamed.rstrip(b"/") or b"/", facts)
    if stat.S_ISDIR(facts.st_mode):
        yield from walk.below(os.open(name, OPEN_DIRECTORY, dir_fd=directory), renamed.rstrip(b"/"))
    yield walk.taken() + END_OF_ARCHIVE


def pack_inside(
    directory: int, renamed: bytes, *, attributes: bool = False
) -> Iterator[bytes | Content]:
    """As `pack`, for the open directory itself, which is `renamed` inside; it is not closed.

    `/` gives `/`, `/a`...; `.` gives `./`, `./a`... `attributes`: with the users' extended
    attributes and access lists, not only capabilities.
    """
    walk = _Walk(attributes)
    base = renamed.rstrip(b"/")
    yield from walk.entry(directory, b".", base or b"/", os.fstat(directory))
    yield from walk.below(os.open(b".", OPEN_DIRECTORY, dir_fd=directory), base)
    yield walk.taken() + END_OF_ARCHIVE


def pack_bare(directory: int) -> Iterator[bytes | Content]:
    """As `pack_inside`, without an entry for the directory itself: `a`, `a/b`..."""
    walk = _Walk()
    yield from walk.below(os.open(b".", OPEN_DIRECTORY, dir_fd=directory), None)
    yield walk.taken() + END_OF_ARCHIVE


class _Walk:
    """Gathers headers and small files, so that few pieces are given out."""

    def __init__(self, attributes: bool = False) -> None:
        self._attributes = _all_attributes if attributes else _capability
        self._buffer = bytearray()
        self._linked: dict[tuple[int, int], bytes] = {}

    def taken(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def below(self, directory: int, path: bytes | None) -> Iterator[bytes | Content]:
        """All that is in `directory`, which is closed, however this ends. None: names are bare."""
        stack = [(directory, _names(directory), path)]
        try:
            while stack:
                fd, names, base = stack[-1]
                if not names:
                    os.close(fd)
                    stack.pop()
                    continue
                name = names.pop()
                inside = name if base is None else b"%b/%b" % (base, name)
                try:
                    facts = os.lstat(name, dir_fd=fd)
                    if stat.S_ISDIR(facts.st_mode):
                        if len(stack) > MAX_DEPTH:
                            raise ResourceExhausted(f"deeper than {MAX_DEPTH} directories")
                        opened = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
                        stack.append((opened, _names(opened), inside))
                        facts = os.fstat(opened)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                yield from self.entry(fd, name, inside, facts)
                if len(self._buffer) >= FLUSH_BYTES:
                    yield self.taken()
        finally:
            for fd, _, _ in stack:
                os.close(fd)

    def entry(
        self, directory: int, name: bytes, inside: bytes, facts: os.stat_result
    ) -> Iterator[bytes | Content]:
        kind = stat.S_IFMT(facts.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if kind == stat.S_IFDIR:
            found = self._of_directory(directory, name)
            name = inside.rstrip(b"/") + b"/"
            self._buffer += header_of(name, tar.DIRECTORY, facts, xattrs=found)
            return
        if facts.st_nlink > 1:
            first = self._linked.setdefault((facts.st_dev, facts.st_ino), inside)
            if first != inside:
                self._buffer += header_of(inside, tar.LINK, facts, link=first)
                return
        if kind == stat.S_IFREG:
            yield from self._file(directory, name, inside)
        elif kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=directory)
            self._buffer += header_of(inside, tar.SYMLINK, facts, link=target)
        else:
            self._buffer += header_of(inside, OTHER_KINDS[kind], facts, device=facts.st_rdev)

    def _of_directory(self, directory: int, name: bytes) -> dict[bytes, bytes] | None:
        if self._attributes is _capability:  # directories have none
            return None
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
        except OSError:
            return None  # replaced since we looked
        try:
            return self._attributes(fd)
        finally:
            os.close(fd)

    def _file(self, directory: int, name: bytes, inside: bytes) -> Iterator[bytes | Content]:
        try:
            fd = os.open(name, OPEN_FILE, dir_fd=directory)
        except FileNotFoundError:
            return
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return  # replaced since we looked
            size = facts.st_size
            self._buffer += header_of(
                inside, tar.REGULAR, facts, size=size, xattrs=self._attributes(fd)
            )
            if size <= SMALL_BYTES:
                for chunk in Content(fd, size).chunks() if size else ():
                    self._buffer += chunk
            else:
                yield self.taken()
                yield Content(fd, size)
            self._buffer += padding(size)
        finally:
            os.close(fd)


def _names(directory: int) -> list[bytes]:
    """In reverse order, so that the next one is popped."""
    names = [os.fsencode(name) for name in os.listdir(directory)]
    names.sort(reverse=True)
    return names


def _capability(fd: int) -> dict[bytes, bytes] | None:
    try:
        return {CAPABILITY.encode(): os.getxattr(fd, CAPABILITY)}
    except OSError:
        return None


def _all_attributes(fd: int) -> dict[bytes, bytes] | None:
    found = {}
    for key in os.listxattr(fd):
        if key.startswith(KEPT_XATTRS):
            try:
                found[os.fsencode(key)] = os.getxattr(fd, key)
            except OSError:
                continue  # gone since
    return found or None
