"""The ttrpc server: connections on the loop, calls to a table of methods.

A method is called with the decoded request and returns the answer's values, or a routine that will.
Calls of one connection run concurrently, as ttrpc's do.
"""

from __future__ import annotations

from barque.errors import BarqueError, Unsupported
from barque.shim import ttrpc
from barque.shim.sockets import Stream
from barque.shim.wire import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from barque.shim.loop import Loop, Pending
    from barque.shim.wire import Table

    Method = tuple[Table, Table, Callable[[dict[str, Any]], Any]]


class Server:
    """The connections of one ttrpc socket. `methods` are keyed by service and method."""

    def __init__(
        self,
        loop: Loop,
        methods: Mapping[tuple[str, str], Method],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._loop = loop
        self._methods = methods
        self._failed = failed
        self._connections: set[Connection] = set()
        self._under_way: dict[tuple[Connection, int], ttrpc.Frame] = {}
        self.connected: Callable[[], None] | None = None

    def accept(self, fd: int) -> None:
        self._connections.add(Connection(self, self._loop, fd))
        if self.connected is not None:
            self.connected()

    @property
    def any_connected(self) -> bool:
        return bool(self._connections)

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def close(self) -> None:
        """Close every connection once its answers are sent."""
        for connection in tuple(self._connections):
            connection.stream.finish()

    def call(self, connection: Connection, frame: ttrpc.Frame) -> None:
        """Start one call; its answer goes to `connection`, if that is still there."""
        try:
            call = ttrpc.parse_request(frame.data)
            name = (call["service"], call["method"])
            if name not in self._methods:
                raise Unsupported(f"/{name[0]}/{name[1]} is not implemented")
            request, answer, method = self._methods[name]
            result = method(decode(request, call["payload"]))
        except Exception as error:
            self._fail(connection, frame, error)
            return
        if isinstance(result, dict):
            connection.answer(frame.stream, answer, result)
            return

        def ended(pending: Pending) -> None:
            self._under_way.pop((connection, frame.stream), None)
            if pending.error is not None:
                self._fail(connection, frame, pending.error)
            else:
                connection.answer(frame.stream, answer, pending.value)

        running = self._loop.spawn(result)
        if not running.done:
            self._under_way[connection, frame.stream] = frame
        running.then(ended)

    def save(self, repeatable: tuple[str, ...]) -> list[tuple[int, list[tuple[int, bytes]]]] | None:
        """The connections: their descriptors, and calls under way, which are all of `repeatable`
        methods; None: not now."""
        calls: dict[Connection, list[tuple[int, bytes]]] = {}
        for (connection, stream), frame in self._under_way.items():
            if ttrpc.parse_request(frame.data)["method"] not in repeatable:
                return None
            calls.setdefault(connection, []).append((stream, frame.data))
        if not all(connection.at_rest for connection in self._connections):
            return None
        open_ones = self._connections
        return [(connection.stream.fd, calls.get(connection, [])) for connection in open_ones]

    def restore(self, saved: list[tuple[int, list[tuple[int, bytes]]]]) -> None:
        """Make what `save` gave again; the calls are made again too."""
        for fd, calls in saved:
            connection = Connection(self, self._loop, fd)
            self._connections.add(connection)
            for stream, data in calls:
                self.call(connection, ttrpc.Frame(stream, ttrpc.REQUEST, 0, data))

    def _fail(self, connection: Connection, frame: ttrpc.Frame, error: BaseException) -> None:
        if not isinstance(error, BarqueError):
            self._failed("call failed", error)
        connection.stream.send(ttrpc.failure(frame.stream, error))


class Connection:
    """One client."""

    def __init__(self, server: Server, loop: Loop, fd: int) -> None:
        self._server = server
        self._parser = ttrpc.Parser()
        self.stream = Stream(loop, fd, self._received, self._closed)

    @property
    def at_rest(self) -> bool:
        return self.stream.at_rest and self._parser.empty

    def answer(self, stream: int, table: Table, values: dict[str, Any]) -> None:
        self.stream.send(ttrpc.response(stream, encode(table, values)))

    def _received(self, data: bytes) -> None:
        if not data:
            self.stream.close()
            return
        try:
            frames = self._parser.feed(data)
        except BarqueError:
            self.stream.close()
            return
        for frame in frames:
            if frame.kind == ttrpc.REQUEST:
                self._server.call(self, frame)

    def _closed(self) -> None:
        self._server.forget(self)
