"""ufw and firewalld beside us: not broken, and not bypassed when their word is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.network.options import NetworkOptions
from tests.support.firewalls import firewall_cmd, firewalld_running, ufw, ufw_enabled
from tests.support.netns_host import Neighbour, ask, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks, open_networks

pytestmark = pytest.mark.root
PLAIN = NetworkOptions(bridge=BRIDGE)
ASKED = NetworkOptions(bridge=BRIDGE, host_policy=True)
PORTS = {
    "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
    "53/udp": [{"HostIp": "192.0.2.1", "HostPort": "8053"}],
}
SHUT_S = 3.0  # longer than it takes a caller to try again
LOOKS = 100

Scenario = Callable[[Path, Neighbour, ExitStack], Coroutine[Any, Any, None]]


def with_host(scenario: Scenario) -> None:
    with temporary_root() as root, ExitStack() as stack:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        asyncio.run(scenario(root, lan, stack))


def web(lan: Neighbour, timeout_s: float = 20.0) -> str:
    return ask(lan.ours, 8080, netns=lan.netns, timeout_s=timeout_s)


def others(family: str, table: str) -> str:
    """Another's table, without counters."""
    return run("nft", "-s", "list", "table", family, table)


async def closes(lan: Neighbour) -> None:
    """Within the moments that the kernel's word of a change takes to come."""
    for _ in range(LOOKS):
        if (await asyncio.to_thread(web, lan, SHUT_S)).startswith("failed"):
            return
    raise AssertionError("the port is open")


@isolated
def test_ufw_is_not_broken_and_decides_what_is_routed() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        stack.enter_context(ufw_enabled(root))
        ufw("reload")  # adds what enabling leaves out
        before = others("ip", "filter")
        async with networks(root, PLAIN) as made:
            assert any("drops by default" in line for line in made.warnings)
            sandbox = await made.attach("c", "c", "c", ports=PORTS)
            stack.enter_context(server("web", 80, netns=sandbox.netns))
            assert web(lan, SHUT_S).startswith("failed")
            ufw("route", "allow", "in", "on", "ext0", "out", "on", BRIDGE)
            assert web(lan) == f"web {lan.address}"
            ufw("reload")
            assert web(lan) == f"web {lan.address}"
            ufw("route", "delete", "allow", "in", "on", "ext0", "out", "on", BRIDGE)
            await made.detach("c")
        assert others("ip", "filter") == before

    with_host(scenario)


@isolated
def test_ufws_input_policy_is_honoured_when_asked() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        stack.enter_context(ufw_enabled(root))
        ufw("default", "allow", "routed")
        async with networks(root, ASKED) as made:
            sandbox = await made.attach("c", "c", "c", ports=PORTS)
            stack.enter_context(server("web", 80, netns=sandbox.netns))
            stack.enter_context(server("name", 53, netns=sandbox.netns, protocol="udp"))
            assert web(lan, SHUT_S).startswith("failed")
            await asyncio.to_thread(ufw, "allow", "8080/tcp")
            assert await asyncio.to_thread(web, lan) == f"web {lan.address}"
            assert web(lan) == f"web {lan.address}"  # known by now
            await asyncio.to_thread(ufw, "allow", "8053/udp")
            udp = {"netns": lan.netns, "protocol": "udp"}
            for _ in range(LOOKS):  # a datagram that is dropped is not sent again by itself
                said = await asyncio.to_thread(ask, lan.ours, 8053, timeout_s=0.5, **udp)
                if said == f"name {lan.address}":
                    break
            assert said == f"name {lan.address}"
            assert ask(lan.ours, 8080) == f"web {lan.ours}"  # the host itself is not asked
            await asyncio.to_thread(ufw, "delete", "allow", "8080/tcp")
            await closes(lan)
        async with networks(root, ASKED, live=["c"]) as made:  # as it was
            assert web(lan, SHUT_S).startswith("failed")
            await asyncio.to_thread(ufw, "allow", "8080/tcp")
            assert await asyncio.to_thread(web, lan) == f"web {lan.address}"
            await made.detach("c")
            again = await made.attach("c", "c", "c", ports={})  # nobody waits for a word now
            assert again.settings["Ports"] == {}
            await made.detach("c")

    with_host(scenario)


@isolated
def test_firewalld_beside_us() -> None:
    async def scenario(root: Path, lan: Neighbour, stack: ExitStack) -> None:
        stack.enter_context(firewalld_running(root))
        firewall_cmd("--reload")
        before = others("inet", "firewalld")
        async with networks(root, ASKED) as made:
            assert made.warnings == []
            sandbox = await made.attach("c", "c", "c", ports=PORTS)
            stack.enter_context(server("web", 80, netns=sandbox.netns))
            assert web(lan, SHUT_S).startswith("failed")
            await asyncio.to_thread(firewall_cmd, "--add-port=8080/tcp")
            assert await asyncio.to_thread(web, lan) == f"web {lan.address}"
            await asyncio.to_thread(firewall_cmd, "--remove-port=8080/tcp")
            await closes(lan)
            await asyncio.to_thread(firewall_cmd, "--reload")
            await asyncio.to_thread(firewall_cmd, "--add-port=8080/tcp")
            assert await asyncio.to_thread(web, lan) == f"web {lan.address}"
            stack.enter_context(server("lan", 90, netns=lan.netns))
            zone = ("--zone=trusted", f"--add-interface={BRIDGE}")  # the way out is its to allow
            await asyncio.to_thread(firewall_cmd, *zone)
            assert ask(lan.address, 90, netns=sandbox.netns) == f"lan {lan.ours}"
            zone = ("--zone=trusted", f"--remove-interface={BRIDGE}")
            await asyncio.to_thread(firewall_cmd, *zone)
            await asyncio.to_thread(firewall_cmd, "--remove-port=8080/tcp")
            await made.detach("c")
        firewall_cmd("--reload")  # it keeps empty chains of a zone that was in use till then
        assert others("inet", "firewalld") == before
        async with networks(root, PLAIN) as made:  # firewalld lets redirected packets pass
            again = await made.attach("c", "c", "c", ports=PORTS)
            with server("web2", 80, netns=again.netns):
                assert web(lan) == f"web2 {lan.address}"
            await made.detach("c")

    with_host(scenario)


def test_the_policy_needs_nftables(tmp_path: Path) -> None:
    options = NetworkOptions(bridge=BRIDGE, host_policy=True, firewall_backend="iptables")
    with pytest.raises(errors.InvalidArgument, match="needs the firewall backend nftables"):
        open_networks(tmp_path, options)
