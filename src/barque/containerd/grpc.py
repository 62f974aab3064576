"""gRPC over a unix socket, as a table of methods: all that this package knows of the library below.

    Service(DESCRIPTOR.services_by_name["Images"], {"Get": images.get, "List": images.list})

A handler is named by its method and has the shape that the method's descriptor asks for:

    unary           async def get(call: Call, request: Request) -> Reply
    reply stream    async def list(call: Call, request: Request) -> AsyncIterator[Reply]
    both streams    async def write(call: Call, requests: AsyncIterator) -> AsyncIterator[Reply]

(The streaming ones are async generators.)

Errors of `barque.errors` become gRPC codes here and nowhere else. Texts are passed as they are.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality
from grpclib.const import Handler as _Entry
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import H2Protocol
from grpclib.server import Server as _LibraryServer
from grpclib.server import Stream
from h2.settings import SettingCodes

from barque import errors
from barque.containerd.sockets import listener

log = logging.getLogger(__name__)

# A wait on a process holds a stream for as long as the process runs: one client has thousands.
STREAMS_PER_CONNECTION_MAX = 1 << 20
NAMESPACE_HEADER = "containerd-namespace"
LEASE_HEADER = "containerd-lease"

CODES: Mapping[type[Exception], Status] = {
    errors.InvalidArgument: Status.INVALID_ARGUMENT,
    errors.Unauthorized: Status.UNAUTHENTICATED,
    errors.Forbidden: Status.PERMISSION_DENIED,
    errors.NotFound: Status.NOT_FOUND,
    errors.AlreadyExists: Status.ALREADY_EXISTS,
    errors.Conflict: Status.FAILED_PRECONDITION,
    errors.NotModified: Status.FAILED_PRECONDITION,
    errors.DataLoss: Status.FAILED_PRECONDITION,  # containerd's code for bytes that differ
    errors.Unsupported: Status.UNIMPLEMENTED,
    errors.Unavailable: Status.UNAVAILABLE,
    errors.ResourceExhausted: Status.RESOURCE_EXHAUSTED,
    errors.Timeout: Status.DEADLINE_EXCEEDED,
}
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks: what containerd's clients send as metadata. Empty when it was not sent."""

    namespace: str = ""
    lease: str = ""


class OutOfRange(errors.InvalidArgument):
    """An offset beyond the end; containerd's clients tell it from other bad arguments."""


Unary = Callable[[Call, Any], Awaitable[Message]]
Streaming = Callable[[Call, Any], AsyncIterator[Message]]
Handler = Unary | Streaming


class Service:
    """One gRPC service: methods with a handler are served, all others answer Unimplemented."""

    def __init__(self, descriptor: ServiceDescriptor, handlers: Mapping[str, Handler]) -> None:
        self.name = descriptor.full_name
        self._entries = {
            f"/{self.name}/{name}": _entry(descriptor.methods_by_name[name], handler)
            for name, handler in handlers.items()
        }

    def __mapping__(self) -> dict[str, _Entry]:
        return self._entries


class Server:
    """Serves `services` on one unix socket, mode 0600, until `stop`."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._server = _Server(list(services))

    async def start(self, path: str) -> None:
        """Listen at `path`. Raises Conflict when another process listens there."""
        await self._server.start(sock=listener(path))

    async def stop(self) -> None:
        """Stop listening and cancel what is being answered."""
        self._server.close()
        await self._server.wait_closed()


def status_of(error: BaseException) -> tuple[Status, str]:
    """The gRPC code and text that tell `error` to a client."""
    if isinstance(error, OutOfRange):
        return Status.OUT_OF_RANGE, str(error)
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind], str(error)
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return Status.RESOURCE_EXHAUSTED, str(error)
    return Status.UNKNOWN, str(error) or type(error).__name__


class _Methods(dict[str, _Entry]):
    """The library answers an unknown method without the content type that Go's client needs."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key) or _unknown(key)


class _Protocol(H2Protocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        h2 = self.connection._connection
        h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_PER_CONNECTION_MAX})
        self.connection.flush()


class _Server(_LibraryServer):
    def __init__(self, services: list[Service]) -> None:
        super().__init__(services)
        self._mapping = _Methods(self._mapping)

    def _protocol_factory(self) -> H2Protocol:
        made = super()._protocol_factory()
        return _Protocol(made.handler, made.config, made.h2_config)


def _entry(method: MethodDescriptor, handler: Handler) -> _Entry:
    both = (method.client_streaming, method.server_streaming)
    serve, cardinality = {
        (False, False): (_serve_unary, Cardinality.UNARY_UNARY),
        (False, True): (_serve_streaming, Cardinality.UNARY_STREAM),
        (True, True): (_serve_duplex, Cardinality.STREAM_STREAM),
    }[both]

    async def answer(stream: Stream[Any, Any]) -> None:
        try:
            await serve(handler, _call(stream), stream)
        except (GRPCError, StreamTerminatedError):
            raise
        except Exception as error:
            status, text = status_of(error)
            if status is Status.UNKNOWN and not isinstance(error, errors.BarqueError):
                log.exception("unexpected failure in %s", method.full_name)
            raise GRPCError(status, text) from error

    return _Entry(
        answer,
        cardinality,
        GetMessageClass(method.input_type),
        GetMessageClass(method.output_type),
    )


async def _serve_unary(handler: Any, call: Call, stream: Stream[Any, Any]) -> None:
    await stream.send_message(await handler(call, await _only_request(stream)))


async def _serve_streaming(handler: Any, call: Call, stream: Stream[Any, Any]) -> None:
    request = await _only_request(stream)
    await stream.send_initial_metadata()
    async for reply in handler(call, request):
        await stream.send_message(reply)


async def _serve_duplex(handler: Any, call: Call, stream: Stream[Any, Any]) -> None:
    async for reply in handler(call, stream):
        await stream.send_message(reply)


async def _only_request(stream: Stream[Any, Any]) -> Message:
    request = await stream.recv_message()
    if request is None:
        raise errors.InvalidArgument("request has no message")
    assert isinstance(request, Message)
    return request


def _call(stream: Stream[Any, Any]) -> Call:
    metadata: Mapping[str, Any] = stream.metadata or {}
    return Call(
        namespace=str(metadata.get(NAMESPACE_HEADER, "")),
        lease=str(metadata.get(LEASE_HEADER, "")),
    )


def _unknown(path: str) -> _Entry:
    service, _, method = path.strip("/").rpartition("/")

    async def refuse(stream: Stream[Any, Any]) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, f"unknown method {method} for service {service}")

    return _Entry(refuse, Cardinality.UNARY_UNARY, Message, Message)
