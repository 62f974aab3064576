"""The server's end of a connection: each new stream is a call, answered by a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from barque.containerd.http2 import frames
from barque.containerd.http2.connection import Connection
from barque.containerd.http2.frames import ConnectionFault
from barque.containerd.http2.headers import Headers, literal
from barque.containerd.http2.status import ANSWER, CONTENT_TYPE, FINE, Status, trailers
from barque.containerd.http2.stream import Stream, StreamEnded

# A wait on a process holds a stream for as long as the process runs: one client has thousands.
MOST_STREAMS = 1 << 20
UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

Rest = Callable[[], Awaitable[None]]
# What answers a call: at once, or it gives what a task has still to do.
Answer = Callable[["ServerStream"], Rest | None]


class ServerStream(Stream):
    """A call being answered."""

    task: asyncio.Task[None] | None = None
    answering = False  # the headers of the answer are sent
    status: Status | None = None  # how it ended; None until then, and for one given up

    def _connected(self) -> ServerConnection:
        assert isinstance(self._connection, ServerConnection)
        return self._connection

    def begin(self) -> None:
        """Send the headers of the answer."""
        if not self.answering and not self.sent_end:
            self.answering = True
            connection = self._connected()
            connection.write(connection.headers_frame(self, ANSWER))

    def answer(self, message: bytes) -> None:
        """The whole of an answer of one message at once, where the windows allow it."""
        connection = self._connected()
        data = b"\0" + len(message).to_bytes(4, "big") + message
        self.answering, self.status = True, Status.OK
        self.sent_messages += 1
        self.send_window -= len(data)
        connection.spend(len(data))
        connection.write(
            connection.headers_frame(self, ANSWER)
            + frames.frame(frames.DATA, 0, self.number, data)
            + connection.headers_frame(self, FINE, end=True)
        )
        connection.flush()
        connection.sending_ended(self)

    def fits(self, message: bytes) -> bool:
        """Whether `answer` may be used."""
        return len(message) + 5 <= self._connected().room(self)

    def finish(self, status: Status = Status.OK, text: str = "") -> None:
        """End the call. What the client still sends is not wanted."""
        if self.sent_end:
            return
        self.status = status
        connection = self._connected()
        block = trailers(status, text)
        connection.write(
            connection.headers_frame(self, block if self.answering else ANSWER + block, end=True)
        )
        connection.flush()
        connection.sending_ended(self)
        if not self.received_end:
            connection.reset(self, frames.NO_ERROR)


class ServerConnection(Connection):
    def __init__(self, answer: Callable[[str], tuple[Answer, bool]]) -> None:
        """`answer` gives for a path what answers it, and whether that reads a stream of requests;
        others begin when the request is there: what they answer at once takes no task."""
        super().__init__()
        self._answer_of = answer
        self._prefaced = False

    def _own_settings(self) -> dict[int, int]:
        return {frames.MAX_CONCURRENT_STREAMS: MOST_STREAMS}

    def spend(self, count: int) -> None:
        self._send_window -= count

    def _start(self, data: bytes) -> int:
        if self._prefaced:
            return 0
        self._prefaced = True
        return len(frames.PREFACE)

    def _take(self, data: bytes) -> bytes:
        if not self._prefaced:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise ConnectionFault(frames.PROTOCOL_ERROR, "this is not HTTP/2")
            if len(data) < len(frames.PREFACE):
                return data
        return super()._take(data)

    def _take_new(self, number: int, headers: Headers) -> Stream | None:
        if number % 2 == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a stream of the server's numbers")
        if number <= self._last:
            return None  # trailers of a call that was answered already
        self._last = number
        stream = ServerStream(self, number, self._peer_window)
        stream.headers = headers
        self.streams[number] = stream
        if refusal := _refusal(headers):
            self.write(self.headers_frame(stream, refusal, end=True))
            self.sending_ended(stream)
            return stream
        answer, reads_stream = self._answer_of(headers.get(":path", ""))
        if reads_stream:
            self._run(stream, answer)
        return stream

    def _ended(self, stream: Stream) -> None:
        super()._ended(stream)
        assert isinstance(stream, ServerStream)
        if stream.task is None and not stream.sent_end:
            answer, _ = self._answer_of(stream.headers.get(":path", ""))
            self._run(stream, answer)

    def _run(self, stream: ServerStream, answer: Answer) -> None:
        try:
            rest = answer(stream)
        except StreamEnded:
            return  # the client has gone
        if rest is None:
            return
        loop = asyncio.get_running_loop()
        stream.task = loop.create_task(_answered(rest))
        if timeout := stream.headers.get("grpc-timeout"):
            timer = loop.call_later(_seconds(timeout), _expire, stream)
            stream.task.add_done_callback(lambda _: timer.cancel())

    def _was_reset(self, stream: Stream) -> None:
        assert isinstance(stream, ServerStream)
        if stream.task is not None:
            stream.task.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        tasks = self.tasks()
        super().connection_lost(exc)
        for task in tasks:
            task.cancel()

    def tasks(self) -> list[asyncio.Task[None]]:
        """The calls that are being answered."""
        streams = (stream for stream in self.streams.values() if isinstance(stream, ServerStream))
        return [stream.task for stream in streams if stream.task is not None]


async def _answered(rest: Rest) -> None:
    try:
        await rest()
    except StreamEnded:
        pass  # the client has gone


def _expire(stream: ServerStream) -> None:
    stream.finish(Status.DEADLINE_EXCEEDED, "context deadline exceeded")
    if stream.task is not None:
        stream.task.cancel()


def _seconds(text: str) -> float:
    """`grpc-timeout`: at most eight digits and a unit; what is none of that never expires soon."""
    value, unit = text[:-1], text[-1:]
    if not value.isdecimal() or len(value) > 8 or unit not in UNITS:
        return 1e9
    return int(value) * UNITS[unit]


def _refusal(headers: Headers) -> bytes:
    """The answer to what is not gRPC; b"" to what is."""
    if headers.get(":method") != "POST":
        return literal(":status", "405")
    kind = headers.get("content-type", "")
    if kind != CONTENT_TYPE and not kind.startswith((f"{CONTENT_TYPE}+", f"{CONTENT_TYPE};")):
        return literal(":status", "415")
    return b""
