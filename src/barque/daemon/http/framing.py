"""A connection whose output changes its form on the way: Docker's frames put on, or taken off."""

from __future__ import annotations

from barque.api.frames import STDOUT, FrameReader, frame
from barque.daemon.http.messages import Duplex


class _Around:
    """A `Duplex` around another: all but `write` is that one's."""

    def __init__(self, inner: Duplex) -> None:
        self._inner = inner

    async def read(self) -> bytes:
        return await self._inner.read()

    async def write_eof(self) -> None:
        await self._inner.write_eof()

    def close(self) -> None:
        self._inner.close()


class Framed(_Around):
    """Bytes as they are, of a terminal, are written to it: sent as frames of stdout."""

    async def write(self, data: bytes) -> None:
        await self._inner.write(frame(STDOUT, data))


class Plain(_Around):
    """Docker's frames are written to it: what is in them is sent, of all streams together."""

    def __init__(self, inner: Duplex) -> None:
        super().__init__(inner)
        self._frames = FrameReader()

    async def write(self, data: bytes) -> None:
        payload = b"".join(bytes(piece) for _, piece in self._frames.feed(data))
        if payload:
            await self._inner.write(payload)
