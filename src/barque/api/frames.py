"""Docker's multiplexed stream: frames of stdin, stdout and stderr on one connection.

Source: Engine API reference, "Attach to a container", stream format.

    +--------+---+---+---+---------------+---------...
    | stream | 0 | 0 | 0 | length, u32 BE| payload
    +--------+---+---+---+---------------+---------...
"""

from __future__ import annotations

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN, STDOUT, STDERR, SYSTEM_ERROR = 0, 1, 2, 3
HEADER_BYTES = 8
_KINDS = {bytes((stream, 0, 0, 0)): stream for stream in (STDIN, STDOUT, STDERR, SYSTEM_ERROR)}


def frame(stream: int, payload: bytes) -> bytes:
    """One frame."""
    return bytes((stream, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


class FrameReader:
    """Takes the bytes of a multiplexed stream, gives (stream, piece of payload).

    Pieces are handed on as they come: a frame may be given in several pieces, and no more is kept
    than an unfinished header.
    """

    __slots__ = ("_header", "_left", "_stream")

    def __init__(self) -> None:
        self._header = b""
        self._stream = STDOUT
        self._left = 0  # bytes of the current frame still to come

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """The payload in `data`. Raises DataLoss for a header that is none."""
        view, at, size = memoryview(data), 0, len(data)
        while at < size:
            if not self._left:
                need = HEADER_BYTES - len(self._header)
                self._header += bytes(view[at : at + need])
                at += need
                if len(self._header) < HEADER_BYTES:
                    return
                self._start()
                continue
            end = min(size, at + self._left)
            self._left -= end - at
            yield self._stream, view[at:end]
            at = end

    def runs(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """As `feed`, with neighbours of one stream together: a log has a frame for each line."""
        if self._header:
            data, self._header = self._header + data, b""
        pieces: list[bytes] = []
        at, size, left = 0, len(data), self._left
        while at < size:
            if not left:
                if size - at < HEADER_BYTES:
                    self._header = data[at:]
                    break
                kind = data[at : at + 4]
                if kind not in _KINDS:
                    break
                left = int.from_bytes(data[at + 4 : at + HEADER_BYTES], "big")
                at += HEADER_BYTES
                if _KINDS[kind] != self._stream:
                    if payload := b"".join(pieces):
                        yield self._stream, payload
                    pieces = []
                    self._stream = _KINDS[kind]
            piece = data[at : at + left]
            pieces.append(piece)
            at += len(piece)
            left -= len(piece)
        self._left = left
        if payload := b"".join(pieces):
            yield self._stream, payload
        if at < size and not self._header:
            raise errors.DataLoss(f"unrecognized input header: {data[at]}")

    def _start(self) -> None:
        header, self._header = self._header, b""
        if header[0] > SYSTEM_ERROR or header[1:4] != b"\0\0\0":
            raise errors.DataLoss(f"unrecognized input header: {header[0]}")
        self._stream = header[0]
        self._left = int.from_bytes(header[4:], "big")

    @property
    def whole(self) -> bool:
        """Whether the stream may end here: not within a frame."""
        return not self._left and not self._header
