"""Networks of IPv6 alone: places, ways out and in, names, restart; the kernel is the oracle."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.network.options import NetworkOptions
from tests.integration.network.test_ipv6 import FORWARD, addresses, attach, default_routes, place
from tests.support.netns_host import Neighbour, ask, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
SIX = {
    "Name": "six",
    "EnableIPv4": False,
    "EnableIPv6": True,
    "IPAM": {"Config": [{"Subnet": "fd00:6::/64"}]},
}
PORTS = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
BACKENDS = pytest.mark.parametrize("backend", ["nftables", "iptables"])


def fourth(link: str, netns: str | None = None) -> list[str]:
    """The IPv4 addresses of an interface."""
    (found,) = json.loads(run("ip", "-4", "-j", "addr", "show", "dev", link, netns=netns)) or [{}]
    return [one["local"] for one in found.get("addr_info", [])]


@isolated
def test_a_place_has_no_ipv4() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            one, two = await attach(made, "one"), await attach(made, "two")
            found = place(one)
            assert (found["IPAddress"], found["IPPrefixLen"], found["Gateway"]) == ("", 0, "")
            assert found["GlobalIPv6Address"] == "fd00:6::2"
            assert fourth("eth0", one.netns) == []
            assert addresses("eth0", one.netns) == {"fd00:6::2/64"}
            assert default_routes(one.netns) == ["fd00:6::1"]
            assert one.hosts.splitlines()[-1] == "fd00:6::2\thost-one"
            member = made.inspect("six", status=True)["Containers"]["one"]
            assert (member["IPv4Address"], member["IPv6Address"]) == ("", "fd00:6::2/64")
            bridge = f"br-{made.inspect('six')['Id'][:12]}"
            assert fourth(bridge) == []
            assert addresses(bridge) == {"fd00:6::1/64"}
            assert place(one)["MacAddress"] != place(two)["MacAddress"]
            with server("two", 80, netns=two.netns, address="::"):
                assert ask("fd00:6::3", 80, netns=one.netns) == "two fd00:6::2"
            settings = {"six": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
            with pytest.raises(errors.InvalidArgument, match="network six has no IPv4"):
                await attach(made, "three", endpoints=settings)
            assert await made.examine(repair=False) == []
            await made.detach("one")
            await made.detach("two")
            await made.remove("six")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
@BACKENDS
def test_ways_out_and_in_also_after_a_restart(backend: str) -> None:
    options = NetworkOptions(bridge=BRIDGE, firewall_backend=backend)

    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        theirs, ours = lan.add_ipv6("2001:db8:1")
        stack.enter_context(server("lan", 90, netns=lan.netns, address=theirs))
        async with networks(root, options) as made:
            await made.create(SIX)
            web = await attach(made, "web", ports=PORTS)
            stack.enter_context(server("web", 80, netns=web.netns, address="::"))
            assert web.settings["Ports"]["80/tcp"] == [{"HostIp": "::", "HostPort": "8080"}]
            with pytest.raises(errors.Unsupported, match="in no IPv4 network"):
                await attach(made, "no", ports={"80/tcp": [{"HostIp": "127.0.0.1"}]})
        run("nft", "flush", "ruleset")
        async with networks(root, options, live=["web"]) as made:
            assert ask(theirs, 90, netns=web.netns) == f"lan {ours}"
            assert ask(ours, 8080, netns=lan.netns) == f"web {theirs}"
            assert made.settings("web")["Ports"] == web.settings["Ports"]
            await made.detach("web")
            await made.remove("six")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_each_family_goes_by_a_network_that_has_it() -> None:
    """Ports too: what is published of IPv4 leads to the place that has IPv4."""

    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        theirs, ours = lan.add_ipv6("2001:db8:1")
        async with networks(root) as made:
            await made.create(SIX)
            await made.create({"Name": "four"})
            places: dict[str, Any] = {"four": {}, "six": {"GwPriority": 1}}
            web = await attach(made, "web", endpoints=places, ports=PORTS)
            stack.enter_context(server("web", 80, netns=web.netns, address="::"))
            assert place(web)["GlobalIPv6Address"] in "".join(addresses("eth0", web.netns))
            assert fourth("eth1", web.netns) == [place(web, "four")["IPAddress"]]
            listed = json.loads(run("ip", "-j", "route", "show", "default", netns=web.netns))
            assert [one["dev"] for one in listed] == ["eth1"]
            assert ask(lan.ours, 8080, netns=lan.netns).endswith(lan.address)
            assert ask(ours, 8080, netns=lan.netns) == f"web {theirs}"
            await made.disconnect("six", "web")
            assert made.settings("web")["Ports"]["80/tcp"] == [
                {"HostIp": "0.0.0.0", "HostPort": "8080"}
            ]
            await made.detach("web")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_names_are_asked_of_ipv4_servers_by_the_host() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            one = await attach(made, "one", dns=["192.0.2.53", "2001:db8::53"])
            await attach(made, "two")
            resolv = root / "resolv.conf"
            resolv.write_text(one.resolv_conf)
            mount = f"mount --bind {resolv} /etc/resolv.conf"
            look = f'{mount} && exec {sys.executable} -S -c "$1" two'
            inside = ("nsenter", f"--net={one.netns}", "unshare", "-m", "sh", "-c")
            assert run(*inside, look, "-", FORWARD).strip() == "fd00:6::3"
            state = made._sandboxes.get("one")
            assert state is not None
            assert state.reachable_servers() == [("192.0.2.53", True), ("2001:db8::53", False)]
            await made.detach("one")
            await made.detach("two")

    with temporary_root() as root:
        asyncio.run(scenario(root))


LABEL = "com.docker.network."


@isolated
@BACKENDS
def test_options_of_a_bridge_network(backend: str) -> None:
    """What interfaces are called, whose address packets leave with, a bridge without IPv4."""
    options = NetworkOptions(bridge=BRIDGE, firewall_backend=backend)

    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        theirs, _ours = lan.add_ipv6("2001:db8:1")
        run("ip", "addr", "add", "192.0.2.77/24", "dev", "ext0")
        run("ip", "addr", "add", "2001:db8:1::77/64", "dev", "ext0", "nodad")
        for address in (lan.address, theirs):
            stack.enter_context(server("lan", 90, netns=lan.netns, address=address))
        async with networks(root, options) as made:
            named = {
                LABEL + "container_iface_prefix": "lan",
                LABEL + "host_ipv4": "192.0.2.77",
                LABEL + "host_ipv6": "2001:db8:1::77",
            }
            pools = [{"Subnet": "10.60.0.0/24"}, {"Subnet": "fd00:60::/64"}]
            body = {"Name": "odd", "EnableIPv6": True, "IPAM": {"Config": pools}}
            await made.create({**body, "Options": named})
            one = await attach(made, "one", "odd")
            assert fourth("lan0", one.netns) == ["10.60.0.2"]
            assert ask(lan.address, 90, netns=one.netns) == "lan 192.0.2.77"
            assert ask(theirs, 90, netns=one.netns) == "lan 2001:db8:1::77"
            await made.create({"Name": "bare", "Options": {LABEL + "bridge.inhibit_ipv4": "true"}})
            await made.connect("bare", "one", {})
            assert fourth("eth1", one.netns)
            assert fourth(f"br-{made.inspect('bare')['Id'][:12]}") == []
            assert await made.examine(repair=False) == []
            await made.detach("one")
            await made.prune({})

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
@BACKENDS
@pytest.mark.parametrize("everybody", [True, False])
def test_published_ports_at_containers_addresses(backend: str, *, everybody: bool) -> None:
    """--allow-direct-routing, or one trusted interface: what is published, and nothing else."""
    options = NetworkOptions(bridge=BRIDGE, firewall_backend=backend, direct_routing=everybody)
    trusted = {} if everybody else {LABEL + "bridge.trusted_host_interfaces": "other0:ext0"}

    async def scenario(root: Path, stack: ExitStack) -> None:
        lan, far = Neighbour("ext0", "192.0.2"), Neighbour("ext1", "198.51.100")
        for neighbour, prefix in ((lan, "2001:db8:1"), (far, "2001:db8:2")):
            stack.callback(neighbour.close)
            _, ours = neighbour.add_ipv6(prefix)
            neighbour.run("ip", "route", "add", "10.60.0.0/24", "via", neighbour.ours)
            neighbour.run("ip", "route", "add", "fd00:60::/64", "via", ours)
        async with networks(root, options) as made:
            pools = [{"Subnet": "10.60.0.0/24"}, {"Subnet": "fd00:60::/64"}]
            body = {"Name": "odd", "EnableIPv6": True, "IPAM": {"Config": pools}}
            await made.create({**body, "Options": trusted})
            twice = [{"HostPort": "8080"}, {"HostPort": "8081"}]
            web = await attach(made, "web", "odd", ports={"80/tcp": twice, "81/tcp": None})
            for port in (80, 81):
                stack.enter_context(server("web", port, netns=web.netns, address="::"))
            for target in ("10.60.0.2", "fd00:60::2"):
                assert ask(target, 80, netns=lan.netns).startswith("web ")
                assert ask(target, 81, netns=lan.netns, timeout_s=0.5).startswith("failed")
                words = ask(target, 80, netns=far.netns, timeout_s=20 if everybody else 0.5)
                assert words.startswith("web " if everybody else "failed")
            assert ask(lan.ours, 8081, netns=lan.netns).startswith("web ")
            assert await made.examine(repair=False) == []
        run("nft", "flush", "ruleset")
        async with networks(root, options, live=["web"]) as made:
            assert ask("10.60.0.2", 80, netns=lan.netns).startswith("web ")
            await made.detach("web")
            assert await made.examine(repair=False) == []
            assert "10.60.0.2" not in run("nft", "list", "ruleset")
            again = await attach(made, "again", "odd")
            stack.enter_context(server("again", 80, netns=again.netns, address="::"))
            words = ask(place(again, "odd")["IPAddress"], 80, netns=lan.netns, timeout_s=0.5)
            assert words.startswith("failed")
            await made.detach("again")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))
