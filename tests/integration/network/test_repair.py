"""What other programs take away of our bridges is made again while the daemon runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from barque.daemon.networks import upkeep
from barque.daemon.networks.service import Networks
from tests.support.netns_host import Neighbour, ask, attempt, isolated, run, server, temporary_root
from tests.support.networks import BRIDGE, networks

pytestmark = pytest.mark.root
SIX = {"Name": "six", "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00:6::/64"}]}}
OVER = {
    "Name": "over",
    "Driver": "overlay",
    "IPAM": {"Config": [{"Subnet": "10.99.0.0/24"}]},
    "Options": {
        "barque.overlay.peers": "192.0.2.2",
        "com.docker.network.driver.overlay.vxlanid_list": "4242",
    },
}
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
    done = attempt("ip", "-j", "link", "show", "master", bridge)
    return {link["ifname"] for link in json.loads(done.stdout or "[]")}


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


def has_setting(path: str, value: str) -> bool:
    return Path("/proc/sys/net", path).read_text().strip() == value


@isolated
def test_what_is_lost_without_a_word_is_found_and_put_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", 0.1)

    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("lan0", "192.0.2")
        stack.callback(lan.close)
        async with networks(root) as made:
            await made.create(SIX)
            await made.create(OVER)
            web = await attach(made, "web", "six", ports=PORTS)
            await attach(made, "far", "over")
            bridge, over = bridge_of(made, "six"), bridge_of(made, "over")
            link = f"veth{web.settings['SandboxID'][:7]}"
            vxlan = f"vx-{made.inspect('over')['Id'][:12]}"
            settings = {
                f"ipv4/conf/{bridge}/route_localnet": "1",
                f"ipv6/conf/{bridge}/accept_ra": "0",
                "ipv4/ip_forward": "1",
            }
            for path, wanted in settings.items():
                Path("/proc/sys/net", path).write_text("0" if wanted == "1" else "1")
                await until(partial(has_setting, path, wanted))
            run("ip", "-6", "addr", "flush", "dev", bridge, "scope", "global")
            await until(lambda: "fd00:6::1" in addresses(bridge))
            run("ip", "link", "set", link, "nomaster")
            await until(lambda: link in ports(bridge))
            run("ip", "link", "del", vxlan)
            await until(lambda: vxlan in ports(over))
            run("ip", "link", "del", over)
            await until(lambda: vxlan in ports(over) and len(ports(over)) == 2)
            assert await made.examine(repair=False) == []
            for name in ("web", "far"):
                await made.detach(name)

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


@isolated
@pytest.mark.parametrize(
    "harm", ["flush table inet {}", "flush chain inet {} forward", "delete table inet {}"]
)
def test_rules_that_are_flushed_in_part_are_loaded_again(harm: str) -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            web = await attach(made, "web", "bridge", ports=PORTS)
            table = next(w for w in run("nft", "list", "tables").split() if "barque" in w)
            whole = run("nft", "-s", "list", "table", "inet", table)
            run("nft", harm.format(table))
            await until(lambda: sorted(listed(table)) == sorted(whole.splitlines()))
            with server("web", 80, netns=web.netns):
                assert ask("127.0.0.1", 8080).startswith("web ")
            await made.detach("web")

    with temporary_root() as root:
        asyncio.run(scenario(root))


def listed(table: str) -> list[str]:
    return attempt("nft", "-s", "list", "table", "inet", table).stdout.splitlines()


@isolated
def test_an_examination_says_what_is_wrong_and_mends_only_when_asked() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            web = await attach(made, "web", "bridge", ports=PORTS)
            assert await made.examine(repair=False) == []
            table = next(w for w in run("nft", "list", "tables").split() if "barque" in w)
            run("nft", f"flush map inet {table} ports_any")  # nobody is woken by this
            Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
            run("ip", "link", "set", f"veth{web.settings['SandboxID'][:7]}", "down")
            found = await made.examine(repair=False)
            assert [(f.check, f.repaired) for f in found] == [
                ("firewall", False),
                ("link", False),
                ("forwarding", False),
            ]
            assert "tcp . 8080" in found[0].object
            found = await made.examine(repair=True)
            assert [f.repaired for f in found] == [True] * 3
            assert await made.examine(repair=False) == []
            with server("web", 80, netns=web.netns):
                assert ask("127.0.0.1", 8080).startswith("web ")
            run("ip", "link", "del", f"veth{web.settings['SandboxID'][:7]}")
            (lost,) = await made.examine(repair=True)
            assert (lost.check, lost.problem, lost.repaired) == ("link", "it is gone", False)
            await made.detach("web")

    with temporary_root() as root:
        asyncio.run(scenario(root))


@isolated
def test_who_comes_and_goes_while_networks_are_looked_at_is_no_fault(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", 0.001)

    async def one(made: Networks, name: str) -> None:
        for _ in range(8):
            await attach(made, name, "bridge")
            await made.connect("six", name, {})
            await made.disconnect("six", name)
            await made.detach(name)

    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await made.create(SIX)
            await asyncio.gather(*(one(made, f"c{number}") for number in range(4)))
            assert await made.examine(repair=False) == []
        said = [r.message for r in caplog.records if r.name == "barque.daemon.networks.upkeep"]
        assert said == []

    with temporary_root() as root:
        asyncio.run(scenario(root))
