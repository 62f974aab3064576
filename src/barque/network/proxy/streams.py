"""Connections through the proxy: what comes from either side goes to the other, in order.

A side that is full holds the other back: at most one read waits in memory for each direction. The
end of what one side says is told to the other, which may go on; a reset is passed on as one.
"""

from __future__ import annotations

import _socket
import errno
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from barque.network.readiness import Watch

READ_BYTES: Final = 256 << 10
ABORT: Final = b"\1\0\0\0\0\0\0\0"  # struct linger: on, no time: a reset
FAILED: Final = select.EPOLLERR | select.EPOLLHUP
UNDER_WAY: Final = (errno.EINPROGRESS, errno.EAGAIN)
LAST_PROBES: Final = (
    (_socket.TCP_KEEPIDLE, 1),
    (_socket.TCP_KEEPINTVL, 1),
    (_socket.TCP_KEEPCNT, 3),
    (_socket.TCP_USER_TIMEOUT, 4000),  # milliseconds, for what was sent and is not acknowledged
)

_buffer = memoryview(bytearray(READ_BYTES))


class Side:
    """One end of a connection, and what waits to be written there."""

    __slots__ = ("ended", "events", "fd", "opened", "ready", "shut", "waiting")

    def __init__(self, opened: _socket.socket, *, ready: bool) -> None:
        self.opened = opened
        self.fd = opened.fileno()
        self.ready = ready  # connected
        self.waiting = memoryview(b"")
        self.ended = False  # nothing more comes from here
        self.shut = False  # nothing more goes there
        self.events = 0  # those it is watched for; 0: not at all


class Stream:
    """A client's connection and its continuation to a container."""

    def __init__(
        self,
        watch: Watch,
        client: _socket.socket,
        upstream: _socket.socket,
        over: Callable[[Stream], None],
    ) -> None:
        """`upstream` is being connected; `over` is called once, when both sides are closed."""
        self._watch = watch
        self._over = over
        self._client = Side(client, ready=True)
        self._upstream = Side(upstream, ready=False)
        self._closed = False
        for side in (self._client, self._upstream):
            side.opened.setblocking(False)
            side.opened.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
        self._heed()

    def forsake(self) -> None:
        """Its container goes: what it has said still goes to the client, for as long as it can be
        got; of a network that is gone nobody says that it is."""
        if self._upstream.opened.proto in (0, _socket.IPPROTO_TCP):
            for option, value in LAST_PROBES:
                self._upstream.opened.setsockopt(_socket.IPPROTO_TCP, option, value)

    def close(self, *, abort: bool = False) -> None:
        """Safe to call twice. With `abort` both sides get a reset."""
        if self._closed:
            return
        self._closed = True
        for side in (self._client, self._upstream):
            if side.events:
                self._watch.remove(side.fd)
            if abort:
                side.opened.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, ABORT)
            side.opened.close()
        self._over(self)

    def _heed(self) -> None:
        """Watch each side for what can be done with it now."""
        self._heed_side(self._client, self._upstream)
        self._heed_side(self._upstream, self._client)

    def _heed_side(self, side: Side, other: Side) -> None:
        wanted = 0
        if not side.ended and side.ready and other.ready and not other.waiting:
            wanted = select.EPOLLIN
        if side.waiting or not side.ready:
            wanted |= select.EPOLLOUT
        if wanted == side.events:
            return
        if not wanted:  # else a side that has hung up would be told of without end
            self._watch.remove(side.fd)
        elif side.events:
            self._watch.modify(side.fd, wanted)
        else:
            self._watch.add(side.fd, wanted, self._of_client if side is self._client else self._of)
        side.events = wanted

    def _of_client(self, events: int) -> None:
        self._act(self._client, self._upstream, events)

    def _of(self, events: int) -> None:
        if self._upstream.ready:
            self._act(self._upstream, self._client, events)
        elif self._upstream.opened.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self.close(abort=True)
        else:
            self._upstream.ready = True
            self._heed()

    def _act(self, side: Side, other: Side, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._flush(side)
            if events & (select.EPOLLIN | FAILED) and not side.ended and not other.waiting:
                self._carry(side, other)
        except BlockingIOError:
            pass
        except OSError:
            self.close(abort=True)
            return
        if side.ended and other.ended and not side.waiting and not other.waiting:
            self.close()
        else:
            self._heed()

    def _carry(self, side: Side, other: Side) -> None:
        count = side.opened.recv_into(_buffer)
        if not count:
            side.ended = True
            self._shut(other)
            return
        other.waiting = _buffer[:count]
        self._flush(other)
        if other.waiting:
            other.waiting = memoryview(bytes(other.waiting))  # the buffer is everybody's

    def _flush(self, side: Side) -> None:
        if side.waiting:
            try:
                side.waiting = side.waiting[side.opened.send(side.waiting) :]
            except BlockingIOError:
                return
        self._shut(side)

    def _shut(self, side: Side) -> None:
        """Tell a side that nothing more comes, once all that there was is written."""
        other = self._upstream if side is self._client else self._client
        if other.ended and not side.waiting and not side.shut:
            side.shut = True
            side.opened.shutdown(_socket.SHUT_WR)


def dial(family: int, protocol: int, target: tuple[str, int]) -> _socket.socket:
    """A connection to `target` that is being made. Raises OSError."""
    opened = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, protocol)
    try:
        opened.setblocking(False)
        if protocol == _socket.IPPROTO_TCP:
            opened.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        failure = opened.connect_ex(target)
        if failure and failure not in UNDER_WAY:
            raise OSError(failure, "connect")
    except BaseException:
        opened.close()
        raise
    return opened
