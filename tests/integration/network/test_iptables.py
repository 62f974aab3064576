"""Networks of a host whose rules are iptables: both kinds of its programs, on the real kernel."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from barque.daemon.networks import upkeep
from barque.network.options import NetworkOptions
from tests.support.netns_host import Neighbour, ask, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
KINDS = pytest.mark.parametrize("kind", ["nft", "legacy"])
OPTIONS = NetworkOptions(bridge=BRIDGE, firewall_backend="iptables", ip_forward_no_drop=True)
PORTS = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": None}
SIX = [{"Subnet": "10.61.0.0/24"}, {"Subnet": "fd00:61::/64"}]
MODE = "com.docker.network.bridge.gateway_mode_ipv"
SHUT_S = 0.7  # what is dropped is waited for this long
LOOKS = 200
PROGRAMS = ("iptables", "ip6tables")

Scenario = Callable[[Path, Neighbour, ExitStack], Coroutine[Any, Any, None]]


def with_host(kind: str, scenario: Scenario) -> None:
    """A host where `iptables` is of this kind, between its networks and a neighbour."""
    with temporary_root() as root, ExitStack() as stack:
        programs = root / "bin"
        programs.mkdir()
        for program in PROGRAMS:
            for suffix in ("", "-restore", "-save"):
                target = Path(f"/usr/sbin/{program}-{kind}{suffix}")
                (programs / f"{program}{suffix}").symlink_to(target)
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        _, ours = lan.add_ipv6("2001:db8:1")
        lan.run("ip", "route", "add", "10.61.0.0/24", "via", lan.ours)
        lan.run("ip", "route", "add", "fd00:61::/64", "via", ours)
        asyncio.run(scenario(root, lan, stack))


def rules() -> list[str]:
    """What the programs show: without counters, comments, and tables that have nothing."""
    found = []
    for program in PROGRAMS:
        lines = run(f"{program}-save").splitlines()
        found += [f"{program} {line}" for line in lines if line.startswith(("-A", ":"))]
    empty = re.compile(r":[A-Z]+ ACCEPT ")
    return [re.sub(r"\[\d+:\d+\]", "", line) for line in found if not empty.search(line)]


@isolated
@KINDS
def test_ports_isolation_and_the_way_out(kind: str) -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        before = rules()
        run("iptables", "-P", "FORWARD", "DROP")  # others' policy does not shut our networks
        dropped = rules()
        async with networks(root, OPTIONS) as made:
            await made.create({"Name": "n", "EnableIPv6": True, "IPAM": {"Config": SIX}})
            await made.create({"Name": "in", "Internal": True})
            web = await made.attach("web", "web", "web", "n", ports=PORTS)
            peer = await made.attach("peer", "peer", "peer", "n")
            inner = await made.attach("inner", "inner", "inner", "in")
            assert web.netns is not None
            for port in (80, 81):
                stack.enter_context(server(f"six{port}", port, netns=web.netns, address="::"))
            stack.enter_context(server("lan", 90, netns=lan.netns))
            here = {"80": (lan.ours, 8080), "81": ("10.61.0.2", 81)}
            assert ask(*here["80"], netns=lan.netns) == f"six80 ::ffff:{lan.address}"
            assert ask("2001:db8:1::1", 8080, netns=lan.netns) == "six80 2001:db8:1::2"
            assert ask("127.0.0.1", 8080).startswith("six80 ")  # the host's own loopback
            assert ask(lan.ours, 8080, netns=peer.netns) == "six80 ::ffff:10.61.0.1"
            assert ask(lan.ours, 8080, netns=web.netns).startswith("six80 ")  # to itself
            assert ask("10.61.0.2", 81, netns=peer.netns).startswith("six81 ")
            assert ask(lan.address, 90, netns=web.netns) == f"lan {lan.ours}"
            for address, port, netns in (
                (*here["81"], lan.netns),  # not published
                ("fd00:61::2", 81, lan.netns),
                ("10.61.0.2", 80, inner.netns),
                (lan.address, 90, inner.netns),
            ):
                said = ask(address, port, netns=netns, timeout_s=SHUT_S)
                assert said.startswith("failed"), (address, port, said)
            for name in ("web", "peer", "inner"):
                await made.detach(name)
            await made.remove("n")
            await made.remove("in")
        assert rules() == dropped
        run("iptables", "-P", "FORWARD", "ACCEPT")
        assert rules() == before

    with_host(kind, scenario)


@isolated
@KINDS
def test_routed_ports_and_a_user_chain_that_has_the_first_word(kind: str) -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        options = {f"{MODE}4": "routed", f"{MODE}6": "routed"}
        body = {"Name": "n", "EnableIPv6": True, "IPAM": {"Config": SIX}, "Options": options}
        async with networks(root, OPTIONS) as made:
            await made.create(body)
            web = await made.attach("web", "web", "web", "n", ports=PORTS)
            for port in (80, 81):
                stack.enter_context(server(f"six{port}", port, netns=web.netns, address="::"))
            assert ask("10.61.0.2", 80, netns=lan.netns).startswith("six80 ")
            assert ask("fd00:61::2", 80, netns=lan.netns) == "six80 2001:db8:1::2"
            for address in ("10.61.0.2", "fd00:61::2"):
                said = ask(address, 81, netns=lan.netns, timeout_s=SHUT_S)
                assert said.startswith("failed")
            rule = ("DOCKER-USER", "-s", lan.address, "-j", "REJECT")
            run("iptables", "-I", *rule)
            said = ask("10.61.0.2", 80, netns=lan.netns)
            assert said.startswith("failed")
            await made.detach("web")
            await made.remove("n")
        assert [line for line in rules() if "-A" in line] == [  # a user's own rule is left to him
            f"iptables -A DOCKER-USER -s {lan.address}/32 -j REJECT "
            "--reject-with icmp-port-unreachable"
        ]

    with_host(kind, scenario)


@isolated
@KINDS
def test_flushed_rules_come_back_and_a_killed_daemon_leaves_none_twice(kind: str) -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        upkeep.LOOK_S = 0.1
        async with networks(root, OPTIONS) as made:
            web = await made.attach("web", "web", "web", ports=PORTS)
            stack.enter_context(server("web", 80, netns=web.netns))
            whole = rules()
            for harm in (("-F",), ("-t", "nat", "-F"), ("-t", "nat", "-D", "PREROUTING", "1")):
                run("iptables", *harm)
                for _ in range(LOOKS):
                    if sorted(rules()) == sorted(whole):
                        break
                    await asyncio.sleep(0.1)
                assert sorted(rules()) == sorted(whole)
            assert ask(lan.ours, 8080, netns=lan.netns) == f"web {lan.address}"
        async with networks(root, OPTIONS, live=["web"]) as made:  # rules of the one before
            assert sorted(rules()) == sorted(whole)
            assert ask(lan.ours, 8080, netns=lan.netns) == f"web {lan.address}"
        nftables = NetworkOptions(bridge=BRIDGE, firewall_backend="nftables")
        async with networks(root, nftables, live=["web"]) as made:
            assert not [line for line in rules() if "-A" in line]
            assert "barque_" in run("nft", "list", "tables")
            assert ask(lan.ours, 8080, netns=lan.netns) == f"web {lan.address}"
        async with networks(root, OPTIONS, live=["web"]) as made:
            assert sorted(rules()) == sorted(whole)
            assert "inet barque_" not in run("nft", "list", "tables").replace("router_guard", "")
            await made.detach("web")
        assert not [line for line in rules() if "-A" in line]

    with_host(kind, scenario)
