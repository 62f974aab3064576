"""The body of a request, by its framing. RFC 9112, sections 6 and 7."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from barque import errors
from barque.daemon.http.stream import Stream

MAX_CHUNK_LINE_BYTES = 4096
SPLICED_BYTES = 64 << 10
MAX_TRAILER_LINES = 64
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Body:
    """Chunks as they come. `drain` afterwards leaves the connection at the next request."""

    def __init__(self, stream: Stream, headers: Mapping[str, str]) -> None:
        self._stream = stream
        self._left = _content_length(headers)
        coding = headers.get("transfer-encoding", "")
        if coding and coding.lower() != "chunked":
            raise errors.InvalidArgument(f"unsupported transfer encoding {coding[:64]!r}")
        if coding and "content-length" in headers:
            raise errors.InvalidArgument("both content-length and transfer-encoding")
        self.chunked = bool(coding)
        self._continue = headers.get("expect", "").lower() == "100-continue"
        self.finished = not self.chunked and self._left == 0
        self._broken = False  # where it goes on cannot be known

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        if self._continue and not self.finished:
            self._continue = False
            await self._stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self.finished:
            chunk = await self._next()
            if chunk:
                yield chunk

    async def pour(self, send: Callable[[bytes], Awaitable[None]], pipe: int) -> None:
        """The rest: what is here through `send`, what comes straight from the socket to `pipe`."""
        while not self.finished:
            if self._left >= SPLICED_BYTES and self._stream.can_splice:
                self._left -= await self._stream.splice(pipe, self._left - 1)
            elif chunk := await self._next():
                await send(chunk)

    async def _next(self) -> bytes:
        if self.chunked and self._left == 0:
            await self._chunk_head()
            if self.finished:
                return b""
        chunk = await self._stream.read(min(self._left, 256 << 10))
        if not chunk:
            raise ConnectionResetError("the client ended within a request body")
        self._left -= len(chunk)
        if self._left == 0:
            if self.chunked:
                await self._line_end()
            else:
                self.finished = True
        return chunk

    async def _chunk_head(self) -> None:
        line = await self._stream.read_line(MAX_CHUNK_LINE_BYTES)
        size = line.split(b";", 1)[0].strip()
        if not size or len(size) > 15 or not set(size) <= _HEX:
            self._broken = True
            raise errors.InvalidArgument("malformed chunked body")
        self._left = int(size, 16)
        if self._left == 0:
            for _ in range(MAX_TRAILER_LINES):
                if (await self._stream.read_line(MAX_CHUNK_LINE_BYTES)).strip() == b"":
                    self.finished = True
                    return
            raise errors.InvalidArgument("malformed chunked body: too many trailers")

    async def _line_end(self) -> None:
        if (await self._stream.read_line(2)) != b"\r\n":
            self._broken = True
            raise errors.InvalidArgument("malformed chunked body")

    async def drain(self, limit: int) -> bool:
        """Read what is left of the body and drop it; False when that is more than `limit` bytes."""
        if self._continue or self._broken:  # the client was never told to send it, or sent rubbish
            return self.finished
        while not self.finished:
            limit -= len(await self._next())
            if limit < 0:
                return False
        return True


def _content_length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise errors.InvalidArgument("malformed content-length")
    return int(text)
