"""One client's connection as bytes: bounded reading, writing with back-pressure, half-close.

Reading stops at the high-water mark until somebody takes the bytes, so a client cannot grow our
memory. An end of file from the client leaves our side open: it may still be reading what we answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from barque import errors
from barque.daemon.readiness import readable, writable
from barque.linux.sockets import outgoing

READ_HIGH_WATER_BYTES = 256 << 10
WRITE_HIGH_WATER_BYTES = 256 << 10
HELD_BACK_S = 10.0
FIRST_LOOK_S, LOOK_S = 0.001, 0.05


class HeadTooLarge(errors.InvalidArgument):
    """The request line and headers do not end within the limit."""


class Stream(asyncio.Protocol):
    """Bytes in both directions; one reader at a time."""

    def __init__(self, connected: Callable[[Stream], None]) -> None:
        self._connected = connected
        self._buffer = bytearray()
        self._eof = False
        self._lost = False
        self._paused = False
        self._holds = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self.on_gone: Callable[[], None] | None = None  # called once when the client ends or dies
        self.transport: asyncio.Transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._connected(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= READ_HIGH_WATER_BYTES and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        _wake(self._readable)

    def eof_received(self) -> bool:
        self._eof = True
        _wake(self._readable)
        self._gone()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = self._lost = True
        _wake(self._readable)
        _wake(self._writable)
        self._gone()

    def pause_writing(self) -> None:
        if self._writable is None or self._writable.done():
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        _wake(self._writable)

    def _gone(self) -> None:
        if self.on_gone is not None:
            call, self.on_gone = self.on_gone, None
            call()

    # reading

    @property
    def ended(self) -> bool:
        """The client will send nothing more."""
        return self._eof

    @property
    def lost(self) -> bool:
        return self._lost

    async def _more(self) -> bool:
        """Wait for bytes beyond those buffered; False at the end."""
        if self._eof:
            return False
        self._resume_reading()
        self._readable = asyncio.get_running_loop().create_future()
        await self._readable
        return not self._eof or bool(self._buffer)

    def _resume_reading(self) -> None:
        if self._paused and not self._lost:
            self._paused = False
            self.transport.resume_reading()

    async def read_head(self, limit: int) -> bytes:
        """The bytes up to and with the first empty line; b"" when the client ends before it."""
        searched = 0
        while True:
            while self._buffer[:2] == b"\r\n":  # RFC 9112, section 2.2: skip before a request
                del self._buffer[:2]
            end = self._buffer.find(b"\r\n\r\n", max(0, searched - 3))
            if 0 <= end <= limit:
                return self._take(end + 4)
            if len(self._buffer) > limit:
                raise HeadTooLarge(f"request head is larger than {limit} bytes")
            searched = len(self._buffer)
            if self._eof or (not await self._more() and len(self._buffer) == searched):
                self._buffer.clear()
                return b""

    async def read_line(self, limit: int) -> bytes:
        """One line with its end; raises InvalidArgument when there is none within `limit`."""
        while True:
            end = self._buffer.find(b"\n")
            if 0 <= end < limit:
                return self._take(end + 1)
            if len(self._buffer) >= limit or not await self._more():
                raise errors.InvalidArgument("malformed chunked body")

    async def read(self, limit: int = READ_HIGH_WATER_BYTES) -> bytes:
        """Some bytes, at most `limit`; b"" at the end."""
        while not self._buffer:
            if not await self._more():
                return b""
        return self._take(min(limit, len(self._buffer)))

    @property
    def can_splice(self) -> bool:
        """Nothing is buffered, and the socket's bytes are the client's."""
        plain = self.transport.get_extra_info("sslcontext") is None
        return plain and not (self._buffer or self._eof)

    async def splice(self, pipe: int, limit: int) -> int:
        """Move some bytes, at most `limit`, from the socket to `pipe`; how many.

        Only when `can_splice`. Raises ConnectionResetError at the end, BrokenPipeError.
        """
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()
        socket = self.transport.get_extra_info("socket")
        fd = os.dup(socket.fileno())  # the transport's own cannot be waited for
        try:
            while True:
                try:
                    moved = os.splice(fd, pipe, limit, flags=os.SPLICE_F_NONBLOCK)
                except BlockingIOError:
                    await writable(pipe)
                    await readable(fd)
                    continue
                if not moved:
                    raise ConnectionResetError("the client ended within a request body")
                return moved
        finally:
            os.close(fd)

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        if len(self._buffer) < READ_HIGH_WATER_BYTES:
            self._resume_reading()
        return taken

    # writing

    def hold_back(self) -> None:
        """Let nothing more be written before the client has read what was.

        It is a head after which the connection is no HTTP any more: Docker's SDK for Python loses
        what it reads together with that.
        """
        self._holds = True

    async def _is_read(self) -> None:
        """Return once it was, or when the client takes too long for one that will."""
        self._holds = False
        socket, clock = self.transport.get_extra_info("socket"), asyncio.get_running_loop().time
        deadline, pause_s = clock() + HELD_BACK_S, FIRST_LOOK_S
        while not self._lost and outgoing(socket.fileno()) and clock() < deadline:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_S)

    async def write(self, data: bytes) -> None:
        if self._holds:
            await self._is_read()
        if self._lost:
            raise ConnectionResetError("the client has gone")
        self.transport.write(data)
        if self._writable is not None and not self._writable.done():
            await self._writable
        if self._lost:
            raise ConnectionResetError("the client has gone")

    async def write_eof(self) -> None:
        if not self._lost and self.transport.can_write_eof():
            self.transport.write_eof()

    def close(self) -> None:
        self.transport.close()


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
