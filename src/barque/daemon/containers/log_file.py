"""Reading logs: records of one run of files (`log_run`), from the end or from the beginning.

json-file: a JSON object a line, {"log": text, "stream": name, "time": RFC 3339, "attrs": {...}}. A
file that is renamed while it is read goes on being read: it is an open file, not a name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import msgspec
from msgspec import Struct

BLOCK_BYTES = 64 << 10
READ_BYTES = 256 << 10
MAX_LINE_BYTES = 1 << 20


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
