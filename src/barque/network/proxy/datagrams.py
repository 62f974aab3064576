"""Datagrams through the proxy: each client gets a socket of its own towards the container.

What the container answers goes back from the address that the client had asked. A client that says
nothing for a while is forgotten, and the one that was quiet longest when there are too many.
"""

from __future__ import annotations

import _socket
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from barque.network.readiness import Watch

    Address = tuple[str | int, ...]
    Flow = tuple[Address, bytes]  # a client, and the address of ours that it asked

IDLE_S: Final = 90.0
MAX_FLOWS: Final = 1024
DATAGRAM_BYTES: Final = 65536
ANCILLARY_BYTES: Final = 128
BATCH: Final = 64
IP_PKTINFO: Final = 8  # <linux/in.h>; _socket has it from Python 3.14 only


class Datagrams:
    """A published port of udp. `family` is that of `target`, the container's port."""

    def __init__(
        self, watch: Watch, opened: _socket.socket, family: int, target: tuple[str, int]
    ) -> None:
        self._watch = watch
        self._opened = opened
        self._family = family
        self._target = target
        self._sixth = opened.family == _socket.AF_INET6
        self._flows: dict[Flow, tuple[_socket.socket, float]] = {}  # the quietest first
        opened.setblocking(False)
        if self._sixth:
            opened.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_RECVPKTINFO, 1)
        else:
            opened.setsockopt(_socket.IPPROTO_IP, IP_PKTINFO, 1)
        watch.add(opened.fileno(), select.EPOLLIN, self._asked)

    def __len__(self) -> int:
        return len(self._flows)

    def expire(self, now: float) -> None:
        """Forget who said nothing for `IDLE_S`."""
        for flow, (_, last) in list(self._flows.items()):
            if now - last < IDLE_S:
                return
            self._forget(flow)

    def close(self) -> None:
        for flow in list(self._flows):
            self._forget(flow)
        self._watch.remove(self._opened.fileno())
        self._opened.close()

    def _forget(self, flow: Flow) -> None:
        opened, _ = self._flows.pop(flow)
        self._watch.remove(opened.fileno())
        opened.close()

    def _asked(self, _events: int) -> None:
        for _ in range(BATCH):
            try:
                data, ancillary, _, client = self._opened.recvmsg(DATAGRAM_BYTES, ANCILLARY_BYTES)
            except OSError:  # nothing more, or what became of an answer
                return
            flow = client, self._own_address(ancillary)
            try:
                self._towards(flow).send(data)
            except OSError:  # the container refuses, or is full: datagrams may be lost
                continue

    def _own_address(self, ancillary: list[tuple[int, int, bytes]]) -> bytes:
        """What an answer must say to leave from the address that was asked."""
        for level, kind, data in ancillary:
            if (level, kind) == (_socket.IPPROTO_IPV6, _socket.IPV6_PKTINFO):
                linked = data[:2] == b"\xfe\x80"
                return data if linked else data[:16] + bytes(4)
            if (level, kind) == (_socket.IPPROTO_IP, IP_PKTINFO):
                return bytes(4) + data[8:12] + bytes(4)
        return b""

    def _towards(self, flow: Flow) -> _socket.socket:
        known = self._flows.pop(flow, None)
        opened = known[0] if known else self._begin(flow)
        self._flows[flow] = opened, time.monotonic()
        return opened

    def _begin(self, flow: Flow) -> _socket.socket:
        if len(self._flows) >= MAX_FLOWS:
            self._forget(next(iter(self._flows)))
        kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC
        opened = _socket.socket(self._family, kind)
        try:
            opened.setblocking(False)
            opened.connect(self._target)
        except BaseException:
            opened.close()
            raise
        self._watch.add(opened.fileno(), select.EPOLLIN, lambda _events: self._answered(flow))
        return opened

    def _answered(self, flow: Flow) -> None:
        opened, _ = self._flows.pop(flow)
        self._flows[flow] = opened, time.monotonic()
        client, own = flow
        level, kind = (_socket.IPPROTO_IP, IP_PKTINFO)
        if self._sixth:
            level, kind = (_socket.IPPROTO_IPV6, _socket.IPV6_PKTINFO)
        ancillary = [(level, kind, own)] if own else []
        for _ in range(BATCH):
            try:
                data = opened.recv(DATAGRAM_BYTES)
                self._opened.sendmsg([data], ancillary, 0, client)
            except OSError:
                return
