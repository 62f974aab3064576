"""Reading logs of Docker's `local` format: records, from the end or from the beginning.

Source: moby's local driver as its files are: a size in four bytes, a LogEntry, the size again, both
big-endian. LogEntry is a protobuf message: source = 1, time_nano = 2, line = 3 (without newline),
partial = 4, partial_log_metadata = 5 (last = 1, ...). The shim writes it (barque.shim.locallog).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from barque.daemon.containers.log_file import READ_BYTES, Line
from barque.daemon.moments import rfc3339

SIZE_BYTES = 4
RECORD_BYTES_MAX = 1 << 20
SOURCES = {b"\x0a\x06stdout\x10": "stdout", b"\x0a\x06stderr\x10": "stderr"}
SOURCE_BYTES = 9
VARINT, BYTES, FIXED64, FIXED32 = 0, 2, 1, 5
LINE_TAG = 0x1A


class Damaged(ValueError):
    """What is there is no record."""


class LocalFormat:
    """See `log_file.LogFormat`."""

    text_errors = "surrogateescape"

    def reader(self, file: BinaryIO) -> RecordReader:
        return RecordReader(file)

    def seek_back(self, file: BinaryIO, wanted: int) -> int:
        """Place `file` before its last `wanted` records; how many there were, at most `wanted`."""
        position = os.fstat(file.fileno()).st_size
        found = 0
        while found < wanted and position > 0:
            size = _size_at(file, position - SIZE_BYTES)
            start = position - size - 2 * SIZE_BYTES
            if start < 0 or _size_at(file, start) != size:
                break  # damaged, or half written: from here on it can be read
            position, found = start, found + 1
        file.seek(position)
        return found

    def decode(self, records: bytes) -> list[Line]:
        """Whole records, up to the first that is damaged."""
        lines: list[Line] = []
        times: dict[bytes, str] = {}
        at = 0
        try:
            while at < len(records):
                start = at + SIZE_BYTES
                end = start + int.from_bytes(records[at:start], "big")
                lines.append(_entry(records, start, end, times))
                at = end + SIZE_BYTES
        except (Damaged, IndexError):
            pass
        return lines


def _size_at(file: BinaryIO, position: int) -> int:
    return int.from_bytes(os.pread(file.fileno(), SIZE_BYTES, max(0, position)), "big")


def _entry(data: bytes, start: int, end: int, times: dict[bytes, str]) -> Line:
    """One LogEntry; the order of fields that writers use is read at once."""
    at = start + SOURCE_BYTES
    stream = SOURCES.get(data[start:at])
    if stream is not None:
        time_end = at
        while data[time_end] & 0x80:
            time_end += 1
        time_end += 1
        raw = data[at:time_end]
        time = times.get(raw)
        if time is None:
            times[raw] = time = rfc3339(_varint(raw, 0)[0])
        if time_end == end:
            return Line("\n", stream, time)
        if data[time_end] == LINE_TAG:
            size, text = _varint(data, time_end + 1)
            if text + size == end:
                return Line(data[text:end].decode("utf-8", "surrogateescape") + "\n", stream, time)
    return _entry_of_fields(data[start:end])


def _entry_of_fields(entry: bytes) -> Line:
    fields = dict(_fields(entry))
    source, time = fields.get(1, b"stdout"), fields.get(2, 0)
    text, about = fields.get(3, b""), fields.get(5, b"")
    if not (isinstance(source, bytes) and isinstance(time, int)):
        raise Damaged
    if not (isinstance(text, bytes) and isinstance(about, bytes)):
        raise Damaged
    unfinished = fields.get(4) and not dict(_fields(about)).get(1)
    return Line(
        text.decode("utf-8", "surrogateescape") + ("" if unfinished else "\n"),
        source.decode("utf-8", "replace"),
        rfc3339(time),
    )


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise Damaged
        if at + size > len(message):
            raise Damaged
        yield number, message[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises Damaged for one over 64 bits."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Damaged


class RecordReader:
    """Whole records out of a growing file; the beginning of one is kept until its end is there."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._rest = b""
        self._damaged = False

    def read(self) -> bytes:
        """The records that are complete in the next block; b"" at the end for now."""
        while not self._damaged:
            block = self.file.read(READ_BYTES)
            if not block:
                return b""
            data = self._rest + block
            whole = self._whole(data)
            self._rest = data[whole:]
            if whole:
                return data[:whole]
        return b""

    def _whole(self, data: bytes) -> int:
        at = 0
        while at + SIZE_BYTES <= len(data):
            size = int.from_bytes(data[at : at + SIZE_BYTES], "big")
            if size > RECORD_BYTES_MAX:
                self._damaged = True
                break
            end = at + size + 2 * SIZE_BYTES
            if end > len(data):
                break
            at = end
        return at

    def remaining(self) -> Iterator[bytes]:
        while records := self.read():
            yield records
