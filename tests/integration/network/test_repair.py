"""What other programs take away of our bridges is made again while the daemon runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from barque.daemon.networks import Networks
from tests.support.netns_host import Neighbour, ask, attempt, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
SIX = {"Name": "six", "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00:6::/64"}]}}
PORTS = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
PATIENCE_S = 30.0


async def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(done):
        assert time.monotonic() < end, "not made again"
        await asyncio.sleep(0.05)


def addresses(link: str) -> set[str]:
    done = attempt("ip", "-j", "addr", "show", "dev", link)
    found = json.loads(done.stdout or "[]") if not done.returncode else []
    return {one["local"] for item in found for one in item["addr_info"] if one["scope"] == "global"}


def ports(bridge: str) -> set[str]:
    return {
        link["ifname"] for link in json.loads(run("ip", "-j", "link", "show", "master", bridge))
    }


def bridge_of(made: Networks, network: str) -> str:
    return f"br-{made.inspect(network)['Id'][:12]}"


async def attach(made: Networks, name: str, mode: str, **named: Any) -> Any:
    return await made.attach(name, name, f"host-{name}", mode, **named)


@isolated
@pytest.mark.parametrize("network", ["bridge", "six"])
def test_a_bridge_that_is_deleted_is_made_again_with_its_ports(network: str) -> None:
    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        async with networks(root) as made:
            await made.create(SIX)
            bridge = BRIDGE if network == "bridge" else bridge_of(made, network)
            web = await attach(made, "web", network, ports=PORTS)
            stack.enter_context(server("web", 80, netns=web.netns))
            link = f"veth{web.settings['SandboxID'][:7]}"
            before = addresses(bridge)
            run("ip", "link", "del", bridge)
            await until(lambda: addresses(bridge) == before and link in ports(bridge))
            answer = await asyncio.to_thread(ask, lan.ours, 8080, netns=lan.netns, timeout_s=30)
            assert answer == f"web {lan.address}"
            other = await attach(made, "other", network)
            target = web.settings["Networks"][network]["IPAddress"]
            inside = await asyncio.to_thread(ask, target, 80, netns=other.netns, timeout_s=30)
            assert inside.startswith("web ")
            await made.detach("web")
            await made.detach("other")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
def test_an_address_that_is_removed_is_given_again() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            bridge = bridge_of(made, "six")
            before = addresses(bridge)
            assert len(before) == 2
            run("ip", "addr", "flush", "dev", bridge)
            await until(lambda: addresses(bridge) == before)

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_what_we_take_away_stays_away() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            for _ in range(5):
                await made.create(SIX)
                bridge = bridge_of(made, "six")
                await made.remove("six")
                await made.create({"Name": "after"})  # whatever was begun meanwhile has an end
                assert not addresses(bridge)
                await made.remove("after")
        assert not [
            link["ifname"]
            for link in json.loads(run("ip", "-j", "link"))
            if link["ifname"].startswith(("br-", BRIDGE))
        ]

    with temporary_root() as root:
        asyncio.run(scenario(root))
