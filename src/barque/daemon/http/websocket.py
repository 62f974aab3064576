"""WebSocket on a connection that was taken over: what browsers attach with.

Source: RFC 6455. Messages are bytes both ways and their borders mean nothing, as with Docker; a
frame of a client must be masked, control frames are short, and no frame is larger than a bound.
"""

from __future__ import annotations

import base64
import hashlib

from barque import errors
from barque.daemon.http.messages import Duplex, Request

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL, MASKED = 0x80, 0x80
CONTROL_BYTES_MAX = 125
FRAME_BYTES_MAX = 1 << 20
NORMAL_CLOSURE = (1000).to_bytes(2, "big")


def accepting_head(request: Request) -> bytes:
    """The answer to a handshake, up to the fixed headers. Raises InvalidArgument."""
    key = request.headers.get("sec-websocket-key", "")
    wanted = request.headers.get("upgrade", "").lower() == "websocket"
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        valid = False
    if not wanted or not valid or request.headers.get("sec-websocket-version") != "13":
        raise errors.InvalidArgument("not a WebSocket handshake of version 13")
    accept = base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n"
    )


def frame(kind: int, payload: bytes) -> bytes:
    """One whole frame of a server."""
    size = len(payload)
    if size < 126:
        return bytes((FINAL | kind, size)) + payload
    if size < 1 << 16:
        return bytes((FINAL | kind, 126)) + size.to_bytes(2, "big") + payload
    return bytes((FINAL | kind, 127)) + size.to_bytes(8, "big") + payload


def unmasked(payload: bytes, mask: bytes) -> bytes:
    if not payload:
        return b""
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    result = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
    return result.to_bytes(len(payload), "big")


class WebSocket:
    """A `Duplex` in a browser's messages."""

    def __init__(self, inner: Duplex) -> None:
        self._inner = inner
        self._buffer = bytearray()
        self._ended = False

    async def read(self) -> bytes:
        while not self._ended:
            found = self._next_frame()
            if found is None:
                data = await self._inner.read()
                self._ended = not data
                self._buffer += data
                continue
            kind, payload = found
            if kind in (TEXT, BINARY, CONTINUATION):
                if payload:
                    return payload
            elif kind == PING:
                await self._inner.write(frame(PONG, payload))
            elif kind == CLOSE:
                self._ended = True
        return b""

    def _next_frame(self) -> tuple[int, bytes] | None:
        """Raises ConnectionResetError for what is no frame of a client."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        kind, size, at = buffer[0] & 0x0F, buffer[1] & 0x7F, 2
        if not buffer[1] & MASKED or buffer[0] & 0x70:
            raise ConnectionResetError("a malformed WebSocket frame")
        if size >= 126:
            length = 2 if size == 126 else 8
            if len(buffer) < at + length:
                return None
            size, at = int.from_bytes(buffer[at : at + length], "big"), at + length
        if size > (CONTROL_BYTES_MAX if kind >= CLOSE else FRAME_BYTES_MAX):
            raise ConnectionResetError("a WebSocket frame that is too large")
        if len(buffer) < at + 4 + size:
            return None
        mask, payload = bytes(buffer[at : at + 4]), bytes(buffer[at + 4 : at + 4 + size])
        del buffer[: at + 4 + size]
        return kind, unmasked(payload, mask)

    async def write(self, data: bytes) -> None:
        await self._inner.write(frame(BINARY, data))

    async def write_eof(self) -> None:
        await self._inner.write(frame(CLOSE, NORMAL_CLOSURE))

    def close(self) -> None:
        self._inner.close()


async def accept(request: Request) -> WebSocket:
    """Answer the handshake and take the connection over. Raises InvalidArgument before that."""
    head = accepting_head(request)
    return WebSocket(await request.hijack("", head))
