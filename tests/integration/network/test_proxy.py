"""Host ports that no rule leads on: ::1, IPv6 to containers of IPv4, and no rules at all.

The host is a network namespace of its own; what answers tells whom it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.service import Networks
from barque.linux.namespaces import CLONE_NEWNET, setns
from barque.network.options import NetworkOptions
from tests.support.netns_host import Neighbour, ask, isolated, server, temporary_root
from tests.support.networks import BRIDGE, networks
from tests.support.runtimes import wait_for, wait_gone

pytestmark = pytest.mark.root
PORTS = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
SIX = {"Name": "six", "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00:6::/64"}]}}
WITH_PROXY = NetworkOptions(bridge=BRIDGE, proxy=True)
LIMIT_S = 20.0


async def attach(made: Networks, mode: str = "", ports: Any = None) -> Any:
    return await made.attach("one", "one", "host-one", mode, ports=ports or PORTS)


async def asked(address: str, port: int = 8080, protocol: str = "tcp") -> str:
    """What a caller on this host is answered, while the daemon's loop goes on."""
    return await asyncio.to_thread(ask, address, port, protocol=protocol)


def proxies(root: Path) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"barque-proxy" in line and str(root).encode() in line:
            found.append(int(pid))
    return found


def kill_proxy(root: Path) -> None:
    (pid,) = proxies(root)
    os.kill(pid, signal.SIGKILL)


@contextmanager
def connected(address: str, port: int = 8080) -> Iterator[socket.socket]:
    with socket.create_connection((address, port), LIMIT_S) as opened:
        yield opened


def bound(sandbox: Any) -> list[tuple[str, str]]:
    return [
        (one["HostIp"], one["HostPort"])
        for entries in sandbox.settings["Ports"].values()
        for one in entries or ()
    ]


@isolated
def test_a_port_is_reached_at_every_address_of_the_host() -> None:
    async def scenario(root: Path) -> None:
        near = Neighbour("wire0", "192.0.2")
        _, ours = near.add_ipv6("2001:db8:1")
        try:
            async with networks(root, WITH_PROXY) as made:
                one = await attach(made)
                assert bound(one) == [("0.0.0.0", "8080"), ("::", "8080")]
                gateway = one.settings["Gateway"]
                with server("one", 80, netns=one.netns):
                    assert await asked("127.0.0.1") == f"one {gateway}"
                    assert not proxies(root)  # nobody has needed it yet
                    for address in ("::1", ours, "::ffff:127.0.0.1"):
                        assert await asked(address) == f"one {gateway}", address
                    far = await asyncio.to_thread(ask, ours, 8080, netns=near.netns)
                    assert far == f"one {gateway}"
                assert len(proxies(root)) == 1
                await made.detach("one")
                assert (await asked("::1")).endswith("Connection refused")
            wait_for(lambda: not proxies(root))
        finally:
            near.close()

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_of_a_container_with_both_families_only_loopback_needs_the_proxy() -> None:
    async def scenario(root: Path) -> None:
        near = Neighbour("wire0", "192.0.2")
        theirs, ours = near.add_ipv6("2001:db8:1")
        try:
            async with networks(root, WITH_PROXY) as made:
                await made.create(SIX)
                one = await attach(made, "six")
                with server("one", 80, netns=one.netns, address="::"):
                    far = await asyncio.to_thread(ask, ours, 8080, netns=near.netns)
                    assert far == f"one {theirs}"  # the caller is seen
                    assert not proxies(root)
                    assert await asked("::1") == "one fd00:6::1"
                await made.detach("one")
        finally:
            near.close()

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_datagrams_go_both_ways_from_the_address_that_was_asked() -> None:
    async def scenario(root: Path) -> None:
        near = Neighbour("wire0", "192.0.2")
        _, ours = near.add_ipv6("2001:db8:1")
        try:
            async with networks(root, WITH_PROXY) as made:
                one = await attach(made, ports={"53/udp": [{"HostPort": "5353"}]})
                gateway = one.settings["Gateway"]
                with server("one", 53, netns=one.netns, protocol="udp"):
                    for address in ("::1", ours, "127.0.0.1"):
                        assert await asked(address, 5353, "udp") == f"one {gateway}", address
                    far = await asyncio.to_thread(ask, ours, 5353, netns=near.netns, protocol="udp")
                    assert far == f"one {gateway}"
                await made.detach("one")
        finally:
            near.close()

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_without_rules_the_proxy_serves_ipv4_too() -> None:
    async def scenario(root: Path) -> None:
        options = NetworkOptions(bridge=BRIDGE, proxy=True, firewall=False)
        ports = {**PORTS, "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}]}
        async with networks(root, options) as made:
            one = await attach(made, ports=ports)
            gateway = one.settings["Gateway"]
            with server("one", 80, netns=one.netns):
                assert await asked("127.0.0.1") == f"one {gateway}"
                assert await asked("::1") == f"one {gateway}"
            with server("two", 53, netns=one.netns, protocol="udp"):
                assert await asked("127.0.0.1", 5353, "udp") == f"two {gateway}"
            await made.detach("one")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_a_named_ipv6_address_needs_the_proxy_and_is_refused_without() -> None:
    ports = {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}

    async def refused(root: Path) -> None:
        async with networks(root) as made:
            with pytest.raises(errors.Unsupported, match="in no IPv6 network"):
                await attach(made, ports=ports)

    async def served(root: Path) -> None:
        async with networks(root, WITH_PROXY) as made:
            one = await attach(made, ports=ports)
            assert bound(one) == [("::1", "8080")]
            with server("one", 80, netns=one.netns):
                assert await asked("::1") == f"one {one.settings['Gateway']}"
                assert (await asked("127.0.0.1")).endswith("Connection refused")
            await made.detach("one")

    for scenario in (refused, served):
        with temporary_root() as root:
            asyncio.run(scenario(root))


def _take(other: socket.socket) -> None:
    other.bind(("::", 8080))
    other.listen()


@isolated
def test_nobody_else_gets_a_port_before_or_after_the_proxy_has_it() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root, WITH_PROXY) as made:
            one = await attach(made)
            for _ in range(2):
                with socket.socket(socket.AF_INET6) as other:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    with pytest.raises(OSError, match="Address already in use"):
                        _take(other)
                with server("one", 80, netns=one.netns):
                    assert (await asked("::1")).startswith("one ")
            await made.detach("one")
            with socket.create_server(("::", 8080), family=socket.AF_INET6):
                pass
            again = await attach(made)
            with server("two", 80, netns=again.netns):
                assert (await asked("::1")).startswith("two ")
            await made.detach("one")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_a_proxy_that_is_killed_has_a_successor() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root, WITH_PROXY) as made:
            one = await attach(made)
            with server("one", 80, netns=one.netns):
                for _ in range(3):
                    assert (await asked("::1")).startswith("one ")
                    kill_proxy(root)
                assert (await asked("::1")).startswith("one ")
                kill_proxy(root)
            await made.detach("one")
        wait_for(lambda: not proxies(root))

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_connections_outlive_the_daemon_and_the_next_one_takes_the_ports_back() -> None:
    async def first(root: Path) -> Any:
        async with networks(root, WITH_PROXY) as made:
            one = await attach(made)
            with server("one", 80, netns=one.netns):
                assert (await asked("::1")).startswith("one ")
            return one

    async def second(root: Path, one: Any, *, live: bool) -> None:
        async with networks(root, WITH_PROXY, ["one"] if live else []):
            with server("two", 80, netns=one.netns if live else None):
                words = await asked("::1")
                assert words.startswith("two ") if live else words.endswith("Connection refused")
            if live:
                (pid,) = proxies(root)
                kill_proxy(root)
                await asyncio.to_thread(wait_gone, pid)
                with server("three", 80, netns=one.netns):
                    assert (await asked("::1")).startswith("three ")

    with temporary_root() as root:
        one = asyncio.run(first(root))
        with server("between", 80, netns=one.netns):
            assert ask("::1", 8080).startswith("between ")  # no daemon is there
        asyncio.run(second(root, one, live=True))
        (pid,) = proxies(root)
        asyncio.run(second(root, one, live=False))
        wait_gone(pid)


SAID = 3 << 20


def _sink(listening: socket.socket) -> int:
    """Reads all, then answers it from the start, as one that half-closes expects."""
    opened, _ = listening.accept()
    with opened:
        read = bytearray()
        while part := opened.recv(1 << 16):
            read += part
        opened.sendall(read)
    return len(read)


@isolated
def test_all_that_is_said_arrives_and_half_closing_is_no_end() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root, WITH_PROXY) as made:
            one = await attach(made)
            with _listening_in(one.netns) as listening:
                sink = asyncio.create_task(asyncio.to_thread(_sink, listening))
                said = os.urandom(SAID)
                assert await asyncio.to_thread(_converse, said) == said
                assert await sink == len(said)
            with pytest.raises(ConnectionError):  # nobody listens there now
                await asyncio.to_thread(_converse, b"?")
            await made.detach("one")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_connections_end_with_a_network_that_says_nothing_any_more() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root, WITH_PROXY) as made:
            one = await attach(made)
            with _listening_in(one.netns) as listening, contextlib.ExitStack() as clients:
                quiet, busy = (clients.enter_context(connected("::1")) for _ in range(2))
                for _ in range(2):
                    inside, _ = await asyncio.to_thread(listening.accept)
                    clients.enter_context(inside)
                await made.detach("one")
                busy.sendall(b"?")
                for client in (quiet, busy):
                    with contextlib.suppress(ConnectionResetError):
                        assert await asyncio.to_thread(client.recv, 1) == b""
        wait_for(lambda: not proxies(root))

    with temporary_root() as root:
        asyncio.run(scenario(root))


def _converse(said: bytes) -> bytes:
    with connected("::1") as opened:
        opened.sendall(said)
        opened.shutdown(socket.SHUT_WR)
        heard = bytearray()
        while part := opened.recv(1 << 16):
            heard += part
        if not heard:
            raise ConnectionResetError
    return bytes(heard)


@contextmanager
def _listening_in(netns: str) -> Iterator[socket.socket]:
    """A socket of the namespace, which this thread enters for a moment."""
    with open("/proc/thread-self/ns/net", "rb") as home, open(netns, "rb") as there:
        setns(there.fileno(), CLONE_NEWNET)
        try:
            listening = socket.create_server(("0.0.0.0", 80))
        finally:
            setns(home.fileno(), CLONE_NEWNET)
    with listening:
        yield listening
