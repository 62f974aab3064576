"""The run of a log's files: which there are, which is which, and which follows which.

    path, path.1, path.2.gz, ...     newest first; a rotation renames each to the next number

Rotations go on while the files are looked at, oldest first, one number at a time; the newest
rotated file may be packed meanwhile. So a name says nothing for long: a file is known by its inode
number, and after it was packed by that number in the gzip header (`barque.shim.compress`). Who
looks from the newest to the oldest may see one twice but misses none. The number of a file that is
gone soon belongs to another: of several that claim it the newest is meant.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

from isal import isal_zlib

MAX_ROTATED = 1000
MISSING_MAX = 2
"""Numbers in a row without a file before the end of the run: a rotation leaves one of them out."""
READ_BYTES = 256 << 10
GZIP = 31  # zlib's word for its largest window and a gzip header
GZIP_EXTRA = b"\x1f\x8b\x08\x04"  # gzip, deflate, with an extra field
HEADER_BYTES = 24
ATTEMPTS = 100  # to open all files between two rotations
FIELD = b"BQ\x08\x00"
FIELD_AT = 12


class Identity(NamedTuple):
    inode: int
    source: int = 0
    """Of a packed file: the inode number of what it was made from, -1 for not known."""

    def is_now(self, other: Identity) -> bool:
        """Whether this file, which is held open, lies on the disk as `other`."""
        return other.inode == self.inode or (not self.source and other.source == self.inode)


class Entry(NamedTuple):
    identity: Identity
    name: str
    """Where it was a moment ago, less the ending of a packed one."""


class Packed:
    """A file packed by gzip, unpacked beside it, without a name, when it is first asked for."""

    def __init__(self, path: str) -> None:
        """Raises FileNotFoundError."""
        self._packed = open(path, "rb")  # noqa: SIM115
        self._directory = os.path.dirname(path)
        self._plain: BinaryIO | None = None
        self.identity = _packed_identity(self._packed.fileno())

    def _unpacked(self) -> BinaryIO:
        if self._plain is None:
            beside = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
            self._plain = cast(BinaryIO, beside)
            unpacker = isal_zlib.decompressobj(GZIP)
            try:
                while block := self._packed.read(READ_BYTES):
                    self._plain.write(unpacker.decompress(block))
            except isal_zlib.error:  # type: ignore[misc]  # it is a class of exceptions
                pass  # damaged: read as far as it can be
            self._plain.seek(0)
        return self._plain

    def fileno(self) -> int:
        return self._unpacked().fileno()

    def read(self, size: int = -1) -> bytes:
        return self._unpacked().read(size)

    def seek(self, position: int) -> int:
        return self._unpacked().seek(position)

    def close(self) -> None:
        self._packed.close()
        if self._plain is not None:
            self._plain.close()


def _packed_identity(fd: int) -> Identity:
    header, source = os.pread(fd, HEADER_BYTES, 0), -1
    if header.startswith(GZIP_EXTRA) and header[FIELD_AT:].startswith(FIELD):
        source = int.from_bytes(header[FIELD_AT + len(FIELD) :], "little")
    return Identity(os.fstat(fd).st_ino, source)


def identity(file: BinaryIO) -> Identity:
    """What an open file of the run is known by."""
    return file.identity if isinstance(file, Packed) else Identity(os.fstat(file.fileno()).st_ino)


def open_one(path: str) -> BinaryIO:
    """The file `path`, or what it was packed into. Raises FileNotFoundError."""
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        return cast(BinaryIO, Packed(f"{path}.gz"))


def _names(path: str) -> Iterator[str]:
    yield path
    for number in range(1, MAX_ROTATED):
        yield f"{path}.{number}"


def entries(path: str) -> Iterator[Entry]:
    """What there is, newest first."""
    missing = 0
    for name in _names(path):
        try:
            entry = _entry(name)
        except FileNotFoundError:
            missing += 1
            if missing > MISSING_MAX:
                return
        else:
            missing = 0
            yield entry


def _entry(name: str) -> Entry:
    try:
        return Entry(Identity(os.stat(name).st_ino), name)
    except FileNotFoundError:
        fd = os.open(f"{name}.gz", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Entry(_packed_identity(fd), name)
        finally:
            os.close(fd)


def open_files(path: str) -> list[BinaryIO]:
    """All files of the log, oldest first. The caller closes them."""
    for attempt in range(ATTEMPTS):
        files = _open_all(path)
        # what is open keeps its number for itself: the same numbers are the same files
        if [identity(file) for file in files] == [entry.identity for entry in entries(path)]:
            break
        if attempt < ATTEMPTS - 1:
            for file in files:
                file.close()
    return files[::-1]


def _open_all(path: str) -> list[BinaryIO]:
    files: list[BinaryIO] = []
    for entry in entries(path):
        try:
            files.append(open_one(entry.name))
        except FileNotFoundError:
            continue  # rotated meanwhile
    return files


def open_next(path: str, ours: BinaryIO | None) -> BinaryIO | None:
    """The file that follows `ours`; the oldest, when that is there no more."""
    known = None if ours is None else identity(ours)
    while (entry := _following(path, known)) is not None:
        try:
            file = open_one(entry.name)
        except FileNotFoundError:
            continue  # rotated meanwhile
        again = _following(path, known)
        if again is not None and again.identity == identity(file):
            return file
        file.close()
    return None


def _following(path: str, ours: Identity | None) -> Entry | None:
    following = None
    for entry in entries(path):
        if ours is not None and ours.is_now(entry.identity):
            break
        if ours is not None and not ours.source and entry.identity.source < 0:
            break  # packed by another program: it may have been ours, or older
        following = entry
    return following
