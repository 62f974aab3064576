from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from barque import errors
from barque.network.ports import (
    HostPort,
    HostPorts,
    PortRequest,
    local_port_range,
    parse_bindings,
    parse_container_port,
)

LOOPBACK = IPv4Address("127.0.0.1")
ANY = IPv4Address("0.0.0.0")


@pytest.fixture
def ports() -> Iterator[HostPorts]:
    held = HostPorts(local_port_range())
    yield held
    held.close()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_bindings_are_read_as_docker_sends_them() -> None:
    found = parse_bindings(
        {
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": ""}],
            "53/udp": [{"HostPort": "5000-5010"}],
            "443": [{"HostPort": "0"}],
            "9/tcp": None,
        },
        ANY,
    )
    assert found == [
        PortRequest("tcp", 80, ANY, 8080, 8080, anywhere=True),
        PortRequest("tcp", 80, LOOPBACK, 0, 0),
        PortRequest("udp", 53, ANY, 5000, 5010, anywhere=True),
        PortRequest("tcp", 443, ANY, 0, 0, anywhere=True),
    ]


@pytest.mark.parametrize("key", ["0/tcp", "65536/tcp", "x/tcp", "80/foo", "", "-1", "8 0"])
def test_what_is_no_container_port_is_refused(key: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_container_port(key)


@pytest.mark.parametrize("port", ["x", "70000", "9-8", "1-", "-1", "99999999999"])
def test_what_is_no_host_port_is_refused(port: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_bindings({"80/tcp": [{"HostPort": port}]}, ANY)


@pytest.mark.parametrize("text", ["::1", "[::1]"])
def test_an_address_may_be_of_ipv6(text: str) -> None:
    (found,) = parse_bindings({"80/sctp": [{"HostIp": text, "HostPort": "90"}]}, ANY)
    assert found == PortRequest("sctp", 80, IPv6Address("::1"), 90, 90)
    assert str(HostPort("sctp", IPv6Address("::1"), 90)) == "[::1]:90"


def test_a_port_anywhere_is_held_of_both_families(ports: HostPorts) -> None:
    request = PortRequest("tcp", 80, ANY, 0, 0, anywhere=True)
    both = ports.reserve(request, sixth=True)
    number = both[0].port
    assert both == [HostPort("tcp", ANY, number), HostPort("tcp", IPv6Address("::"), number)]
    with pytest.raises(errors.BarqueError, match=r"Bind for \[::1\]:\d+ failed"):
        ports.reserve(PortRequest("tcp", 80, IPv6Address("::1"), number, number))
    for port in both:
        ports.release(port)
    assert ports.reserve(PortRequest("tcp", 80, IPv6Address("::1"), number, number))


def test_a_number_that_is_taken_of_ipv6_is_held_of_neither(ports: HostPorts) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(errors.BarqueError, match=f"listen tcp6 .*:{number}: bind"):
            ports.reserve(PortRequest("tcp", 80, ANY, number, number, anywhere=True), sixth=True)
        assert ports.reserve(PortRequest("tcp", 80, ANY, number, number))


def test_a_port_of_ours_is_not_given_twice(ports: HostPorts) -> None:
    number = free_port()
    request = PortRequest("tcp", 80, LOOPBACK, number, number)
    (held,) = ports.reserve(request)
    assert held == HostPort("tcp", LOOPBACK, number)
    with pytest.raises(
        errors.BarqueError, match=f"Bind for 127.0.0.1:{number} failed: port is already allocated"
    ):
        ports.reserve(request)
    with pytest.raises(errors.BarqueError, match="port is already allocated"):
        ports.reserve(PortRequest("tcp", 80, ANY, number, number))
    ports.release(held)
    ports.release(held)
    assert ports.reserve(request) == [held]


def test_another_programs_port_is_not_taken(ports: HostPorts) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(
            errors.BarqueError,
            match=rf"listen tcp4 127.0.0.1:{number}: bind: address already in use",
        ):
            ports.reserve(PortRequest("tcp", 80, LOOPBACK, number, number))


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_nobody_else_takes_a_port_of_ours(ports: HostPorts, protocol: str) -> None:
    (held,) = ports.reserve(PortRequest(protocol, 80, LOOPBACK, 0, 0))
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", held.port))
            with pytest.raises(OSError):
                other.listen()
        except OSError:
            pass


def test_an_address_of_another_machine_cannot_be_bound(ports: HostPorts) -> None:
    with pytest.raises(errors.BarqueError, match="bind: cannot assign requested address"):
        ports.reserve(PortRequest("tcp", 80, IPv4Address("192.0.2.77"), 8080, 8080))


def test_a_range_gives_the_first_that_is_free() -> None:
    first = free_port()
    ports = HostPorts((first, first + 2))
    request = PortRequest("tcp", 80, LOOPBACK, first, first + 40)
    got = {ports.reserve(request)[0].port for _ in range(3)}
    assert len(got) == 3
    ports.close()


def test_no_port_at_all_is_said_so() -> None:
    first = free_port(socket.SOCK_DGRAM)
    ports = HostPorts((first, first))
    assert ports.reserve(PortRequest("udp", 80, LOOPBACK, 0, 0))[0].port == first
    with pytest.raises(errors.BarqueError, match="all ports are allocated"):
        ports.reserve(PortRequest("udp", 80, LOOPBACK, 0, 0))
    ports.close()


def test_a_port_that_was_lost_to_another_program_is_adopted_without_a_socket() -> None:
    ports = HostPorts(local_port_range())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        held = HostPort("tcp", LOOPBACK, other.getsockname()[1])
        assert not ports.adopt(held)
        with pytest.raises(errors.BarqueError, match="already allocated"):
            ports.hold(held)
        ports.release(held)
    ports.close()
