"""One connection to a containerd, shared by all its services: calls, streams, errors as kinds.

The connection is made at the first call, and made again when it was lost: a call in flight then
fails with Unavailable, the next one finds the new server.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from barque import errors
from barque.containerd.http2.client import ClientConnection
from barque.containerd.http2.status import Refused, Status, check
from barque.containerd.http2.stream import Stream, StreamEnded, TooLarge

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)

RESTART_PATIENCE_S = 5.0
RESTART_POLL_S = 0.02

KINDS: Mapping[Status, type[errors.BarqueError]] = {
    Status.INVALID_ARGUMENT: errors.InvalidArgument,
    Status.OUT_OF_RANGE: errors.InvalidArgument,
    Status.UNAUTHENTICATED: errors.Unauthorized,
    Status.PERMISSION_DENIED: errors.Forbidden,
    Status.NOT_FOUND: errors.NotFound,
    Status.ALREADY_EXISTS: errors.AlreadyExists,
    Status.FAILED_PRECONDITION: errors.Conflict,
    Status.ABORTED: errors.Conflict,
    Status.UNIMPLEMENTED: errors.Unsupported,
    Status.UNAVAILABLE: errors.Unavailable,
    Status.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    Status.DATA_LOSS: errors.DataLoss,
    Status.DEADLINE_EXCEEDED: errors.Timeout,
    Status.CANCELLED: errors.Unavailable,
}


class _Connecting:
    """The connection of all the channels to one server, made when it is needed.

    A server that answered once and is gone is being started again: it is waited for a little.
    Nothing was sent yet when a connection is made, so no call is made twice by this.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._answered = False
        self._current: ClientConnection | None = None
        self._lock = asyncio.Lock()

    def ready(self) -> ClientConnection | None:
        """The connection, when it may be used at once."""
        current = self._current
        return current if current is not None and current.usable else None

    async def connect(self) -> ClientConnection:
        """Raises OSError when the server does not listen."""
        async with self._lock:
            return self.ready() or await self._connect()

    async def _connect(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (RESTART_PATIENCE_S if self._answered else 0)
        while True:
            try:
                _, made = await loop.create_unix_connection(ClientConnection, self._path)
                if not await made.greeted():
                    raise ConnectionResetError(errno.ECONNRESET, "the connection is closed")
            except (ConnectionRefusedError, ConnectionResetError, FileNotFoundError):
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(RESTART_POLL_S)
            else:
                self._answered = True
                self._current = made
                return made

    def close(self) -> None:
        if self._current is not None:
            self._current.close()


class Channel:
    """Calls in one namespace, held by one lease if there is one. Belongs to one event loop.

    Every method raises the kind of `barque.errors` that the gRPC code stands for, with the
    server's text, and Unavailable when the server does not answer.
    """

    def __init__(self, address: str, namespace: str) -> None:
        self.address = address.removeprefix("unix://")
        self.namespace = namespace
        self.lease = ""
        self._connecting = _Connecting(self.address)

    def with_lease(self, lease: str) -> Channel:
        """The same connection; what its calls make is held by `lease`."""
        other = Channel.__new__(Channel)
        other.address, other.namespace, other.lease = self.address, self.namespace, lease
        other._connecting = self._connecting
        return other

    def close(self) -> None:
        self._connecting.close()

    async def unary(self, service: str, method: str, request: Message, reply: type[Reply]) -> Reply:
        stream: Stream | None = None
        try:
            stream = await self._call(service, method)
            await stream.send(request.SerializeToString(), end=True)
            answer = await stream.receive()
            if answer is not None:
                await stream.receive()  # the trailers
            check(stream.headers, stream.trailers)
            if answer is None:
                raise errors.Unavailable(f"{service}/{method}: containerd sent no answer")
            return reply.FromString(answer)
        except errors.BarqueError:
            raise
        except Exception as error:
            raise self._translate(self._told(stream, error)) from error
        finally:
            if stream is not None:
                stream.cancel()

    async def stream(
        self, service: str, method: str, request: Message, reply: type[Reply]
    ) -> AsyncIterator[Reply]:
        """The replies of a server's stream, as they come. Close early with `aclosing`."""
        async with self.replies(service, method, request, reply) as replies:
            async for one in replies:
                yield one

    @asynccontextmanager
    async def replies(
        self, service: str, method: str, request: Message, reply: type[Reply]
    ) -> AsyncIterator[Duplex[Message, Reply]]:
        """A server's stream; `accepted` tells when the server has taken the request."""
        async with self._open(service, method, type(request), reply) as duplex:
            await duplex.send(request, end=True)
            yield duplex

    @asynccontextmanager
    async def duplex(
        self, service: str, method: str, request: type[Request], reply: type[Reply]
    ) -> AsyncIterator[Duplex[Request, Reply]]:
        """A stream both ways."""
        async with self._open(service, method, request, reply) as duplex:
            yield duplex

    @asynccontextmanager
    async def _open(
        self, service: str, method: str, request: type[Request], reply: type[Reply]
    ) -> AsyncIterator[Duplex[Request, Reply]]:
        stream: Stream | None = None
        try:
            stream = await self._call(service, method)
            yield Duplex(stream, self, reply)
        except errors.BarqueError:
            raise
        except Exception as error:
            raise self._translate(error) from error
        finally:
            if stream is not None:
                stream.cancel()

    async def _call(self, service: str, method: str) -> Stream:
        """Open a stream. Raises OSError when there is no server."""
        connection = self._connecting.ready() or await self._connecting.connect()
        metadata: tuple[tuple[str, str], ...] = (("containerd-namespace", self.namespace),)
        if self.lease:
            metadata = (*metadata, ("containerd-lease", self.lease))
        return connection.call(f"/{service}/{method}", metadata)

    def _told(self, stream: Stream | None, error: Exception) -> Exception:
        """What the server said before the stream broke off, if it said anything."""
        trailers = stream.trailers if stream is not None else None
        if trailers and "grpc-status" in trailers and isinstance(error, (StreamEnded, TooLarge)):
            try:
                check({}, trailers)
            except Refused as refused:
                return refused
        return error

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, Refused):
            kind = KINDS.get(error.status, errors.BarqueError)
            return kind(error.text or error.status.name.lower().replace("_", " "))
        if isinstance(error, OSError):  # StreamEnded is one
            return errors.Unavailable(f"containerd at {self.address} does not answer: {error}")
        if isinstance(error, (TooLarge, DecodeError)):
            return errors.DataLoss(f"containerd at {self.address}: {error}")
        return error


class Duplex(Generic[Request, Reply]):
    """An open stream. Iterating gives the replies up to the end of the stream."""

    def __init__(self, stream: Stream, channel: Channel, reply: type[Reply]) -> None:
        self._stream = stream
        self._channel = channel
        self._reply = reply

    async def accepted(self) -> None:
        """Returns when the server has taken the call up; raises what it refuses it with."""
        await self._stream.answered()
        if self._stream.received_end:
            self._check()

    async def send(self, message: Request, *, end: bool = False) -> None:
        try:
            await self._stream.send(message.SerializeToString(), end=end)
        except Exception as error:
            raise self._failure(error) from error

    async def end(self) -> None:
        """No more to send."""
        self._stream.end()

    async def receive(self) -> Reply | None:
        """The next reply; None at the end. Raises what the server ended the stream with."""
        try:
            message = await self._stream.receive()
            if message is not None:
                return self._reply.FromString(message)
        except Exception as error:
            raise self._failure(error) from error
        self._check()
        return None

    def _check(self) -> None:
        try:
            if self._stream.reset_code and not self._stream.trailers:
                raise StreamEnded("the connection was lost")
            check(self._stream.headers, self._stream.trailers)
        except Exception as error:
            raise self._channel._translate(error) from error

    def _failure(self, error: Exception) -> Exception:
        return self._channel._translate(self._channel._told(self._stream, error))

    async def __aiter__(self) -> AsyncIterator[Reply]:
        while (message := await self.receive()) is not None:
            yield message
