"""gRPC over a unix socket, as a table of methods.

    Service(DESCRIPTOR.services_by_name["Images"], {"Get": images.get, "List": images.list})

A handler is named by its method and has the shape that the method's descriptor asks for:

    unary           async def get(call: Call, request: Request) -> Reply
    reply stream    async def list(call: Call, request: Request) -> AsyncIterator[Reply]
    both streams    async def write(call: Call, requests: AsyncIterator) -> AsyncIterator[Reply]

(The streaming ones are async generators; one with a reply stream may give a message instead, which
is then all.) What never waits is marked, `{"Get": AtOnce(images.get)}`, and takes no task; what is
asked for again and again, with the same answer, `{"Info": Kept(content.info, content.version)}`.

Errors of `barque.errors` become gRPC codes here and nowhere else. Texts are passed as they are.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from weakref import WeakSet

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from barque import errors
from barque.containerd.http2.server import Answer, Rest, ServerConnection, ServerStream
from barque.containerd.http2.status import Status
from barque.containerd.http2.stream import StreamEnded, TooLarge
from barque.containerd.sockets import listener

log = logging.getLogger(__name__)

NAMESPACE_HEADER = "containerd-namespace"
LEASE_HEADER = "containerd-lease"

KEPT_MOST = 64  # answers of one method
KEPT_BYTES = 8 << 10  # of each, and of its request

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


class Reply(Protocol):
    """A message, or what has its bytes."""

    def SerializeToString(self) -> bytes: ...


Unary = Callable[[Call, Any], Coroutine[Any, Any, Reply]]
Streaming = Callable[[Call, Any], AsyncIterator[Message] | Message]


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A unary handler without anything to wait for: it is run where the request comes in."""

    handler: Unary


@dataclass(frozen=True, slots=True)
class Kept:
    """What gives a message, or a stream of them, for a namespace and a request, and nothing else.

    A small message is given again to who asks the same while `version` gives the same number.
    """

    handler: Streaming
    version: Callable[[], int]


Handler = Unary | Streaming | AtOnce | Kept
Watch = Callable[[MethodDescriptor, Answer], Answer]


class Service:
    """One gRPC service: methods with a handler are served, all others answer Unimplemented."""

    def __init__(self, descriptor: ServiceDescriptor, handlers: Mapping[str, Handler]) -> None:
        self.name = descriptor.full_name
        self.methods = {name: descriptor.methods_by_name[name] for name in handlers}
        self.answers: dict[str, tuple[Answer, bool]] = {
            name: _answer(self.methods[name], handler) for name, handler in handlers.items()
        }


class Server:
    """Serves `services` on one unix socket until `stop`."""

    def __init__(self, services: Iterable[Service], watch: Watch | None = None) -> None:
        """`watch` is given every method and what answers it, and gives what does so instead."""
        self._answers: dict[str, tuple[Answer, bool]] = {}
        for service in services:
            for name, method in service.methods.items():
                answer, reads_stream = service.answers[name]
                if watch is not None:
                    answer = watch(method, answer)
                self._answers[f"/{service.name}/{name}"] = answer, reads_stream
        self._connections: WeakSet[ServerConnection] = WeakSet()
        self._server: asyncio.Server | None = None

    async def start(self, path: str, uid: int = 0, gid: int = 0) -> None:
        """Listen at `path`, for this user alone unless another or a group is named.

        Raises Conflict when another process listens there.
        """
        made = listener(path)
        if uid or gid:
            os.chown(path, uid, gid)
            os.chmod(path, 0o660)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._connected, sock=made)

    async def stop(self) -> None:
        """Stop listening and cancel what is being answered."""
        if self._server is None:
            return
        self._server.close()
        tasks = [task for connection in self._connections for task in connection.tasks()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.close()

    def _connected(self) -> ServerConnection:
        connection = ServerConnection(self._answer_of)
        self._connections.add(connection)
        return connection

    def _answer_of(self, path: str) -> tuple[Answer, bool]:
        return self._answers.get(path) or _unknown(path)


def status_of(error: BaseException) -> tuple[Status, str]:
    """The gRPC code and text that tell `error` to a client."""
    if isinstance(error, OutOfRange):
        return Status.OUT_OF_RANGE, str(error)
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind], str(error)
    if isinstance(error, OSError):
        status = Status.RESOURCE_EXHAUSTED if error.errno in NO_SPACE else Status.UNKNOWN
        return status, _said(error)
    return Status.UNKNOWN, str(error) or type(error).__name__


def _said(error: OSError) -> str:
    """As Go says it: the object, and what is the matter with it."""
    text = (error.strerror or str(error) or type(error).__name__).lower()
    return text if error.filename is None else f"{error.filename}: {text}"


Begin = Callable[[Any, Call, ServerStream, type[Message]], Rest | None]


def _answer(method: MethodDescriptor, handler: Handler) -> tuple[Answer, bool]:
    """What answers calls of a method, and whether it reads a stream of requests."""
    kind: type[Message] = GetMessageClass(method.input_type)
    begin: Begin = _begin_unary
    if isinstance(handler, Kept):
        begin = KeptAnswers(handler.version).begin
        handler = handler.handler
    elif method.client_streaming:
        assert method.server_streaming, method.full_name
        begin = _begin_duplex
    elif method.server_streaming:
        begin = _begin_streaming
    elif isinstance(handler, AtOnce):
        handler, begin = handler.handler, _begin_at_once

    def answer(stream: ServerStream) -> Rest | None:
        try:
            rest = begin(handler, _call(stream), stream, kind)
        except StreamEnded:
            raise
        except Exception as error:
            _fail(stream, method, error)
            return None
        return None if rest is None else partial(finish, stream, rest)

    async def finish(stream: ServerStream, rest: Rest) -> None:
        try:
            await rest()
        except StreamEnded:
            raise
        except Exception as error:
            _fail(stream, method, error)

    return answer, method.client_streaming


def _fail(stream: ServerStream, method: MethodDescriptor, error: Exception) -> None:
    status, text = status_of(error)
    if status is Status.UNKNOWN and not isinstance(error, errors.BarqueError):
        log.error("unexpected failure in %s", method.full_name, exc_info=error)
    stream.finish(status, text)


def _begin_unary(handler: Any, call: Call, stream: ServerStream, kind: type[Message]) -> Rest:
    request = _only_request(stream, kind)

    async def rest() -> None:
        if late := _reply(stream, (await handler(call, request)).SerializeToString()):
            await late()

    return rest


def _begin_at_once(
    handler: Any, call: Call, stream: ServerStream, kind: type[Message]
) -> Rest | None:
    work = handler(call, _only_request(stream, kind))
    try:
        work.send(None)
    except StopIteration as done:
        return _reply(stream, done.value.SerializeToString())
    work.close()
    raise RuntimeError("a handler that does not wait did wait")


class KeptAnswers:
    """Of one method, by namespace and request: see `Kept`."""

    def __init__(self, version: Callable[[], int]) -> None:
        self._version_now = version
        self._version = version()
        self._kept: dict[tuple[str, bytes], bytes] = {}

    def begin(
        self, handler: Any, call: Call, stream: ServerStream, kind: type[Message]
    ) -> Rest | None:
        request = _only_message(stream)
        key, now = (call.namespace, request), self._version_now()
        if self._version != now or len(self._kept) > KEPT_MOST:
            self._kept.clear()
            self._version = now
        answer = self._kept.get(key)
        if answer is None:
            found = handler(call, _decoded(request, kind))
            if not isinstance(found, Message):
                return partial(_stream, found, stream)
            answer = found.SerializeToString()
            if len(request) + len(answer) <= KEPT_BYTES:
                self._kept[key] = answer
        return _reply(stream, answer)


def _begin_streaming(
    handler: Any, call: Call, stream: ServerStream, kind: type[Message]
) -> Rest | None:
    found = handler(call, _only_request(stream, kind))
    if isinstance(found, Message):
        return _reply(stream, found.SerializeToString())
    return partial(_stream, found, stream)


def _reply(stream: ServerStream, message: bytes) -> Rest | None:
    """The one message of an answer, and its end; what is still to do when it does not fit."""
    if not stream.fits(message):
        return partial(_send_one, stream, message)
    stream.answer(message)
    return None


async def _send_one(stream: ServerStream, message: bytes) -> None:
    stream.begin()
    await stream.send(message)
    stream.finish()


def _begin_duplex(handler: Any, call: Call, stream: ServerStream, kind: type[Message]) -> Rest:
    async def requests() -> AsyncIterator[Message]:
        while (message := await _received(stream)) is not None:
            yield _decoded(message, kind)

    return partial(_send_all, handler(call, requests()), stream)


async def _stream(replies: AsyncIterator[Message], stream: ServerStream) -> None:
    stream.begin()  # sent when the handler has begun: who subscribes is told that it did
    await _send_all(replies, stream)


async def _send_all(replies: AsyncIterator[Message], stream: ServerStream) -> None:
    async with aclosing(replies):  # type: ignore[type-var]
        async for reply in replies:
            stream.begin()
            await stream.send(reply.SerializeToString())
    stream.finish()


def _only_request(stream: ServerStream, kind: type[Message]) -> Message:
    return _decoded(_only_message(stream), kind)


def _only_message(stream: ServerStream) -> bytes:
    try:
        message = stream.only()
    except TooLarge as error:
        raise errors.ResourceExhausted(str(error)) from None
    if message is None:
        raise errors.InvalidArgument("request has no message")
    return message


async def _received(stream: ServerStream) -> bytes | None:
    try:
        return await stream.receive()
    except TooLarge as error:
        raise errors.ResourceExhausted(str(error)) from None


def _decoded(message: bytes, kind: type[Message]) -> Message:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise errors.InvalidArgument(f"{kind.DESCRIPTOR.full_name}: {error}") from None


def _call(stream: ServerStream) -> Call:
    headers = stream.headers
    return Call(headers.get(NAMESPACE_HEADER, ""), headers.get(LEASE_HEADER, ""))


def _unknown(path: str) -> tuple[Answer, bool]:
    service, _, method = path.strip("/").rpartition("/")

    def refuse(stream: ServerStream) -> None:
        text = f"unknown method {method} for service {service}"
        stream.finish(Status.UNIMPLEMENTED, text)

    return refuse, True
