"""A life of the daemon's part of networks that ends in the middle of something, by kill -9.

What a `Step` tells is what a client was told: `+name` of a container that is there, `-name` of one
that has begun to go.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.networks.service import Networks
from tests.support.netns_host import run
from tests.support.networks import open_networks

CONTAINERS = 4
LIFE_S = 0.25  # the longest
LOOKS, LOOK_S = 1500, 0.02

Tell = Callable[[str], None]
Step = Callable[[Networks, random.Random, set[str], Tell], Coroutine[Any, Any, None]]


async def step_in(
    network: str,
    body: dict[str, Any],
    made: Networks,
    choice: random.Random,
    attached: set[str],
    tell: Tell,
    *,
    forgiven: type[errors.BarqueError] = errors.Forbidden,
) -> None:
    """A container comes or goes, joins `network` or leaves it; or that is made or removed.

    `forgiven` is what may be said of a network that the last kill left half made or half gone, and
    of one that somebody is in.
    """
    name = f"c{choice.randrange(CONTAINERS)}"
    here = any(item["Name"] == network for item in made.summaries({}))
    match choice.randrange(4):
        case 0 if name not in attached:
            try:
                await made.attach(name, name, name, network if here else "bridge")
            except forgiven:
                return
            attached.add(name)
            tell(f"+{name}")
        case 1 if name in attached:
            attached.discard(name)
            tell(f"-{name}")
            await made.detach(name)
        case 2 if not here:
            await made.create({"Name": network, **body})
        case 2:
            try:
                await made.remove(network)
            except forgiven:
                pass
        case 3 if here and name in attached:
            if network in made.settings(name)["Networks"]:
                await made.disconnect(network, name)
            else:
                await made.connect(network, name, {})


def crash(root: Path, seed: int, live: set[str], step: Step) -> set[str]:
    """A daemon's life and death; returns the containers that ran at its end."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            _run_and_die(root, random.Random(seed), live, write, step)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(3)
    os.close(write)
    with os.fdopen(read) as stream:
        report = stream.read()
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the child failed by itself: {status}"
    return _survivors(live, report)


def _run_and_die(
    root: Path, choice: random.Random, live: set[str], report: int, step: Step
) -> None:
    def tell(what: str) -> None:
        os.write(report, f"{what}\n".encode())

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def scenario() -> None:
        made, _database = open_networks(root)
        await made.start()
        await made.restore(live)
        attached = set(live)
        threading.Timer(choice.uniform(0.0, LIFE_S), die).start()
        while True:
            await step(made, choice, attached, tell)

    asyncio.run(scenario())


def _survivors(before: set[str], report: str) -> set[str]:
    alive = set(before)
    for line in report.splitlines():
        if line.startswith("+"):
            alive.add(line[1:])
        else:
            alive.discard(line[1:])
    return alive


def links(netns: str | None = None) -> dict[str, str]:
    """The link address of each interface by its name, but for the loopback."""
    found = json.loads(run("ip", "-j", "link", netns=netns))
    return {link["ifname"]: link["address"] for link in found if link["ifname"] != "lo"}


def has_its_places(settings: dict[str, Any]) -> bool:
    """Whether the interfaces in a sandbox are those of its networks, by their link addresses."""
    wanted = {place["MacAddress"] for place in settings["Networks"].values()}
    return set(links(settings["SandboxKey"]).values()) == wanted


async def settled(check: Callable[[], bool]) -> bool:
    """The kernel takes its time for interfaces that go."""
    for _ in range(LOOKS):
        if check():
            return True
        await asyncio.sleep(LOOK_S)
    return False
