"""kill -9 of the daemon's part among networks of a plugin: the plugin's view and ours agree."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import pytest

from barque import errors
from tests.integration.network.test_remote import PLUGGED, plugged
from tests.support.netns_host import isolated, temporary_root
from tests.support.network_crash import crash, has_its_places, settled, step_in
from tests.support.network_plugin import Plugin
from tests.support.networks import networks

pytestmark = pytest.mark.root
SEEDS = range(int(os.environ.get("BARQUE_CRASH_SEEDS", "2")))  # rounds of kill -9
ROUNDS = 5


# a network that its plugin was never told of refuses to be joined, and to be removed
ONE_STEP = partial(step_in, "far", PLUGGED, forgiven=errors.BarqueError)


async def check_agreement(root: Path, live: set[str], plugin: Plugin) -> set[str]:
    async with networks(root, live=live) as made:
        kept = {name for name in live if made.attached(name)}
        ours = [made.inspect(n["Id"]) for n in made.summaries({"driver": ["bqplug"]})]
        assert plugin.networks <= {network["Id"] for network in ours}
        members = [m for network in ours for m in network["Containers"].values()]
        assert set(plugin.endpoints) == {member["EndpointID"] for member in members}
        assert set(plugin.external) <= set(plugin.endpoints)
        for network in ours:
            assert set(network["Containers"]) <= kept
        for name in kept:
            assert await settled(partial(has_its_places, made.settings(name))), name
    return kept


@isolated
@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_kill_the_plugin_and_we_agree(seed: int) -> None:
    async def remove_all(root: Path, live: set[str], plugin: Plugin) -> None:
        async with networks(root, live=live) as made:
            for name in live:
                await made.detach(name)
            await made.prune({})
            assert not made.summaries({"driver": ["bqplug"]})
        assert not plugin.endpoints
        assert not plugin.external
        assert not plugin.networks
        assert list((root / "netns").iterdir()) == []

    with temporary_root() as root, plugged() as plugin:
        plugin.join = {"Gateway": "10.66.0.1"}
        live: set[str] = set()
        for number in range(ROUNDS):
            live = crash(root, seed * 1000 + number, live, ONE_STEP)
            live = asyncio.run(check_agreement(root, live, plugin))
        asyncio.run(remove_all(root, live, plugin))
