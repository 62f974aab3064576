"""Networks of both families: addresses, ways out and in, names, removal, restart, hostile routers.

The host is a network namespace, its neighbours are others; iproute2 and nft are the oracles.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from contextlib import ExitStack
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.service import Networks
from barque.network.options import NetworkOptions
from tests.support.netns_host import (
    Neighbour,
    ask,
    attempt,
    isolated,
    run,
    server,
    temporary_root,
)
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
LAN, LAN6 = "192.0.2", "2001:db8:1"
PORTS = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
SIX = {"Name": "six", "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00:6::/64"}]}}
FORWARD = "import socket,sys; print(socket.getaddrinfo(sys.argv[1], 0, 10)[0][4][0])"
REVERSE = "import socket,sys; print(socket.getnameinfo((sys.argv[1], 0), 0)[0])"


async def attach(made: Networks, name: str, mode: str = "six", **named: Any) -> Any:
    return await made.attach(name, name, f"host-{name}", mode, **named)


def place(sandbox: Any, network: str = "six") -> Any:
    return sandbox.settings["Networks"][network]


def addresses(link: str, netns: str | None = None) -> set[str]:
    """Of IPv6, but for link-local ones, as iproute2 sees them."""
    (found,) = json.loads(run("ip", "-6", "-j", "addr", "show", "dev", link, netns=netns)) or [{}]
    return {
        f"{one['local']}/{one['prefixlen']}"
        for one in found.get("addr_info", [])
        if one["scope"] == "global"
    }


def default_routes(netns: str) -> list[str]:
    listed = json.loads(run("ip", "-6", "-j", "route", "show", "default", netns=netns))
    return [one["gateway"] for one in listed]


@isolated
def test_places_have_addresses_of_both_families_and_give_them_back() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            one = await attach(made, "one")
            found = place(one)
            assert (found["GlobalIPv6Address"], found["GlobalIPv6PrefixLen"]) == ("fd00:6::2", 64)
            assert found["IPv6Gateway"] == "fd00:6::1"
            assert addresses("eth0", one.netns) == {"fd00:6::2/64"}
            assert default_routes(one.netns) == ["fd00:6::1"]
            assert one.hosts.endswith("fd00:6::2\thost-one\n")
            member = made.inspect("six")["Containers"]["one"]
            assert member["IPv6Address"] == "fd00:6::2/64"
            record = made.inspect("six")
            assert record["EnableIPv6"] is True
            assert addresses(f"br-{record['Id'][:12]}") == {"fd00:6::1/64"}
            fixed = {"six": {"IPAMConfig": {"IPv6Address": "fd00:6::99"}}}
            two = await attach(made, "two", endpoints=fixed)
            assert place(two)["GlobalIPv6Address"] == "fd00:6::99"
            assert place(two)["IPAMConfig"] == {"IPv6Address": "fd00:6::99"}
            with pytest.raises(errors.Forbidden, match="Address already in use"):
                await attach(made, "three", endpoints=fixed)
            with server("two", 80, netns=two.netns, address="fd00:6::99"):
                assert ask("fd00:6::99", 80, netns=one.netns) == "two fd00:6::2"
            await made.detach("one")
            await made.detach("two")
            again = await attach(made, "three", endpoints=fixed)
            await made.detach("three")
            assert place(again)["GlobalIPv6Address"] == "fd00:6::99"
            await made.remove("six")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_what_is_not_possible_is_refused() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            with pytest.raises(errors.Forbidden, match="Pool overlaps"):
                await made.create({**SIX, "Name": "other"})
            await made.create({"Name": "chosen", "EnableIPv6": True})
            await made.create({"Name": "four"})
            for name, words in (("chosen", "user configured subnets"), ("four", "has no IPv6")):
                settings = {name: {"IPAMConfig": {"IPv6Address": "fd00:6::9"}}}
                with pytest.raises(errors.InvalidArgument, match=words):
                    await attach(made, "c", endpoints=settings)
            with pytest.raises(errors.Unsupported, match="in no IPv6 network"):
                await attach(made, "c", "four", ports={"80/tcp": [{"HostIp": "::1"}]})
            assert not made.attached("c")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_subnets_that_nobody_chose_are_local_and_differ() -> None:
    async def scenario(root: Path) -> list[IPv6Network]:
        async with networks(root) as made:
            found = []
            for name in ("a", "b"):
                await made.create({"Name": name, "EnableIPv6": True})
                found.append(IPv6Network(made.inspect(name)["IPAM"]["Config"][1]["Subnet"]))
            return found

    with temporary_root() as root:
        first, second = asyncio.run(scenario(root))
        assert first != second
        assert all(
            n.subnet_of(IPv6Network("fd00::/8")) and n.prefixlen == 64 for n in (first, second)
        )


@isolated
def test_the_way_out_and_published_ports() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", LAN)
        stack.callback(lan.close)
        theirs, ours = lan.add_ipv6(LAN6)
        lan.run("ip", "route", "add", "fd00:6::/64", "via", ours)
        stack.enter_context(server("lan", 90, netns=lan.netns, address=theirs))
        async with networks(root) as made:
            await made.create(SIX)
            web = await attach(made, "web", ports={**PORTS, "81/tcp": None})
            stack.enter_context(server("web", 80, netns=web.netns, address="::"))
            stack.enter_context(server("shut", 81, netns=web.netns, address="::"))
            published = web.settings["Ports"]["80/tcp"]
            assert published == [
                {"HostIp": "0.0.0.0", "HostPort": "8080"},
                {"HostIp": "::", "HostPort": "8080"},
            ]
            assert ask(theirs, 90, netns=web.netns) == f"lan {ours}"
            assert ask(ours, 8080, netns=lan.netns) == f"web {theirs}"
            assert ask(ours, 8080) == f"web {ours}"
            assert ask(ours, 8080, netns=web.netns).startswith("web ")
            assert ask("fd00:6::2", 80) == "web fd00:6::1"
            for port in (80, 81):
                words = ask("fd00:6::2", port, netns=lan.netns, timeout_s=0.5)
                assert words.startswith("failed")
            await made.detach("web")
            assert ask(ours, 8080, netns=lan.netns, timeout_s=0.5).startswith("failed")
            one = await attach(made, "one", ports={"80/udp": [{"HostIp": ours, "HostPort": "53"}]})
            stack.enter_context(server("dns", 80, netns=one.netns, address="::", protocol="udp"))
            assert ask(ours, 53, netns=lan.netns, protocol="udp") == f"dns {theirs}"
            await made.detach("one")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_networks_do_not_reach_each_other_and_internal_ones_nobody() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", LAN)
        stack.callback(lan.close)
        theirs, _ = lan.add_ipv6(LAN6)
        stack.enter_context(server("lan", 90, netns=lan.netns, address=theirs))
        async with networks(root) as made:
            await made.create(SIX)
            await made.create({"Name": "b", "EnableIPv6": True})
            await made.create({"Name": "inner", "EnableIPv6": True, "Internal": True})
            one, b = await attach(made, "one"), await attach(made, "two", "b")
            inner = await attach(made, "three", "inner")
            stack.enter_context(server("one", 80, netns=one.netns, address="::"))
            assert ask("fd00:6::2", 80, netns=b.netns, timeout_s=0.5).startswith("failed")
            gateway = made.inspect("inner")["IPAM"]["Config"][1]["Gateway"]
            run("ip", "-6", "route", "add", "default", "via", gateway, netns=inner.netns)
            for target, port in ((theirs, 90), ("fd00:6::2", 80)):
                words = ask(target, port, netns=inner.netns, timeout_s=0.5)
                assert words.startswith("failed")
            for name in ("one", "two", "three"):
                await made.detach(name)

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_names_have_ipv6_addresses_and_addresses_names() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            one, _ = await attach(made, "one"), await attach(made, "two")
            resolv = root / "resolv.conf"
            resolv.write_text(one.resolv_conf)
            inside = ("nsenter", f"--net={one.netns}", "unshare", "-m", "sh", "-c")
            mount = f"mount --bind {resolv} /etc/resolv.conf && "
            look = f'{mount} exec {sys.executable} -S -c "$1" "$2"'
            assert run(*inside, look, "-", FORWARD, "two").strip() == "fd00:6::3"
            assert run(*inside, look, "-", REVERSE, "fd00:6::3").strip() == "two.six"
            await made.detach("one")
            await made.detach("two")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_joining_and_leaving_while_running_moves_the_way_out() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            await made.create({"Name": "four"})
            await made.create({"Name": "more", "EnableIPv6": True})
            one = await attach(made, "one", "four")
            assert not addresses("eth0", one.netns)
            assert default_routes(one.netns) == []
            await made.connect("six", "one", {})
            assert default_routes(one.netns) == ["fd00:6::1"]
            await made.connect("more", "one", {})
            assert default_routes(one.netns) == ["fd00:6::1"]
            await made.disconnect("six", "one")
            gateway = made.inspect("more")["IPAM"]["Config"][1]["Gateway"]
            assert default_routes(one.netns) == [gateway]
            assert "six" not in made.settings("one")["Networks"]
            await made.remove("six")
            await made.detach("one")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_a_restart_keeps_places_ports_and_rules() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", LAN)
        stack.callback(lan.close)
        theirs, ours = lan.add_ipv6(LAN6)
        async with networks(root) as made:
            await made.create(SIX)
            web = await attach(made, "web", ports=PORTS)
            stack.enter_context(server("web", 80, netns=web.netns, address="::"))
        bridge = f"br-{place(web)['NetworkID'][:12]}"
        run("ip", "addr", "del", "fd00:6::1/64", "dev", bridge)
        run("ip", "addr", "add", "fd00:7::1/64", "dev", bridge)
        run("nft", "flush", "ruleset")
        async with networks(root, live=["web"]) as made:
            assert addresses(bridge) == {"fd00:6::1/64"}
            assert made.settings("web")["Ports"] == web.settings["Ports"]
            assert ask(ours, 8080, netns=lan.netns) == f"web {theirs}"
            other = await attach(made, "other")
            assert place(other)["GlobalIPv6Address"] == "fd00:6::3"
            with pytest.raises(errors.BarqueError, match="port is already allocated"):
                await attach(made, "third", ports={"1/tcp": [{"HostIp": "::", "HostPort": "8080"}]})
            await made.detach("web")
            await made.detach("other")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_the_default_network_has_ipv6_when_asked() -> None:
    async def scenario(root: Path) -> None:
        options = NetworkOptions(bridge=BRIDGE, ipv6=True, fixed_cidr_v6="fd00:d::/64")
        async with networks(root, options) as made:
            one = await attach(made, "one", "bridge")
            assert addresses("eth0", one.netns) == {"fd00:d::2/64"}
            assert one.settings["GlobalIPv6Address"] == "fd00:d::2"
            assert made.inspect("bridge")["EnableIPv6"] is True
            await made.detach("one")
        async with networks(root, NetworkOptions(bridge=BRIDGE, ipv6=True)) as made:
            assert made.inspect("bridge")["IPAM"]["Config"][1]["Subnet"] == "fd00:d::/64"
        async with networks(root) as made:
            assert made.inspect("bridge")["EnableIPv6"] is False
            one = await attach(made, "one", "bridge")
            assert "inet6" not in run("ip", "addr", "show", "eth0", netns=one.netns)
            assert "inet6" not in run("ip", "addr", "show", BRIDGE)
            await made.detach("one")

    with temporary_root() as root:
        asyncio.run(scenario(root))


def advertisement() -> bytes:
    """A router advertisement of a default route and the prefix 2001:db8:bad::/64 (RFC 4861)."""
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0)
    prefix += IPv6Address("2001:db8:bad::").packed
    return struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix


SEND = """
import socket, sys
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
for _ in range(3):
    raw.sendto(bytes.fromhex(sys.argv[1]), ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
"""


@isolated
def test_a_container_that_plays_router_is_believed_by_nobody() -> None:
    """CVE-2020-10749, CVE-2020-13401: router advertisements from a container."""

    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            bad, good = await attach(made, "bad"), await attach(made, "good")
            bridge = f"br-{place(bad)['NetworkID'][:12]}"
            run("sysctl", "-qw", "net.ipv6.conf.eth0.forwarding=1", netns=bad.netns)
            control = Neighbour("ctl0", LAN)
            try:
                run("ip", "link", "set", "ctl0", "master", bridge)
                control.run("sysctl", "-qw", "net.ipv6.conf.up0.accept_ra=1")
                for _ in range(200):  # until one who believes has believed: the lie was told
                    message = advertisement().hex()
                    run(sys.executable, "-S", "-c", SEND, message, netns=bad.netns)
                    if "2001:db8:bad" in control.run("ip", "-6", "addr", "show", "dev", "up0"):
                        break
                    await asyncio.sleep(0.1)
                else:
                    raise AssertionError("no advertisement arrived")
            finally:
                control.close()
            assert addresses("eth0", good.netns) == {"fd00:6::3/64"}
            assert default_routes(good.netns) == ["fd00:6::1"]
            assert addresses(bridge) == {"fd00:6::1/64"}
            assert "2001:db8:bad" not in run("ip", "-6", "route")
            await made.detach("bad")
            await made.detach("good")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_forwarding_does_not_make_a_router_of_the_host() -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        stack.callback(Neighbour("ext1", LAN).close)
        accepting = Path("/proc/sys/net/ipv6/conf/ext1/accept_ra")
        async with networks(root) as made:
            forwarding = Path("/proc/sys/net/ipv6/conf/all/forwarding")
            assert forwarding.read_text().strip() == "0"
            before = accepting.read_text().strip()
            await made.create(SIX)
            assert forwarding.read_text().strip() == "1"
            assert (before, accepting.read_text().strip()) == ("1", "2")
            assert "ipv6" in run("nft", "list", "table", "inet", "barque_router_guard6")
            await made.remove("six")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_nothing_is_left() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            await attach(made, "one", ports=PORTS)
            await made.detach("one")
            await made.remove("six")
            with socket.socket(socket.AF_INET6) as free:
                free.bind(("::", 8080))
            table = next(
                line.split()[2]
                for line in run("nft", "list", "tables").splitlines()
                if "guard" not in line
            )
            assert "fd00:6" not in run("nft", "list", "table", "inet", table)
            assert "fd00:6" not in run("ip", "-6", "route")
        assert attempt("ip", "link", "show", BRIDGE).returncode

    with temporary_root() as root:
        asyncio.run(scenario(root))
