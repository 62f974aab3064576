"""Reading logs: records of one run of files, from the end or from the beginning.

    path, path.1, path.2.gz, ...     newest first; a rotation renames each to the next number

json-file: a JSON object a line, {"log": text, "stream": name, "time": RFC 3339, "attrs": {...}}. A
file that is renamed while it is read goes on being read: it is an open file, not a name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

import msgspec
from isal import isal_zlib
from msgspec import Struct

MAX_ROTATED = 1000
BLOCK_BYTES = 64 << 10
READ_BYTES = 256 << 10
MAX_LINE_BYTES = 1 << 20
GZIP = 31  # zlib's word for its largest window and a gzip header


class Line(Struct):
    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] = {}


class Reader(Protocol):
    """Whole records out of a growing file."""

    file: BinaryIO

    def remaining(self) -> Iterator[bytes]:
        """What is complete now, in blocks."""


class LogFormat(Protocol):
    """How records lie in a file."""

    text_errors: str
    """How `Line.log` becomes bytes again, for `str.encode`."""

    def reader(self, file: BinaryIO) -> Reader: ...
    def seek_back(self, file: BinaryIO, wanted: int) -> int:
        """Place `file` before its last `wanted` records; how many there were, at most `wanted`."""

    def decode(self, records: bytes) -> list[Line]:
        """Whole records. A damaged one is left out: a log is read as far as it can be."""


class JsonFormat:
    text_errors = "surrogatepass"

    def reader(self, file: BinaryIO) -> LineReader:
        return LineReader(file)

    def seek_back(self, file: BinaryIO, wanted: int) -> int:
        return _seek_back(file, wanted)

    def decode(self, records: bytes) -> list[Line]:
        return decode(records)


class Packed:
    """A file packed by gzip, unpacked beside it, without a name, when it is first asked for."""

    def __init__(self, path: str) -> None:
        """Raises FileNotFoundError."""
        self._packed = open(path, "rb")  # noqa: SIM115
        self._directory = os.path.dirname(path)
        self._plain: BinaryIO | None = None

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


def open_plain(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0)


def open_one(path: str) -> BinaryIO:
    """The file `path`, or what it was packed into. Raises FileNotFoundError."""
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        return cast(BinaryIO, Packed(f"{path}.gz"))


_decoder = msgspec.json.Decoder(Line)


def decode(lines: bytes) -> list[Line]:
    """Whole lines. A damaged one is left out: a log is read as far as it can be."""
    try:
        return _decoder.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [line for raw in lines.split(b"\n") if (line := _decode_one(raw)) is not None]


def _decode_one(raw: bytes) -> Line | None:
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def open_files(path: str) -> list[BinaryIO]:
    """All files of the log, oldest first. The caller closes them."""
    found: list[BinaryIO] = []
    seen: set[int] = set()
    for number in range(MAX_ROTATED):
        try:
            file = open_one(f"{path}.{number}") if number else open_plain(path)
        except FileNotFoundError:
            if number:
                break
            continue
        inode = 0 if isinstance(file, Packed) else os.fstat(file.fileno()).st_ino
        if inode and inode in seen:  # rotated while we opened: the same file under its next name
            file.close()
            continue
        seen.add(inode)
        found.append(file)
    return found[::-1]


def seek_tail(files: list[BinaryIO], lines: int, form: LogFormat | None = None) -> int:
    """Place every file so that reading on gives the last `lines` lines of the whole log.

    Returns the index of the first file to read. Reads backwards, only as much as is needed.
    """
    missing, form = lines, form or JsonFormat()
    for index in range(len(files) - 1, -1, -1):
        missing -= form.seek_back(files[index], missing)
        if missing <= 0:
            return index
    return 0


def _seek_back(file: BinaryIO, wanted: int) -> int:
    """Place `file` before its last `wanted` lines; how many there were, at most `wanted`."""
    end = os.fstat(file.fileno()).st_size
    if wanted <= 0:
        file.seek(end)
        return 0
    position, counted, first = end, 0, True
    while position > 0:
        size = min(BLOCK_BYTES, position)
        position -= size
        block = os.pread(file.fileno(), size, position)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if first and position + at == end - 1:
                first = False  # the newline that ends the last line starts no other
                continue
            first = False
            counted += 1
            if counted == wanted:
                file.seek(position + at + 1)
                return wanted
        first = False
    file.seek(0)
    return counted + (1 if end else 0)


class LineReader:
    """Whole lines out of a growing file; the beginning of one is kept until its end is there."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._rest = b""

    def read(self) -> bytes:
        """The lines that are complete in the next block, as they are; b"" at the end for now."""
        while True:
            block = self.file.read(READ_BYTES)
            if not block:
                return b""
            lines, newline, rest = (self._rest + block).rpartition(b"\n")
            self._rest = rest if len(rest) <= MAX_LINE_BYTES else b""
            if newline:
                return lines + newline

    def remaining(self) -> Iterator[bytes]:
        while lines := self.read():
            yield lines
