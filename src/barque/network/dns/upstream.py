"""Questions passed on to other name servers, each from a socket of its own.

A socket for each question has a port of its own that nobody can guess, and takes answers from the
server it is connected to only. Servers are asked one after the other until one has an answer.
"""

from __future__ import annotations

import _socket
import select
from collections import deque

from barque.linux.namespaces import CLONE_NEWNET, setns
from barque.network.dns import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, Protocol

    Server = tuple[str, bool]  # its address, and whether the host asks it (not the container)

    class Watch(Protocol):
        def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None: ...
        def modify(self, fd: int, events: int) -> None: ...
        def remove(self, fd: int) -> None: ...


DNS_PORT: Final = 53
ANSWER_TIMEOUT_S: Final = 3.0
MAX_PENDING: Final = 4096
MAX_SERVERS: Final = 6
MAX_TCP_BYTES: Final = 65535 + 2


class Forward:
    """One question on its way, and whom its answer is for."""

    __slots__ = ("buffer", "deadline", "namespace", "query", "reply", "servers", "socket", "stream")

    def __init__(
        self,
        query: wire.Query,
        servers: Sequence[Server],
        namespace: int,
        reply: Callable[[bytes], None],
        *,
        stream: bool,
    ) -> None:
        self.query = query
        self.servers = list(servers[:MAX_SERVERS])
        self.namespace = namespace
        self.reply = reply
        self.stream = stream
        self.socket: _socket.socket | None = None
        self.buffer = b""
        self.deadline = 0.0


class Upstream:
    """`home` is the descriptor of the namespace this process lives in."""

    def __init__(self, watch: Watch, home: int, clock: Callable[[], float]) -> None:
        self._watch = watch
        self._home = home
        self._clock = clock
        self._waiting: deque[tuple[float, Forward]] = deque()  # all wait equally long: in order
        self._pending = 0

    def ask(self, forward: Forward) -> None:
        """Pass a question on; its answer, or a failure, is given to its `reply` later or now."""
        if self._pending >= MAX_PENDING:
            forward.reply(_failure(forward))
            return
        self._pending += 1
        self._next(forward)

    def timeout(self) -> float:
        """Seconds until `expire` has something to do, -1 for nothing."""
        while self._waiting and self._waiting[0][1].deadline != self._waiting[0][0]:
            self._waiting.popleft()  # answered, or asked elsewhere meanwhile
        if not self._waiting:
            return -1.0
        return max(0.0, self._waiting[0][0] - self._clock())

    def expire(self) -> None:
        """Give up on servers that did not answer in time."""
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            deadline, forward = self._waiting.popleft()
            if forward.deadline == deadline:
                self._next(forward)

    def _next(self, forward: Forward) -> None:
        """Ask the next server, or answer that there is none left."""
        self._leave(forward)
        while forward.servers:
            address, by_host = forward.servers.pop(0)
            try:
                self._open(forward, address, by_host)
            except OSError:
                self._leave(forward)
                continue
            forward.deadline = self._clock() + ANSWER_TIMEOUT_S
            self._waiting.append((forward.deadline, forward))
            return
        self._finish(forward, _failure(forward))

    def _open(self, forward: Forward, address: str, by_host: bool) -> None:
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        kind = _socket.SOCK_STREAM if forward.stream else _socket.SOCK_DGRAM
        if not by_host:
            setns(forward.namespace, CLONE_NEWNET)
        try:
            opened = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
            forward.socket = opened
        finally:
            if not by_host:
                setns(self._home, CLONE_NEWNET)
        try:
            opened.connect((address, DNS_PORT))
        except BlockingIOError:
            pass
        if forward.stream:
            packet = forward.query.packet
            forward.buffer = len(packet).to_bytes(2, "big") + packet
        else:
            opened.send(forward.query.packet)
        ready = self._stream_ready if forward.stream else self._datagram_ready
        self._watch.add(
            opened.fileno(),
            select.EPOLLOUT if forward.stream else select.EPOLLIN,
            lambda events: ready(forward, events),
        )

    def _datagram_ready(self, forward: Forward, events: int) -> None:
        assert forward.socket is not None
        del events
        try:
            answer = forward.socket.recv(wire.MAX_UDP_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._next(forward)
            return
        if wire.is_answer_to(answer, forward.query.packet):
            self._judge(forward, answer)

    def _stream_ready(self, forward: Forward, events: int) -> None:
        assert forward.socket is not None
        try:
            if events & select.EPOLLOUT:
                self._send_some(forward)
                return
            part = forward.socket.recv(MAX_TCP_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._next(forward)
            return
        forward.buffer += part
        size = int.from_bytes(forward.buffer[:2], "big")
        if len(forward.buffer) < 2 or len(forward.buffer) < 2 + size:
            return
        answer = forward.buffer[2 : 2 + size]
        if wire.is_answer_to(answer, forward.query.packet):
            self._judge(forward, answer)
        else:
            self._next(forward)

    def _send_some(self, forward: Forward) -> None:
        assert forward.socket is not None
        try:
            sent = forward.socket.send(forward.buffer)
        except BlockingIOError:
            return
        except OSError:
            self._next(forward)
            return
        forward.buffer = forward.buffer[sent:]
        if not forward.buffer:
            self._watch.modify(forward.socket.fileno(), select.EPOLLIN)

    def _judge(self, forward: Forward, answer: bytes) -> None:
        """A server that cannot or will not answer is no answer while there are others."""
        if wire.code_of(answer) in {wire.SERVER_FAILURE, wire.REFUSED} and forward.servers:
            self._next(forward)
        else:
            self._finish(forward, answer)

    def _finish(self, forward: Forward, answer: bytes) -> None:
        self._leave(forward)
        self._pending -= 1
        forward.reply(answer)

    def _leave(self, forward: Forward) -> None:
        forward.deadline = 0.0
        forward.buffer = b""
        if forward.socket is not None:
            self._watch.remove(forward.socket.fileno())
            forward.socket.close()
            forward.socket = None


def _failure(forward: Forward) -> bytes:
    return forward.query.answer(limit=wire.MIN_UDP_BYTES, code=wire.SERVER_FAILURE)
