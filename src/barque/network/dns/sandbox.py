"""The name server inside one network namespace: sockets on 127.0.0.11, answers, clients.

A program in the container may listen on port 53 of every address, so ours have ports of the
kernel's choice, and two rules inside the namespace lead 127.0.0.11:53 there.
"""

from __future__ import annotations

import _socket
import os
import select

from barque.linux import nfrules as nf
from barque.linux.namespaces import CLONE_NEWNET, setns
from barque.linux.netlink import NETLINK_NETFILTER, Netlink
from barque.linux.nfnetlink import transaction
from barque.network.dns import wire
from barque.network.dns.upstream import Forward

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from barque.linux.netlink import Message
    from barque.network.dns.upstream import Server, Upstream, Watch
    from barque.network.dns.zone import Zone

ADDRESS: Final = "127.0.0.11"
TABLE: Final = "barque_dns"
RECEIVE_BUFFER_BYTES: Final = 4 << 20
BATCH: Final = 64  # questions answered before the others' turn
MAX_CACHED: Final = 1024
MAX_CLIENTS: Final = 64
MAX_QUERY_BYTES: Final = 4096
BACKLOG: Final = 64
SO_RCVBUFFORCE: Final = 33
_PROTOCOLS: Final = ((17, "udp"), (6, "tcp"))


class Rotation:
    """An answer without its id, one for each order of its addresses, in turns."""

    __slots__ = ("_answers", "_turn")

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._turn = 0

    def next(self) -> bytes:
        answers = self._answers
        if len(answers) == 1:
            return answers[0]
        self._turn = (self._turn + 1) % len(answers)
        return answers[self._turn]


class Client:
    """A TCP connection of a program in the container."""

    __slots__ = ("incoming", "outgoing", "socket")

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.incoming = b""
        self.outgoing = b""


class Resolver:
    """`servers` answer what is no container's name; none: there is no way out."""

    def __init__(
        self,
        sandbox: str,
        path: str,
        *,
        zone: Zone,
        watch: Watch,
        upstream: Upstream,
        home: int,
    ) -> None:
        """Open the sockets and load the rules. Raises OSError; nothing is then left."""
        self.sandbox = sandbox
        self.servers: Sequence[Server] = ()
        self._zone = zone
        self._watch = watch
        self._upstream = upstream
        self._cache: dict[bytes, Rotation] = {}
        self._clients: dict[int, Client] = {}
        self._namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._udp: _socket.socket | None = None
        self._tcp: _socket.socket | None = None
        try:
            setns(self._namespace, CLONE_NEWNET)
            try:
                self._listen()
            finally:
                setns(home, CLONE_NEWNET)
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        kind = _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self._udp = udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | kind)
        try:
            udp.setsockopt(_socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        udp.bind((ADDRESS, 0))
        self._tcp = tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | kind)
        tcp.bind((ADDRESS, 0))
        tcp.listen(BACKLOG)
        netlink = Netlink(NETLINK_NETFILTER)
        try:
            transaction(netlink, *_rules(udp.getsockname()[1], tcp.getsockname()[1]))
        finally:
            netlink.close()
        self._watch.add(udp.fileno(), select.EPOLLIN, self._questions)
        self._watch.add(tcp.fileno(), select.EPOLLIN, self._accept)

    def close(self) -> None:
        """Let go of the namespace. Safe to run twice."""
        for client in list(self._clients.values()):
            self._part(client)
        for listening in (self._udp, self._tcp):
            if listening is not None and listening.fileno() >= 0:
                self._watch.remove(listening.fileno())
                listening.close()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def forget_answers(self) -> None:
        """Some name has changed its meaning."""
        self._cache.clear()

    # -- udp

    def _questions(self, _events: int) -> None:
        assert self._udp is not None
        receive, send, known = self._udp.recvfrom, self._udp.sendto, self._cache.get
        for _ in range(BATCH):
            try:
                packet, peer = receive(MAX_QUERY_BYTES)
            except OSError:  # no more; or an answer could not be delivered (ICMP)
                return
            rotation = known(packet[2:])
            if rotation is None:
                self._answer_datagram(packet, peer)
                continue
            try:
                send(packet[:2] + rotation.next(), peer)
            except OSError:  # the asker's buffer is full: it asks again
                continue

    def _answer_datagram(self, packet: bytes, peer: tuple[str, int]) -> None:
        def reply(answer: bytes) -> None:
            if self._udp is None or self._udp.fileno() < 0:
                return
            try:
                self._udp.sendto(answer, peer)
            except OSError:
                return

        query = _parse(packet, reply)
        if query is None:
            return
        answers = self._local(query, query.limit)
        if answers is None:
            self._pass_on(query, reply, stream=False)
            return
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        rotation = Rotation([answer[2:] for answer in answers])
        self._cache[packet[2:]] = rotation
        reply(packet[:2] + rotation.next())

    def _local(self, query: wire.Query, limit: int) -> list[bytes] | None:
        """Our own answers, one for each order of their records; None when it is not ours."""
        records = self._zone.answers(self.sandbox, query)
        if records is None:
            return None
        turns = [records[turn:] + records[:turn] for turn in range(max(1, len(records)))]
        return [query.answer(turn, limit=limit) for turn in turns]

    def _pass_on(self, query: wire.Query, reply: _Reply, *, stream: bool) -> None:
        forward = Forward(query, self.servers, self._namespace, reply, stream=stream)
        self._upstream.ask(forward)

    # -- tcp

    def _accept(self, _events: int) -> None:
        assert self._tcp is not None
        try:
            fd, _ = self._tcp._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        opened = _socket.socket(fileno=fd)
        opened.setblocking(False)
        if len(self._clients) >= MAX_CLIENTS:
            self._part(next(iter(self._clients.values())))
        client = self._clients[fd] = Client(opened)
        self._watch.add(fd, select.EPOLLIN, lambda events: self._stream(client, events))

    def _stream(self, client: Client, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._write(client)
                return
            part = client.socket.recv(MAX_QUERY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._part(client)
            return
        client.incoming += part
        self._take_queries(client)

    def _take_queries(self, client: Client) -> None:
        while len(client.incoming) >= 2:
            size = int.from_bytes(client.incoming[:2], "big")
            if size > MAX_QUERY_BYTES:
                self._part(client)
                return
            if len(client.incoming) < 2 + size:
                return
            packet, client.incoming = client.incoming[2 : 2 + size], client.incoming[2 + size :]
            self._answer_stream(client, packet)

    def _answer_stream(self, client: Client, packet: bytes) -> None:
        def reply(answer: bytes) -> None:
            if client.socket.fileno() in self._clients:
                client.outgoing += len(answer).to_bytes(2, "big") + answer
                self._write(client)

        query = _parse(packet, reply)
        if query is None:
            return
        answers = self._local(query, 65535)
        if answers is None:
            self._pass_on(query, reply, stream=True)
        else:
            reply(answers[0])

    def _write(self, client: Client) -> None:
        try:
            sent = client.socket.send(client.outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._part(client)
            return
        client.outgoing = client.outgoing[sent:]
        events = select.EPOLLOUT if client.outgoing else select.EPOLLIN
        self._watch.modify(client.socket.fileno(), events)

    def _part(self, client: Client) -> None:
        fd = client.socket.fileno()
        if self._clients.pop(fd, None) is not None:
            self._watch.remove(fd)
            client.socket.close()


if TYPE_CHECKING:
    from collections.abc import Callable

    _Reply = Callable[[bytes], None]


def _parse(packet: bytes, reply: _Reply) -> wire.Query | None:
    """The query in `packet`; None, and answered as far as that is due, when it is none."""
    try:
        query = wire.Query(packet)
    except wire.FormError:
        if len(packet) >= wire.HEADER_BYTES and not packet[2] & 0x80:
            flags = bytes((0x80 | packet[2] & 1, 0x80 | wire.FORMAT_ERROR))
            reply(packet[:2] + flags + bytes(8))
        return None
    if not query.supported:
        reply(query.answer(limit=wire.MIN_UDP_BYTES, code=wire.NOT_IMPLEMENTED))
        return None
    return query


def _rules(udp: int, tcp: int) -> list[Message]:
    """The table anew: from 127.0.0.11:53 to these ports."""
    family, address = nf.NFPROTO_IPV4, bytes(map(int, ADDRESS.split(".")))
    messages = [
        nf.add_table(family, TABLE),
        nf.delete_table(family, TABLE),
        nf.add_table(family, TABLE),
        nf.add_nat_chain(family, TABLE, "output", nf.HOOK_LOCAL_OUT, nf.PRIORITY_NAT_DST),
    ]
    for (number, _), port in zip(_PROTOCOLS, (udp, tcp), strict=True):
        messages.append(
            nf.add_rule(
                family,
                TABLE,
                "output",
                nf.payload(nf.NETWORK_HEADER, 16, 4),
                nf.compare(address),
                nf.meta(nf.META_L4PROTO),
                nf.compare(bytes((number,))),
                nf.payload(nf.TRANSPORT_HEADER, 2, 2),
                nf.compare(b"\0\x35"),
                *nf.dnat(family, address, port),
            )
        )
    return messages
