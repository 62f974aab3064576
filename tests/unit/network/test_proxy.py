"""The proxy's server on loopback: what it is asked by a daemon, and what it carries."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from barque import errors
from barque.daemon.proxy_link import ProxyLink, str_of
from barque.network.ports import HostPort
from barque.network.proxy.datagrams import MAX_FLOWS
from barque.network.proxy.server import Server
from barque.program import command

LIMIT_S = 20.0
LARGE = 40 << 20


@pytest.fixture
def link() -> Iterator[ProxyLink]:
    """To a proxy of its own, a process that leaves when the link is closed."""
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as root:
        made = ProxyLink(Path(root), command("barque-proxy", root))
        yield made
        for name in made.find():
            made.drop(name)
        made.close()
        made.reap()
        assert (Path(root) / "proxy.log").read_bytes() == b""


def listening() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.settimeout(LIMIT_S)
    return made


def published(link: ProxyLink, target: tuple[str, int], kind: str = "tcp") -> tuple[str, int]:
    """Where the proxy serves `target` from now on."""
    family = socket.AF_INET6
    if kind == "tcp":
        held = socket.create_server(("::1", 0), family=family)
    else:
        held = socket.socket(family, socket.SOCK_DGRAM)
        held.bind(("::1", 0))
    with held:
        address: tuple[str, int] = held.getsockname()[:2]
        link.put(HostPort(kind, ip_address("::1"), address[1]), held, target)
    return address


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, LIMIT_S)


def heard(opened: socket.socket) -> bytes:
    parts = bytearray()
    while part := opened.recv(1 << 16):
        parts += part
    return bytes(parts)


def test_each_side_may_end_before_the_other(link: ProxyLink) -> None:
    with listening() as upstream, connected(published(link, upstream.getsockname())) as client:
        inside, _ = upstream.accept()
        with inside:
            inside.settimeout(LIMIT_S)
            inside.sendall(b"hello")
            inside.shutdown(socket.SHUT_WR)
            assert heard(client) == b"hello"
            client.sendall(b"still here")
            client.shutdown(socket.SHUT_WR)
            assert heard(inside) == b"still here"


def test_who_does_not_read_holds_back_who_writes(link: ProxyLink) -> None:
    said = os.urandom(1 << 20) * (LARGE >> 20)
    with listening() as upstream, connected(published(link, upstream.getsockname())) as client:
        inside, _ = upstream.accept()
        with inside:
            writer = threading.Thread(target=inside.sendall, args=(said,))
            writer.start()
            client.sendall(b"the other way is free")
            inside.settimeout(LIMIT_S)
            assert inside.recv(100) == b"the other way is free"
            assert writer.is_alive()  # more than all buffers on the way hold
            received = bytearray()
            while len(received) < LARGE:
                received += client.recv(1 << 16)
            writer.join(LIMIT_S)
    assert received == said


def test_a_container_that_refuses_or_resets_is_told_as_a_reset(link: ProxyLink) -> None:
    with listening() as upstream:
        address = published(link, upstream.getsockname())
        with connected(address) as client:
            inside, _ = upstream.accept()
            linger = (1).to_bytes(4, "little") + bytes(4)
            inside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            inside.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    # the kernel has taken the connection: the reset may come before connect(2) returns, or after
    with pytest.raises(ConnectionResetError), connected(address) as client:
        client.recv(1)


def test_connections_outlive_their_port_while_the_container_speaks(link: ProxyLink) -> None:
    with listening() as upstream:
        address = published(link, upstream.getsockname())
        with connected(address) as client:
            inside, _ = upstream.accept()
            link.drop(str_of(HostPort("tcp", ip_address("::1"), address[1])))
            with pytest.raises(ConnectionRefusedError):
                connected(address)
            inside.sendall(b"last words")
            inside.close()
            assert heard(client) == b"last words"


def test_each_client_of_a_datagram_port_gets_its_own_answers(link: ProxyLink) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind(("127.0.0.1", 0))
        upstream.settimeout(LIMIT_S)
        address = published(link, upstream.getsockname(), "udp")
        clients = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(3)]
        try:
            for number, client in enumerate(clients):
                client.settimeout(LIMIT_S)
                client.connect(address)
                client.send(bytes([number]))
            asked = [upstream.recvfrom(10) for _ in clients]
            assert len({where for _, where in asked}) == len(clients)
            for what, where in asked:
                upstream.sendto(b"answer to " + what, where)
            for number, client in enumerate(clients):
                assert client.recv(100) == b"answer to " + bytes([number])
        finally:
            for client in clients:
                client.close()


def test_more_clients_than_are_kept_are_served(link: ProxyLink) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind(("127.0.0.1", 0))
        upstream.settimeout(LIMIT_S)
        address = published(link, upstream.getsockname(), "udp")
        for _ in range(MAX_FLOWS + 10):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.settimeout(LIMIT_S)
                client.connect(address)
                client.send(b"?")
                upstream.sendto(b"!", upstream.recvfrom(10)[1])
                assert client.recv(10) == b"!"


def test_a_port_is_found_again_and_given_back(link: ProxyLink) -> None:
    with listening() as upstream:
        address = published(link, upstream.getsockname())
        port = HostPort("tcp", ip_address("::1"), address[1])
        link.close()
        assert link.find() == [str_of(port)]
        with link.give(port) as held:
            assert held.getsockname()[:2] == address
        with connected(address) as client:
            inside, _ = upstream.accept()
            inside.close()
            assert heard(client) == b""
        link.drop(str_of(port))
        link.drop(str_of(port))
        assert link.find() == []


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b"{}",
        b'{"op": "fly"}',
        b'{"op": "give", "port": "tcp [::1]:1"}',
        b'{"op": "put", "port": "tcp [::1]:1", "target": ["::1", 1]}',
        b'{"op": "drop"}',
    ],
)
def test_what_is_no_request_is_said_to_be_none(line: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as root:
        control = socket.socket(socket.AF_UNIX)
        control.bind(f"{root}/s")
        control.listen()
        served = threading.Thread(target=Server(control).run)
        served.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_S)
            client.connect(f"{root}/s")
            client.sendall(line + b"\n")
            assert json.loads(client.recv(4096))["error"].startswith("bad request")
        served.join(LIMIT_S)  # nobody is served, and no daemon connected
        assert not served.is_alive()
        control.close()


def test_a_proxy_that_is_not_there_is_said_so(link: ProxyLink) -> None:
    assert link.find() == []
    with pytest.raises(OSError, match="is not there"):
        link.drop("tcp [::1]:1")
    with listening() as upstream:
        published(link, upstream.getsockname())
        with pytest.raises(errors.BarqueError, match="bad request"):
            link.give(HostPort("udp", ip_address("::1"), 1))
