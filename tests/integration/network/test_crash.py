"""kill -9 of the daemon's part anywhere, rules flushed by others: all agrees again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.service import Networks
from tests.support.netns_host import Neighbour, ask, isolated, run, server, temporary_root
from tests.support.network_crash import Tell, crash, links, settled
from tests.support.networks import networks, open_networks, pool_full

pytestmark = pytest.mark.root
SEEDS = range(int(os.environ.get("BARQUE_CRASH_SEEDS", "6")))  # rounds of kill -9
ROUNDS = 4
CONTAINERS = 6
FAMILIES: tuple[dict[str, Any], ...] = (
    {},
    {"EnableIPv6": True},
    {"EnableIPv4": False, "EnableIPv6": True},
)


def published(name: str) -> dict[str, Any]:
    return {"80/tcp": [{"HostPort": str(9000 + int(name[1:]))}]}


async def one_step(made: Networks, choice: random.Random, attached: set[str], tell: Tell) -> None:
    """Tell of a container that came when it is there, of one that goes before it begins to go."""
    name = f"c{choice.randrange(CONTAINERS)}"
    match choice.randrange(5):
        case 0 | 1 if name not in attached:
            await made.attach(name, name, name, ports=published(name))
            attached.add(name)
            tell(f"+{name}")
        case 2 if name in attached:
            attached.discard(name)
            tell(f"-{name}")
            await made.detach(name)
        case 3:
            try:
                await made.create({"Name": "extra", **choice.choice(FAMILIES)})
            except errors.AlreadyExists:
                await made.remove("extra")
        case 4 if name in attached:
            try:
                await made.create({"Name": "joined", **choice.choice(FAMILIES)})
            except errors.AlreadyExists:
                pass
            if "joined" in made.settings(name)["Networks"]:
                await made.disconnect("joined", name)
            else:
                await made.connect("joined", name, {})


def named(prefix: str) -> set[str]:
    """The host's interfaces whose names begin so."""
    return {name for name in links() if name.startswith(prefix)}


def port_targets() -> dict[int, str]:
    text = run("nft", "-j", "list", "ruleset")
    maps = [entry["map"] for entry in json.loads(text)["nftables"] if "map" in entry]
    found = {}
    for item in (m for m in maps if m["name"] == "ports_any"):
        for key, value in item.get("elem", []):
            found[key["concat"][1]] = value["concat"][0]
    return found


async def check_agreement(root: Path, live: set[str]) -> set[str]:
    """Restore with `live`, compare everything; returns who has a sandbox."""
    async with networks(root, live=live) as made:
        await pool_full(made)
        kept = {name for name in live if made.attached(name)}
        bound = {path.name for path in (root / "netns").iterdir()}
        sandboxes = {made.settings(name)["SandboxID"] for name in kept}
        assert len(bound) == len(kept) + made.pool.size
        assert {sandbox[:12] for sandbox in sandboxes} <= bound
        ports = {
            9000 + int(name[1:]): made.settings(name)["Ports"]["80/tcp"]
            for name in kept
            if "80/tcp" in made.settings(name)["Ports"]
        }
        assert set(port_targets()) == {port for port, entry in ports.items() if entry}
        wanted = sum(len(made.settings(name)["Networks"]) for name in kept) + made.pool.size
        assert await settled(lambda: len(named("veth")) == wanted), named("veth")
        addresses = [
            (endpoint["IPAddress"], endpoint["GlobalIPv6Address"])
            for name in kept
            for endpoint in made.settings(name)["Networks"].values()
        ]
        assert len(set(addresses)) == len(addresses)
        wanted_bridges = {document["Id"][:12] for document in made.summaries({"type": ["custom"]})}
        assert {name.removeprefix("br-") for name in named("br-")} == wanted_bridges
        for document in made.summaries({}):
            members = made.inspect(document["Id"])["Containers"]
            assert set(members) <= kept
    return kept


@isolated
@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_kill_everything_agrees_and_can_be_removed(seed: int) -> None:
    async def remove_all(root: Path, live: set[str]) -> None:
        async with networks(root, live=live) as made:
            for name in live:
                await made.detach(name)
            await made.prune({})
        assert await settled(lambda: not links()), links()
        assert list((root / "netns").iterdir()) == []
        assert "barque_" not in run("nft", "list", "tables").replace("barque_router_guard", "")

    with temporary_root() as root:
        live: set[str] = set()
        for number in range(ROUNDS):
            live = crash(root, seed * 1000 + number, live, one_step)
            live = asyncio.run(check_agreement(root, live))
        asyncio.run(remove_all(root, live))


@isolated
def test_a_running_container_is_reached_while_the_daemon_is_away_and_after() -> None:
    async def attach(root: Path) -> str:
        made, _database = open_networks(root)
        await made.start()
        await made.restore([])
        sandbox = await made.attach("c1", "c1", "c1", ports={"80/tcp": [{"HostPort": "8080"}]})
        return str(sandbox.netns)

    def life_of_first(root: Path, write: int) -> None:
        os.write(write, asyncio.run(attach(root)).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    with temporary_root() as root, ExitStack() as stack:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            life_of_first(root, write)
        os.close(write)
        with os.fdopen(read) as stream:
            netns = stream.read()
        os.waitpid(pid, 0)
        stack.enter_context(server("c1", 80, netns=netns))
        assert ask(lan.ours, 8080, netns=lan.netns) == f"c1 {lan.address}"

        async def second() -> None:
            async with networks(root, live=["c1"]) as made:
                assert made.settings("c1")["IPAddress"] == "172.17.0.2"
                answer = await asyncio.to_thread(ask, lan.ours, 8080, netns=lan.netns)
                assert answer == f"c1 {lan.address}"
                ports = {"80/tcp": [{"HostPort": "8080"}]}
                with pytest.raises(errors.BarqueError, match="already allocated"):
                    await made.attach("c2", "c2", "c2", ports=ports)
                await made.detach("c1")

        asyncio.run(second())


@isolated
def test_flushed_rules_come_back_whole() -> None:
    """CVE-2025-54388, CVE-2025-54410: another program's flush must not open or break anything."""

    async def scenario(root: Path, stack: ExitStack) -> None:
        lan = Neighbour("ext0", "192.0.2")
        stack.callback(lan.close)
        lan.run("ip", "route", "add", "172.17.0.0/16", "via", lan.ours)
        async with networks(root) as made:
            ports = {"80/tcp": [{"HostPort": "8080"}]}
            sandbox = await made.attach("c1", "c1", "c1", ports=ports)
            await made.create({"Name": "more"})
            stack.enter_context(server("c1", 80, netns=sandbox.netns))
            before = _plain(run("nft", "list", "ruleset"))
            for _ in range(3):
                run("nft", "flush", "ruleset")
                for _ in range(200):
                    await asyncio.sleep(0.02)
                    if "barque_" in run("nft", "list", "tables"):
                        break
                after = _plain(run("nft", "list", "ruleset"))
                assert after == before
            answer = await asyncio.to_thread(ask, lan.ours, 8080, netns=lan.netns)
            assert answer == f"c1 {lan.address}"
            await made.attach("c2", "c2", "c2", ports={"80/tcp": [{"HostPort": "8081"}]})
            await made.detach("c2")
            await made.detach("c1")
            await made.remove("more")

    with temporary_root() as root, ExitStack() as stack:
        asyncio.run(scenario(root, stack))


def _plain(ruleset: str) -> list[str]:
    """Without the guard, which is the host's and not loaded again; order of chains is free."""
    ours = ruleset[ruleset.index("table inet barque_") :]
    tables = [t for t in ours.split("\ntable ") if "router_guard" not in t.splitlines()[0]]
    return sorted(line for table in tables for line in table.splitlines() if line.strip())


@isolated
def test_a_maker_that_died_is_replaced() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            await pool_full(made)
            made.pool.maker.kill()
            for number in range(made.pool.size + 2):
                await made.attach(f"c{number}", f"c{number}", "x")
            for number in range(made.pool.size + 2):
                await made.detach(f"c{number}")

    with temporary_root() as root:
        asyncio.run(scenario(root))
