"""Where the records of a log end: what a file that is rotated, or full, must be cut at."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SIZE_BYTES: Final = 4


class Newlines:
    """A record ends with a newline."""

    def until(self, data: bytes, room: int) -> int:
        """The end of the first record in `data` that ends at `room` or after it."""
        return data.find(b"\n", max(0, room - 1)) + 1 or len(data)

    def within(self, data: bytes, room: int) -> int:
        """The end of the last record in `data` that ends at `room` or before it."""
        return data.rfind(b"\n", 0, room) + 1

    def count(self, data: bytes, start: int) -> int:
        """The records that end after `start`, which is the end of one."""
        return data.count(b"\n", start)


class Sizes:
    """A record has its size before and after it, in four bytes each, big-endian."""

    def _next(self, data: bytes, at: int) -> int:
        return at + 2 * SIZE_BYTES + int.from_bytes(data[at : at + SIZE_BYTES], "big")

    def until(self, data: bytes, room: int) -> int:
        at = 0
        while at < len(data) and (not at or at < room):
            at = self._next(data, at)
        return at

    def within(self, data: bytes, room: int) -> int:
        at = 0
        while at < len(data) and (end := self._next(data, at)) <= room:
            at = end
        return at

    def count(self, data: bytes, start: int) -> int:
        number = 0
        while start < len(data):
            start = self._next(data, start)
            number += 1
        return number
