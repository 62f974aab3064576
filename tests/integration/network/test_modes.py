"""Gateway modes of networks, and what may be asked of a container's place in one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.network.options import NetworkOptions
from tests.support.netns_host import Neighbour, ask, attempt, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
MODE = "com.docker.network.bridge.gateway_mode_ipv"
SHUT_S = 0.7  # what is dropped is waited for this long
PORTS = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": None}


def network(mode: str, mode6: str, **more: Any) -> dict[str, Any]:
    subnets = [{"Subnet": "10.61.0.0/24"}, {"Subnet": "fd00:61::/64"}]
    options = {f"{MODE}4": mode, f"{MODE}6": mode6}
    ipam = {"Config": subnets}
    return {"Name": "n", "EnableIPv6": True, "IPAM": ipam, "Options": options, **more}


def with_host(scenario: Callable[[Path, Neighbour, ExitStack], Coroutine[Any, Any, None]]) -> None:
    """A host between its networks and a neighbour, which sends what is for them to the host."""
    with temporary_root() as root, ExitStack() as stack:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        _, ours = lan.add_ipv6("2001:db8:1")
        lan.run("ip", "route", "add", "10.61.0.0/24", "via", lan.ours)
        lan.run("ip", "route", "add", "fd00:61::/64", "via", ours)
        asyncio.run(scenario(root, lan, stack))


def serve(stack: ExitStack, netns: str, *ports: int) -> None:
    for port in ports:
        stack.enter_context(server(f"six{port}", port, netns=netns, address="fd00:61::2"))
        stack.enter_context(server(f"four{port}", port, netns=netns, address="10.61.0.2"))


@isolated
@pytest.mark.parametrize("loaded", ["by itself", "whole"])
def test_routed_networks_open_ports_at_the_containers_own_address(loaded: str) -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        async with networks(root) as made:
            await made.create(network("routed", "routed"))
            web = await made.attach("web", "web", "web", "n", ports=PORTS)
            assert web.netns is not None
            serve(stack, web.netns, 80, 81)
            assert web.settings["Ports"] == {
                "80/tcp": [
                    {"HostIp": "0.0.0.0", "HostPort": ""},
                    {"HostIp": "::", "HostPort": ""},
                ],
                "81/tcp": None,
            }
            if loaded == "whole":
                run("nft", "flush", "ruleset")
                made._host.firewall.repair()

            assert ask("10.61.0.2", 80, netns=lan.netns) == f"four80 {lan.address}"
            assert ask("fd00:61::2", 80, netns=lan.netns) == "six80 2001:db8:1::2"
            lan.run("busybox", "ping", "-c1", "-W20", "10.61.0.2")
            lan.run("busybox", "ping", "-c1", "-W20", "fd00:61::2")
            for address, port in (("10.61.0.2", 81), ("fd00:61::2", 81), (lan.ours, 8080)):
                assert ask(address, port, timeout_s=SHUT_S, netns=lan.netns).startswith("failed")
            stack.enter_context(server("lan", 90, netns=lan.netns))
            assert ask(lan.address, 90, netns=web.netns) == "lan 10.61.0.2"  # not masqueraded
            await made.detach("web")
            again = await made.attach("web", "web", "web", "n", ports={"80/tcp": None})
            assert again.netns is not None
            with server("shut", 80, netns=again.netns):
                shut = ask("10.61.0.2", 80, timeout_s=SHUT_S, netns=lan.netns)
            assert shut.startswith("failed")
            await made.detach("web")
            await made.remove("n")

    with_host(scenario)


@isolated
def test_each_family_has_its_own_mode() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        async with networks(root) as made:
            await made.create(network("nat", "routed"))
            web = await made.attach("web", "web", "web", "n", ports=PORTS)
            assert web.netns is not None
            serve(stack, web.netns, 80, 81)
            assert web.settings["Ports"]["80/tcp"] == [
                {"HostIp": "::", "HostPort": ""},
                {"HostIp": "0.0.0.0", "HostPort": "8080"},
            ]

            assert ask(lan.ours, 8080, netns=lan.netns) == f"four80 {lan.address}"
            assert ask("fd00:61::2", 80, netns=lan.netns) == "six80 2001:db8:1::2"
            assert ask("10.61.0.2", 80, timeout_s=SHUT_S, netns=lan.netns).startswith("failed")
        async with networks(root, live=["web"]) as made:  # the ports are as they were
            assert ask(lan.ours, 8080, netns=lan.netns) == f"four80 {lan.address}"
            assert ask("fd00:61::2", 80, netns=lan.netns) == "six80 2001:db8:1::2"
            await made.detach("web")
            await made.remove("n")

    with_host(scenario)


@isolated
def test_an_unprotected_network_is_open_to_who_is_routed_there() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        async with networks(root) as made:
            await made.create(network("nat-unprotected", "nat"))
            web = await made.attach("web", "web", "web", "n", ports=PORTS)
            assert web.netns is not None
            serve(stack, web.netns, 81)
            assert ask("10.61.0.2", 81, netns=lan.netns) == f"four81 {lan.address}"
            shut = ask("fd00:61::2", 81, netns=lan.netns, timeout_s=SHUT_S)
            assert shut.startswith("failed")
            stack.enter_context(server("lan", 90, netns=lan.netns))
            assert ask(lan.address, 90, netns=web.netns) == f"lan {lan.ours}"  # masqueraded
            await made.detach("web")

    with_host(scenario)


@isolated
def test_an_isolated_network_has_no_address_of_the_hosts() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        async with networks(root) as made:
            body = network("isolated", "isolated", Internal=True)
            bridge = f"br-{(await made.create(body))[0][:12]}"
            one = await made.attach("one", "one", "one", "n")
            two = await made.attach("two", "two", "two", "n")
            (shown,) = json.loads(run("ip", "-j", "addr", "show", "dev", bridge))
            assert shown["addr_info"] == []
            place = one.settings["Networks"]["n"]
            with server("one", 80, netns=one.netns):
                assert ask(place["IPAddress"], 80, netns=two.netns).startswith("one ")
            await made.detach("one")
            await made.detach("two")
            await made.remove("n")

    with_host(scenario)


@isolated
def test_without_rules_for_ipv6_nothing_of_it_is_published_or_shut() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        options = NetworkOptions(bridge=BRIDGE, firewall6=False)
        async with networks(root, options) as made:
            await made.create(network("nat", "nat"))
            web = await made.attach("web", "web", "web", "n", ports=PORTS)
            assert web.netns is not None
            serve(stack, web.netns, 80, 81)
            assert web.settings["Ports"]["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8080"}]
            assert ask("fd00:61::2", 81, netns=lan.netns) == "six81 2001:db8:1::2"
            assert ask(lan.ours, 8080, netns=lan.netns) == f"four80 {lan.address}"
            shut = ask("10.61.0.2", 81, netns=lan.netns, timeout_s=SHUT_S)
            assert shut.startswith("failed")
            named = {"80/tcp": [{"HostIp": "::", "HostPort": "8081"}]}
            with pytest.raises(errors.Unsupported, match="ip6tables=false"):
                await made.attach("c", "c", "c", "n", ports=named)
            await made.detach("web")

    with_host(scenario)


@isolated
def test_a_place_has_the_name_the_settings_and_the_addresses_that_were_asked_for() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        async with networks(root) as made:
            await made.create(network("nat", "nat"))
            await made.create({"Name": "m"})
            prefix = "com.docker.network.endpoint."
            settings = {
                "IPAMConfig": {"LinkLocalIPs": ["169.254.9.9", "fe80::99"]},
                "DriverOpts": {
                    prefix + "ifname": "lan.5",
                    prefix + "sysctls": "net.ipv4.conf.ifname.log_martians=1,"
                    "net.ipv6.neigh.IFNAME.app_solicit=3",
                },
            }
            one = await made.attach("one", "one", "one", endpoints={"n": settings})
            found = one.settings["Networks"]["n"]
            assert found["IPAMConfig"] == settings["IPAMConfig"]
            assert found["DriverOpts"] == settings["DriverOpts"]
            assert addresses(one.netns, "lan.5") >= {"169.254.9.9/16", "fe80::99/64"}
            assert sysctl(one.netns, "net/ipv4/conf/lan.5/log_martians") == "1"
            assert sysctl(one.netns, "net/ipv6/neigh/lan.5/app_solicit") == "3"
            asked = {"DriverOpts": {prefix + "sysctls": "net.ipv4.conf.IFNAME.rp_filter=2"}}
            await made.connect("m", "one", {**asked, "IPAMConfig": {"LinkLocalIPs": ["fe80::7"]}})
            assert sysctl(one.netns, "net/ipv4/conf/eth1/rp_filter") == "2"
            assert addresses(one.netns, "eth1") >= {"fe80::7/64"}  # its network has no IPv6
            await made.disconnect("n", "one")
            assert attempt("ip", "link", "show", "lan.5", netns=one.netns).returncode
            await made.connect("n", "one", settings)
            assert addresses(one.netns, "lan.5") >= {"169.254.9.9/16"}
        async with networks(root, live=["one"]) as made:
            assert made.settings("one")["Networks"]["n"]["IPAMConfig"] == settings["IPAMConfig"]
            await made.detach("one")

    with_host(scenario)


@isolated
def test_what_cannot_be_asked_of_a_place_leaves_nothing() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        async with networks(root) as made:
            await made.create(network("nat", "nat"))
            await made.create({"Name": "m"})
            prefix = "com.docker.network.endpoint."
            unknown = {"DriverOpts": {prefix + "sysctls": "net.ipv4.conf.IFNAME.not_there=1"}}
            with pytest.raises(errors.InvalidArgument, match="not_there=1 cannot be set"):
                await made.attach("one", "one", "one", endpoints={"n": unknown})
            same = {"DriverOpts": {prefix + "ifname": "lan0"}}
            with pytest.raises(errors.InvalidArgument, match="lan0 is given twice"):
                await made.attach("one", "one", "one", endpoints={"n": same, "m": same})
            assert not made.attached("one")
            assert not made.inspect("n")["Containers"]
            again = await made.attach("one", "one", "one", "n")
            assert again.settings["Networks"]["n"]["IPAddress"] == "10.61.0.2"
            with pytest.raises(errors.InvalidArgument, match="not_there=1 cannot be set"):
                await made.connect("m", "one", unknown)
            assert list(made.settings("one")["Networks"]) == ["n"]
            await made.detach("one")

    with_host(scenario)


MARK = """
table inet site {
    chain prerouting {
        type filter hook prerouting priority -150; policy accept;
        iifname "ext0" tcp dport 81 meta mark set 0x12
    }
}
"""


@isolated
@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_packets_with_the_administrators_mark_may_come_in(backend: str) -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        options = NetworkOptions(bridge=BRIDGE, firewall_backend=backend, accept_mark="0x2/0x3")
        async with networks(root, options) as made:
            await made.create(network("nat", "nat"))
            await made.create({"Name": "in", "Internal": True})
            run("nft", "-f", "-", stdin=MARK)
            web = await made.attach("web", "web", "web", "n", ports=PORTS)
            assert web.netns is not None
            serve(stack, web.netns, 81, 82)
            assert ask("10.61.0.2", 81, netns=lan.netns) == f"four81 {lan.address}"
            assert ask("fd00:61::2", 81, netns=lan.netns) == "six81 2001:db8:1::2"
            shut = ask("10.61.0.2", 82, netns=lan.netns, timeout_s=SHUT_S)
            assert shut.startswith("failed")
            await made.detach("web")
            await made.remove("n")
            await made.remove("in")

    with_host(scenario)


def addresses(netns: str | None, link: str) -> set[str]:
    (found,) = json.loads(run("ip", "-j", "addr", "show", "dev", link, netns=netns))
    return {f"{one['local']}/{one['prefixlen']}" for one in found["addr_info"]}


def sysctl(netns: str | None, path: str) -> str:
    return run("cat", f"/proc/sys/{path}", netns=netns).strip()
