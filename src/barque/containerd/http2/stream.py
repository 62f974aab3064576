"""One stream of a connection: headers, gRPC messages and trailers each way.

A message is five bytes, whether it is compressed and its length, and its bytes (gRPC over HTTP/2,
"Length-Prefixed-Message").
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from barque.containerd.http2.frames import CANCEL, NO_ERROR

if TYPE_CHECKING:
    from barque.containerd.http2.connection import Connection
    from barque.containerd.http2.headers import Headers

PREFIX_BYTES = 5
LARGEST_MESSAGE = 16 << 20  # bytes; as containerd's own limit
WINDOW_BYTES = LARGEST_MESSAGE + (1 << 20)  # a whole message fits, whoever sends it


class StreamEnded(ConnectionError):
    """The stream was reset, or its connection is gone."""


class TooLarge(Exception):
    """A message above `LARGEST_MESSAGE`, or one that is compressed."""


class Stream:
    def __init__(self, connection: Connection, number: int, send_window: int) -> None:
        self.number = number
        self.send_window = send_window
        self.headers: Headers = {}  # of the request, or of the answer
        self.trailers: Headers | None = None
        self.sent_end = False
        self.received_end = False
        self.reset_code: int | None = None  # the peer's, or ours
        self.received_messages = self.sent_messages = 0
        self._connection = connection
        self._partial = bytearray()  # of the message that is coming
        self._wanted = PREFIX_BYTES  # of these, until more can be told
        self._messages: deque[bytes] = deque()
        self._fault: Exception | None = None
        self._unconsumed = 0  # bytes received since the window was last opened
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    # What the peer sends

    def take_data(self, data: bytes | memoryview) -> None:
        """Bytes of messages, as they come."""
        self._partial += data
        if len(self._partial) >= self._wanted:
            self._take_messages()
            self.wake()

    def _take_messages(self) -> None:
        """Those that are whole now. Sets how many bytes there must be before it is called again."""
        partial = self._partial
        while len(partial) >= PREFIX_BYTES:
            length = int.from_bytes(partial[1:PREFIX_BYTES], "big")
            if partial[0] or length > LARGEST_MESSAGE:
                self._fault = TooLarge(
                    "compressed messages are not supported"
                    if partial[0]
                    else f"received message larger than max ({length} vs. {LARGEST_MESSAGE})"
                )
                return
            self._wanted = PREFIX_BYTES + length
            if len(partial) < self._wanted:
                return
            with memoryview(partial) as whole:
                self._messages.append(bytes(whole[PREFIX_BYTES : self._wanted]))
            del partial[: self._wanted]
        self._wanted = PREFIX_BYTES

    def take_headers(self, headers: Headers) -> None:
        """The answer's headers, then its trailers."""
        if not self.headers:
            self.headers = headers
        else:
            self.trailers = headers
        self.wake()

    def take_end(self) -> None:
        self.received_end = True
        if self.trailers is None:
            self.trailers = self.headers
        self.wake()

    def take_reset(self, code: int) -> None:
        """Reset by the peer, or lost with the connection."""
        self.reset_code = code
        self.sent_end = self.received_end = True
        self.wake()
        self.wake_sender()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wake_sender(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # For whoever uses the stream: one task at a time in each direction

    async def receive(self) -> bytes | None:
        """The next message; None after the last. Raises StreamEnded or TooLarge."""
        while not self._messages:
            if self._fault is not None:
                raise self._fault
            if self.received_end:
                if self.reset_code not in (None, NO_ERROR):
                    if self._connection.closed:
                        raise StreamEnded("the connection is closed")
                    raise StreamEnded(f"stream was reset: code {self.reset_code}")
                return None
            await self._wait()
        return self._next()

    def only(self) -> bytes | None:
        """The first message of a peer that sends no more; None without one. Raises TooLarge."""
        if self._messages:
            return self._next()
        if self._fault is not None:
            raise self._fault
        return None

    def _next(self) -> bytes:
        message = self._messages.popleft()
        self.received_messages += 1
        self._consumed(PREFIX_BYTES + len(message))
        return message

    async def answered(self) -> None:
        """Returns when the answer's headers have come."""
        while not self.headers and not self.received_end:
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _consumed(self, count: int) -> None:
        self._unconsumed += count
        if self._unconsumed >= WINDOW_BYTES // 4 and not self.received_end:
            self._connection.open_window(self.number, self._unconsumed)
            self._unconsumed = 0

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """One message. Raises StreamEnded when the peer takes no more."""
        self.sent_messages += 1
        data = b"\0" + len(message).to_bytes(4, "big") + message
        connection = self._connection
        if len(data) <= connection.room(self):
            connection.send_data(self, data, end)
        else:
            await self._send_in_parts(data, end)
        if connection.paused:
            await connection.drained()

    async def _send_in_parts(self, data: bytes, end: bool) -> None:
        at = 0
        while at < len(data):
            while (room := self._connection.room(self)) <= 0:
                self._room = asyncio.get_running_loop().create_future()
                self._connection.waiting.add(self)
                try:
                    await self._room
                finally:
                    self._room = None
                    self._connection.waiting.discard(self)
            part = data[at : at + room]
            at += len(part)
            self._connection.send_data(self, part, end and at == len(data))
            if self._connection.paused:
                await self._connection.drained()

    def end(self) -> None:
        """No more to send."""
        if not self.sent_end:
            self._connection.send_data(self, b"", True)

    def cancel(self) -> None:
        """Give the stream up; nothing more comes of it."""
        if not (self.sent_end and self.received_end):
            self._connection.reset(self, CANCEL)
