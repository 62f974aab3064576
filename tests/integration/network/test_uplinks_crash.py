"""kill -9 of the daemon's part among macvlan and overlay networks: all agrees again."""

from __future__ import annotations

import asyncio
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from barque.daemon.networks.service import Networks
from tests.support.netns_host import Neighbour, isolated, temporary_root
from tests.support.network_crash import Tell, crash, has_its_places, links, settled, step_in
from tests.support.networks import networks

pytestmark = pytest.mark.root
SEEDS = range(int(os.environ.get("BARQUE_CRASH_SEEDS", "3")))  # rounds of kill -9
ROUNDS = 4
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


async def one_step(made: Networks, choice: random.Random, attached: set[str], tell: Tell) -> None:
    network = choice.choice(list(BODIES))
    await step_in(network, BODIES[network], made, choice, attached, tell)


async def check_agreement(root: Path, live: set[str]) -> set[str]:
    async with networks(root, live=live) as made:
        kept = {name for name in live if made.attached(name)}
        for name in kept:
            settings = made.settings(name)
            agrees = await settled(partial(has_its_places, settings))
            assert agrees, f"{settings} {links(settings['SandboxKey'])}"
        overlays = {n["Id"][:12] for n in made.summaries({"driver": ["overlay"]})}

        def host_agrees() -> bool:
            names = set(links())
            of_overlays = {name[3:] for name in names if name.startswith(("vx-", "br-"))}
            return of_overlays == overlays and not any(name.startswith("bqk") for name in names)

        assert await settled(host_agrees), links()
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
        assert await settled(lambda: set(links()) == {"lan0"}), links()
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
