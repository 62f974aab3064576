"""ttrpc on the event loop: the client end towards shims, the server end for their events.

Framing and statuses are `barque.shim.ttrpc`'s; this module has the sockets. Payloads are bytes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from barque.containerd.sockets import listener
from barque.errors import BarqueError, InvalidArgument, Unavailable, Unsupported
from barque.shim import ttrpc

CONNECT_TIMEOUT_S = 5.0

Handler = Callable[[bytes], Awaitable[bytes]]

log = logging.getLogger(__name__)


class ConnectionLost(Unavailable):
    """The other end is gone; whether the call was carried out is not known."""


class NotSent(ConnectionLost):
    """The other end was gone before the call was made."""


class NobodyListens(Unavailable):
    """There is no process behind an address."""


class Connection(asyncio.Protocol):
    """A client's connection: any number of unary calls under way at once.

    `lost` is done, without exception, once the connection has ended from either side.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._parser = ttrpc.Parser()
        self._transport: asyncio.Transport | None = None
        self._stream = -1
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(
        self, service: str, method: str, payload: bytes, timeout_ns: int = 0
    ) -> asyncio.Future[bytes]:
        """Make a call: what gets the answer's payload, when the request is on its way.

        It fails with the kind of error that the far side's status names, or ConnectionLost. To
        cancel it is only to stop listening: ttrpc 1.0 cannot cancel. Raises NotSent.
        """
        if self._transport is None or self.lost.done():
            raise NotSent(f"connection to {self._name} is closed")
        self._stream += 2
        data = ttrpc.request(self._stream, service, method, payload, timeout_ns)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[self._stream] = answer
        self._transport.write(data)
        return answer

    async def call(self, service: str, method: str, payload: bytes, timeout_ns: int = 0) -> bytes:
        """As `send`, and the answer."""
        answer = self.send(service, method, payload, timeout_ns)
        stream = self._stream
        try:
            return await answer
        finally:
            self._calls.pop(stream, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._parser.feed(data):
                self._answer(frame)
        except BarqueError as error:
            log.warning("broken ttrpc stream from %s: %s", self._name, error)
            self.close()

    def _answer(self, frame: ttrpc.Frame) -> None:
        if frame.kind != ttrpc.RESPONSE:
            return
        answer = self._calls.pop(frame.stream, None)
        if answer is None or answer.done():
            return
        try:
            answer.set_result(ttrpc.parse_response(frame.data))
        except BarqueError as error:
            answer.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(ConnectionLost(f"connection to {self._name} is lost"))
        if not self.lost.done():
            self.lost.set_result(None)


async def connect(address: str, name: str) -> Connection:
    """Connect to a shim's socket: `unix://PATH`, or a path. `name` is for error texts.

    A path that begins with a zero byte or '@' is an abstract socket, as older shims have.
    Raises NobodyListens, and Unavailable for an address that can not be reached.
    """
    path = address.removeprefix("unix://")
    if path.startswith("@"):
        path = "\0" + path[1:]
    if not path:
        raise InvalidArgument(f"{name} has no address")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_unix_connection(lambda: Connection(name), path)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise NobodyListens(f"{name} does not answer at {address}: {error}") from error
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{name} does not answer at {address}: {error}") from error
    return connection


async def over(made: socket.socket, name: str) -> Connection:
    """A connection by a socket whose other end is given to the shim. It closes the socket."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(lambda: Connection(name), sock=made)
    return connection


class _Peer(asyncio.Protocol):
    """One client of a `Server`. Calls are carried out in the order they come, one after another."""

    def __init__(self, methods: Mapping[tuple[str, str], Handler], peers: set[_Peer]) -> None:
        self._methods = methods
        self._peers = peers
        self._parser = ttrpc.Parser()
        self._transport: asyncio.Transport | None = None
        self._frames: asyncio.Queue[ttrpc.Frame] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peers.add(self)
        self._work = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._parser.feed(data):
                self._frames.put_nowait(frame)
        except BarqueError as error:
            log.warning("broken ttrpc stream from a client: %s", error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._peers.discard(self)
        if self._work is not None:
            self._work.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _run(self) -> None:
        while True:
            frame = await self._frames.get()
            if frame.kind == ttrpc.REQUEST and self._transport is not None:
                self._transport.write(await self._respond(frame))

    async def _respond(self, frame: ttrpc.Frame) -> bytes:
        try:
            call = ttrpc.parse_request(frame.data)
            return ttrpc.response(frame.stream, await self._handler(call)(call["payload"]))
        except BarqueError as error:
            return ttrpc.failure(frame.stream, error)
        except Exception as error:
            log.exception("ttrpc call failed")
            return ttrpc.failure(frame.stream, error)

    def _handler(self, call: dict[str, Any]) -> Handler:
        service, method = call["service"], call["method"]
        handler = self._methods.get((service, method))
        if handler is None:
            raise Unsupported(f"/{service}/{method} is not implemented")
        return handler


class Server:
    """A ttrpc server on one unix socket, mode 0600."""

    def __init__(self, methods: Mapping[tuple[str, str], Handler]) -> None:
        self._methods = methods
        self._peers: set[_Peer] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, path: str) -> None:
        """Listen at `path`. Raises Conflict when another process does."""
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Peer(self._methods, self._peers), sock=listener(path)
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for peer in tuple(self._peers):
            peer.close()
