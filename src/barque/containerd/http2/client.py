"""The client's end of a connection: each call opens a stream."""

from __future__ import annotations

import asyncio

from barque.containerd.http2 import frames
from barque.containerd.http2.connection import Connection
from barque.containerd.http2.frames import ConnectionFault
from barque.containerd.http2.headers import METHOD_POST, SCHEME_HTTP, Headers, literal, literals
from barque.containerd.http2.status import CONTENT_TYPE
from barque.containerd.http2.stream import Stream, StreamEnded

EVERY_CALL = (
    METHOD_POST
    + SCHEME_HTTP
    + literal(":authority", "localhost")
    + literal("content-type", CONTENT_TYPE)
    + literal("te", "trailers")
    + literal("user-agent", "barque")
)
LAST_NUMBER = (1 << 31) - 1


class ClientConnection(Connection):
    def __init__(self) -> None:
        super().__init__()
        self._next = 1
        self._paths: dict[str, bytes] = {}  # header blocks by path
        self._greeting = asyncio.Event()

    async def greeted(self) -> bool:
        """Wait for the server's settings. False: it is gone without them, as one is that has died
        and whose socket was still listening."""
        await self._greeting.wait()
        return self.usable

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._greeting.set()

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        super()._take_settings(flags, stream, payload)
        self._greeting.set()

    @property
    def usable(self) -> bool:
        """Whether another call may be made on it."""
        return not self.closed and self._next <= LAST_NUMBER

    def call(self, path: str, metadata: tuple[tuple[str, str], ...]) -> Stream:
        """Open a stream and send its headers. Raises StreamEnded on a dead connection."""
        if not self.usable:
            raise StreamEnded("the connection is closed")
        stream = Stream(self, self._next, self._peer_window)
        self.streams[self._next] = stream
        self._next += 2
        block = self._paths.get(path)
        if block is None:
            # Headers with a colon come first (RFC 9113, section 8.3).
            block = self._paths[path] = literal(":path", path) + EVERY_CALL
        self.write(self.headers_frame(stream, block + literals(metadata)))
        return stream

    def _preface(self) -> bytes:
        return frames.PREFACE

    def _own_settings(self) -> dict[int, int]:
        return {frames.ENABLE_PUSH: 0}

    def _is_idle(self, number: int) -> bool:
        return number >= self._next

    def _take_new(self, number: int, headers: Headers) -> Stream | None:
        if self._is_idle(number) or number % 2 == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "an answer to nothing")
        return None
