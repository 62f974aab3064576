"""One connection to a containerd, shared by all its services: calls, streams, errors as kinds.

The connection is made at the first call, and made again when it was lost: a call in flight then
fails with Unavailable, the next one finds the new server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.client import Channel as _Connecting
from grpclib.client import Stream
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import H2Protocol

from barque import errors

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)

WINDOW_BYTES = 16 << 20
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


class _Connection(_Connecting):
    """A server that answered once and is gone is being started again: wait for it a little.

    Nothing was sent yet when a connection is made, so no call is made twice by this.
    """

    _answered = False

    async def _create_connection(self) -> H2Protocol:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (RESTART_PATIENCE_S if self._answered else 0)
        while True:
            try:
                protocol = await super()._create_connection()
            except (ConnectionRefusedError, FileNotFoundError):
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(RESTART_POLL_S)
            else:
                self._answered = True
                return protocol


class Channel:
    """Calls in one namespace, held by one lease if there is one. Belongs to one event loop.

    Every method raises the kind of `barque.errors` that the gRPC code stands for, with the
    server's text, and Unavailable when the server does not answer.
    """

    def __init__(self, address: str, namespace: str) -> None:
        self.address = address.removeprefix("unix://")
        self.namespace = namespace
        self.lease = ""
        configuration = Configuration(
            http2_connection_window_size=WINDOW_BYTES, http2_stream_window_size=WINDOW_BYTES
        )
        self._connection = _Connection(path=self.address, config=configuration)

    def with_lease(self, lease: str) -> Channel:
        """The same connection; what its calls make is held by `lease`."""
        other = Channel.__new__(Channel)
        other.address, other.namespace, other.lease = self.address, self.namespace, lease
        other._connection = self._connection
        return other

    def close(self) -> None:
        self._connection.close()

    async def unary(self, service: str, method: str, request: Message, reply: type[Reply]) -> Reply:
        call = self._call(service, method, Cardinality.UNARY_UNARY, type(request), reply)
        try:
            async with call as stream:
                await stream.send_message(request, end=True)
                answer = await stream.recv_message()
        except errors.BarqueError:
            raise
        except Exception as error:
            raise self._translate(error) from error
        if answer is None:
            raise errors.Unavailable(f"{service}/{method}: containerd sent no answer")
        return answer

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
        cardinality = Cardinality.UNARY_STREAM
        async with self._open(service, method, cardinality, type(request), reply) as duplex:
            await duplex.send(request, end=True)
            yield duplex

    @asynccontextmanager
    async def duplex(
        self, service: str, method: str, request: type[Request], reply: type[Reply]
    ) -> AsyncIterator[Duplex[Request, Reply]]:
        """A stream both ways."""
        cardinality = Cardinality.STREAM_STREAM
        async with self._open(service, method, cardinality, request, reply) as duplex:
            yield duplex

    @asynccontextmanager
    async def _open(
        self,
        service: str,
        method: str,
        cardinality: Cardinality,
        request: type[Request],
        reply: type[Reply],
    ) -> AsyncIterator[Duplex[Request, Reply]]:
        call = self._call(service, method, cardinality, request, reply)
        try:
            async with call as stream:
                yield Duplex(stream, self)
        except errors.BarqueError:
            raise
        except Exception as error:
            raise self._translate(error) from error

    def _call(
        self,
        service: str,
        method: str,
        cardinality: Cardinality,
        request: type[Request],
        reply: type[Reply],
    ) -> Stream[Request, Reply]:
        metadata = {"containerd-namespace": self.namespace}
        if self.lease:
            metadata["containerd-lease"] = self.lease
        return self._connection.request(
            f"/{service}/{method}", cardinality, request, reply, metadata=metadata
        )

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, GRPCError):
            kind = KINDS.get(error.status, errors.BarqueError)
            return kind(error.message or error.status.name.lower().replace("_", " "))
        if isinstance(error, (OSError, StreamTerminatedError)):
            return errors.Unavailable(f"containerd at {self.address} does not answer: {error}")
        return error


class Duplex(Generic[Request, Reply]):
    """An open stream. Iterating gives the replies up to the end of the stream."""

    def __init__(self, stream: Stream[Request, Reply], channel: Channel) -> None:
        self._stream = stream
        self._channel = channel

    async def accepted(self) -> None:
        """Returns when the server has taken the call up; raises what it refuses it with."""
        try:
            await self._stream.recv_initial_metadata()
        except Exception as error:
            raise self._channel._translate(error) from error

    async def send(self, message: Request, *, end: bool = False) -> None:
        try:
            await self._stream.send_message(message, end=end)
        except Exception as error:
            raise self._channel._translate(error) from error

    async def end(self) -> None:
        """No more to send."""
        await self._stream.end()

    async def receive(self) -> Reply | None:
        """The next reply; None at the end. Raises what the server ended the stream with."""
        try:
            reply = await self._stream.recv_message()
            if reply is None:
                self._stream._maybe_raise()
            return reply
        except Exception as error:
            raise self._channel._translate(self._told(error)) from error

    def _told(self, error: Exception) -> Exception:
        """What the server said before it reset the stream, if it said anything."""
        try:
            self._stream._maybe_raise()
        except GRPCError as told:
            return told
        return error

    async def __aiter__(self) -> AsyncIterator[Reply]:
        while (message := await self.receive()) is not None:
            yield message
