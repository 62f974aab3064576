"""Docker's `local` log records from a process's output. No I/O.

Source: moby's local driver as its files are: for each line its size in four bytes, a LogEntry, its
size again, both big-endian. LogEntry is a protobuf message: source = 1 (text), time_nano = 2,
line = 3 (bytes, without the newline), partial = 4 (bool), partial_log_metadata = 5 (last = 1, id =
2, ordinal = 3). A line over 16 KiB is cut into parts, the last one marked so; text at the end
without a newline is a part that is not the last.
"""

from __future__ import annotations

import os

from barque.oci.varint import varint
from barque.shim.jsonlines import LINE_BYTES_MAX, STREAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SIZE_BYTES: Final = 4
ID_BYTES: Final = 32


class Frames(dict[int, tuple[bytes, bytes]]):
    """What stands before and after a whole line of a length; `fields` are the same for all."""

    __slots__ = ("_fields",)

    def __init__(self, fields: bytes) -> None:
        self._fields = fields

    def __missing__(self, length: int) -> tuple[bytes, bytes]:
        fields = self._fields + b"\x1a" + varint(length) if length else self._fields
        size = (len(fields) + length).to_bytes(SIZE_BYTES, "big")
        self[length] = frame = (size + fields, size)
        return frame


class Records:
    """One stream of a process; holds at most one unfinished line."""

    __slots__ = ("_ordinal", "_partial_id", "_rest", "_source")

    def __init__(self, stream: int) -> None:
        source = STREAMS[stream].encode()
        self._source = b"\x0a" + varint(len(source)) + source + b"\x10"
        self._rest = b""
        self._ordinal = 0  # of the last part of the line under way
        self._partial_id = b""

    def save(self) -> bytes | None:
        """The unfinished line; None when a part of it is written."""
        return None if self._ordinal else self._rest

    def restore(self, rest: bytes) -> None:
        self._rest = rest

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """Whole records for what `data` completes, all with the one time."""
        if b"\n" not in data and len(self._rest) + len(data) < LINE_BYTES_MAX:
            self._rest += data
            return b""
        fields = self._source + varint(now_ns)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        out = self._whole(lines, fields)
        while len(self._rest) >= LINE_BYTES_MAX:
            out += self._part(self._rest[:LINE_BYTES_MAX], fields, last=False)
            self._rest = self._rest[LINE_BYTES_MAX:]
        return out

    def _whole(self, lines: list[bytes], fields: bytes) -> bytes:
        pieces: list[bytes] = []
        if lines and (self._ordinal or max(map(len, lines)) >= LINE_BYTES_MAX):
            for line in lines:
                pieces.append(self._cut(line, fields))
            return b"".join(pieces)
        frames = Frames(fields)
        for line in lines:
            before, after = frames[len(line)]
            pieces += (before, line, after)
        return b"".join(pieces)

    def _cut(self, line: bytes, fields: bytes) -> bytes:
        out = b""
        while len(line) >= LINE_BYTES_MAX:
            out += self._part(line[:LINE_BYTES_MAX], fields, last=False)
            line = line[LINE_BYTES_MAX:]
        if self._ordinal:
            return out + self._part(line, fields, last=True)
        before, after = Frames(fields)[len(line)]
        return out + before + line + after

    def _part(self, data: bytes, fields: bytes, *, last: bool) -> bytes:
        if not self._ordinal:
            self._partial_id = os.urandom(ID_BYTES).hex().encode()
        self._ordinal += 1
        about = b"\x08\x01" if last else b""
        about += b"\x12" + varint(len(self._partial_id)) + self._partial_id
        about += b"\x18" + varint(self._ordinal)
        if last:
            self._ordinal = 0
        line = b"\x1a" + varint(len(data)) + data if data else b""
        entry = fields + line + b"\x20\x01\x2a" + varint(len(about)) + about
        size = len(entry).to_bytes(SIZE_BYTES, "big")
        return size + entry + size

    def end(self, now_ns: int) -> bytes:
        """What is left at the end of the stream."""
        rest, self._rest = self._rest, b""
        if not rest:
            return b""
        out = self._part(rest, self._source + varint(now_ns), last=False)
        self._ordinal = 0
        return out
