"""kill -9 of the daemon's part among networks of a plugin: the plugin's view and ours agree."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from barque import errors
from barque.daemon.networks.service import Networks
from tests.integration.network.test_crash import crash
from tests.integration.network.test_remote import PLUGGED, plugged
from tests.support.netns_host import isolated, run, temporary_root
from tests.support.network_plugin import Plugin
from tests.support.networks import networks

pytestmark = pytest.mark.root
SEEDS = range(int(os.environ.get("BARQUE_CRASH_SEEDS", "2")))  # rounds of kill -9
ROUNDS = 5
CONTAINERS = 4


async def one_step(
    made: Networks, choice: random.Random, attached: set[str], tell: Callable[[str], None]
) -> None:
    """As test_crash's, in a network of a plugin."""
    name = f"c{choice.randrange(CONTAINERS)}"
    here = any(item["Name"] == "far" for item in made.summaries({}))
    match choice.randrange(4):
        case 0 if name not in attached:
            try:
                await made.attach(name, name, name, "far" if here else "bridge")
            except errors.BarqueError:  # a network that its plugin was never told of
                return
            attached.add(name)
            tell(f"+{name}")
        case 1 if name in attached:
            attached.discard(name)
            tell(f"-{name}")
            await made.detach(name)
        case 2 if not here:
            await made.create({"Name": "far", **PLUGGED})
        case 2:
            try:
                await made.remove("far")
            except errors.BarqueError:  # somebody is in it, or it went before the last kill
                pass
        case 3 if here and name in attached:
            if "far" in made.settings(name)["Networks"]:
                await made.disconnect("far", name)
            else:
                await made.connect("far", name, {})


async def check_agreement(root: Path, live: set[str], plugin: Plugin) -> set[str]:
    async with networks(root, live=live) as made:
        kept = {name for name in live if made.attached(name)}
        ours = [made.inspect(n["Id"]) for n in made.summaries({"driver": ["bqplug"]})]
        assert plugin.networks <= {network["Id"] for network in ours}
        members = [m for network in ours for m in network["Containers"].values()]
        assert set(plugin.endpoints) == {member["EndpointID"] for member in members}
        for network in ours:
            assert set(network["Containers"]) <= kept
        for name in kept:
            settings = made.settings(name)
            links = json.loads(run("ip", "-j", "link", netns=settings["SandboxKey"]))
            wanted = {place["MacAddress"] for place in settings["Networks"].values()}
            assert {link["address"] for link in links if link["ifname"] != "lo"} == wanted
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
        assert not plugin.networks
        assert list((root / "netns").iterdir()) == []

    with temporary_root() as root, plugged() as plugin:
        live: set[str] = set()
        for number in range(ROUNDS):
            live = crash(root, seed * 1000 + number, live, one_step)
            live = asyncio.run(check_agreement(root, live, plugin))
        asyncio.run(remove_all(root, live, plugin))
