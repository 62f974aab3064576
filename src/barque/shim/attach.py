"""The clients of one process's stdio socket: fan-out, back-pressure, half-close."""

from __future__ import annotations

import os

from barque.errors import InvalidArgument
from barque.shim import hello
from barque.shim.sockets import Listener, Stream, listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Protocol

    from barque.shim.hello import Hello
    from barque.shim.loop import Loop

    class Input(Protocol):
        """The process's standard input, as clients see it."""

        def write(self, data: bytes) -> bool: ...
        def client_ended(self) -> None: ...


CLIENTS_MAX: Final = 256
LOSSY_BYTES_MAX: Final = 1 << 20
HIGH_WATER_BYTES: Final = 1 << 18
NOTICE: Final = b"\n[barque: output is lost, this client reads too slowly]\n"


class Client:
    """One connection, before and after its first line."""

    def __init__(self, owner: Attachments, loop: Loop, fd: int) -> None:
        self._owner = owner
        self._opening: hello.Opening | None = hello.Opening()
        self.hello: Hello | None = None
        self.dropped = False
        self._input_ended = False
        self.stream = Stream(loop, fd, self._received, self._closed)
        self.stream.drained = owner.balance

    def _received(self, data: bytes) -> None:
        if self._opening is None:
            self._input(data)
            return
        if not data:
            self.stream.close()
            return
        try:
            opened = self._opening.feed(data)
        except InvalidArgument as error:
            self.stream.send(hello.refused(str(error)))
            self.stream.finish()
            return
        if opened is None:
            return
        self._opening = None
        self.hello, rest = opened
        self._owner.opened(self)
        if rest:
            self._input(rest)

    def _input(self, data: bytes) -> None:
        assert self.hello is not None
        if not self.hello.stdin:
            return
        if data:
            self._owner.input(self, data)
        else:
            self._end_input()

    def _end_input(self) -> None:
        if self.hello is not None and self.hello.stdin and not self._input_ended:
            self._input_ended = True
            self._owner.input_ended()

    def send(self, stream: int, data: bytes, raw: bool) -> None:
        if self.dropped or self.hello is None or not self.hello.wants(stream):
            return
        if self.hello.lossy and self.stream.queued > LOSSY_BYTES_MAX:
            self.dropped = True
            self.stream.send(NOTICE if raw else hello.frame(2, NOTICE))
            self.stream.finish()
            return
        self.stream.send(data if raw else hello.frame(stream, data))

    def holds_back(self) -> bool:
        return (
            self.hello is not None
            and not self.hello.lossy
            and self.stream.queued > HIGH_WATER_BYTES
        )

    def _closed(self) -> None:
        self._end_input()
        self._owner.forget(self)


class Attachments:
    """All clients of one process. Listens from the start; `balance` is called when a client that
    was slow has caught up or gone."""

    def __init__(
        self,
        loop: Loop,
        path: str,
        tty: bool,
        stdin: Input | None,
        balance: Callable[[], None],
        saved: tuple[bool, tuple[int, int]] | None = None,
    ) -> None:
        """`saved`: as it was when `save` was called, by a worker that has left."""
        self._loop = loop
        self._path = path
        self._tty = tty
        self._stdin = stdin
        self._clients: set[Client] = set()
        self._ended = False
        self.balance = balance
        if saved is None:
            self._listen()
        else:
            self._ended, listener = saved
            self._listener = Listener.restored(loop, listener, self._accept)

    def save(self) -> tuple[bool, tuple[int, int]] | None:
        """What to make it from again; None while there are clients."""
        return None if self._clients else (self._ended, self._listener.save())

    def _listen(self) -> None:
        server = listen(self._path)
        try:
            self._listener = Listener(self._loop, server, self._accept)
        except BaseException:
            os.unlink(self._path)
            raise

    def _accept(self, fd: int) -> None:
        if len(self._clients) >= CLIENTS_MAX:
            os.close(fd)
            return
        self._clients.add(Client(self, self._loop, fd))

    def opened(self, client: Client) -> None:
        client.stream.send(hello.accepted(self._tty))
        if self._ended:
            client.stream.finish()

    def forget(self, client: Client) -> None:
        self._clients.discard(client)
        self.balance()

    def input(self, client: Client, data: bytes) -> None:
        if self._stdin is not None and not self._stdin.write(data):
            self.hold_input(True)

    def hold_input(self, held: bool) -> None:
        """Stop or go on reading from the clients that write."""
        for client in tuple(self._clients):
            if client.hello is not None and client.hello.stdin:
                client.stream.pause_reading(held)

    def input_ended(self) -> None:
        if self._stdin is not None:
            self._stdin.client_ended()

    def send(self, stream: int, data: bytes) -> None:
        for client in tuple(self._clients):
            client.send(stream, data, self._tty)

    def holds_back(self) -> bool:
        return any(client.holds_back() for client in self._clients)

    def end(self) -> None:
        """The process has ended: every client gets what is queued, then the end."""
        self._ended = True
        for client in tuple(self._clients):
            if client.hello is not None:
                client.stream.finish()

    def close(self) -> None:
        """Stop listening; clients that are still there keep what is queued for them."""
        self._listener.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        self.end()
