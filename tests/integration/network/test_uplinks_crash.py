"""kill -9 of the daemon's part among macvlan and overlay networks: all agrees again."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.service import Networks
from tests.integration.network.test_crash import crash
from tests.support.netns_host import Neighbour, isolated, run, temporary_root
from tests.support.networks import networks

pytestmark = pytest.mark.root
SEEDS = range(int(os.environ.get("BARQUE_CRASH_SEEDS", "3")))  # rounds of kill -9
ROUNDS = 4
CONTAINERS = 4
BODIES: dict[str, dict[str, Any]] = {
    "lan": {
        "Driver": "macvlan",
        "Options": {"parent": "lan0"},
        "IPAM": {"Config": [{"Subnet": "192.0.2.0/24", "IPRange": "192.0.2.128/25"}]},
    },
    "over": {
        "Driver": "overlay",
        "Options": {
            "barque.overlay.peers": "192.0.2.2",
            "com.docker.network.driver.overlay.vxlanid_list": "4242",
        },
        "IPAM": {"Config": [{"Subnet": "10.99.0.0/24"}]},
    },
}


async def one_step(
    made: Networks, choice: random.Random, attached: set[str], tell: Callable[[str], None]
) -> None:
    """As test_crash's, in networks of these kinds."""
    name, network = f"c{choice.randrange(CONTAINERS)}", choice.choice(list(BODIES))
    here = any(item["Name"] == network for item in made.summaries({}))
    match choice.randrange(4):
        case 0 if name not in attached:
            await made.attach(name, name, name, network if here else "bridge")
            attached.add(name)
            tell(f"+{name}")
        case 1 if name in attached:
            attached.discard(name)
            tell(f"-{name}")
            await made.detach(name)
        case 2 if not here:
            await made.create({"Name": network, **BODIES[network]})
        case 2:
            try:
                await made.remove(network)
            except errors.Forbidden:  # somebody is in it
                pass
        case 3 if here and name in attached:
            if network in made.settings(name)["Networks"]:
                await made.disconnect(network, name)
            else:
                await made.connect(network, name, {})


def links(netns: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("ip", "-j", "-d", "link", netns=netns))
    return found


def names_there(netns: str | None = None) -> str:
    return " ".join(f"{link['ifname']}={link['address']}" for link in links(netns))


def whole(settings: dict[str, Any]) -> bool:
    """Whether the interfaces in a sandbox are those of its networks, by their MAC addresses."""
    found = links(settings["SandboxKey"])
    wanted = {place["MacAddress"] for place in settings["Networks"].values()}
    return {link["address"] for link in found if link["ifname"] != "lo"} == wanted


async def settled(check: Callable[[], bool]) -> bool:
    """The kernel takes its time for interfaces that go."""
    for _ in range(1500):
        if check():
            return True
        await asyncio.sleep(0.02)
    return False


async def check_agreement(root: Path, live: set[str]) -> set[str]:
    async with networks(root, live=live) as made:
        kept = {name for name in live if made.attached(name)}
        for name in kept:
            settings = made.settings(name)
            agrees = await settled(partial(whole, settings))
            assert agrees, f"{settings} {names_there(settings['SandboxKey'])}"
        overlays = {n["Id"][:12] for n in made.summaries({"driver": ["overlay"]})}

        def host_agrees() -> bool:
            names = {link["ifname"] for link in links()}
            of_overlays = {name[3:] for name in names if name.startswith(("vx-", "br-"))}
            return of_overlays == overlays and not any(name.startswith("bqk") for name in names)

        assert await settled(host_agrees), names_there()
        for document in made.summaries({}):
            assert set(made.inspect(document["Id"])["Containers"]) <= kept
    return kept


@isolated
@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_kill_everything_agrees_and_can_be_removed(seed: int) -> None:
    async def remove_all(root: Path, live: set[str]) -> None:
        async with networks(root, live=live) as made:
            for name in live:
                await made.detach(name)
            await made.prune({})
        assert await settled(lambda: {link["ifname"] for link in links()} == {"lo", "lan0"})
        assert list((root / "netns").iterdir()) == []

    lan = Neighbour("lan0", "192.0.2")
    try:
        with temporary_root() as root:
            live: set[str] = set()
            for number in range(ROUNDS):
                live = crash(root, seed * 1000 + number, live, one_step)
                live = asyncio.run(check_agreement(root, live))
            asyncio.run(remove_all(root, live))
    finally:
        lan.close()
