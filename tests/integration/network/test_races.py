"""A container that comes while its network goes: either there is the network, or it says not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import pytest

from barque import errors
from barque.daemon.networks.service import Networks
from tests.support.netns_host import isolated, run, temporary_root
from tests.support.networks import networks
from tests.support.runtimes import wait_for

pytestmark = pytest.mark.root
ROUNDS = 24
SEED = 20261121


async def later(work: Awaitable[object], turns: int) -> object:
    """The outcome of `work`, begun some turns of the loop later."""
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        return await work
    except errors.BarqueError as error:
        return error


async def race(made: Networks, source: random.Random) -> tuple[object, object]:
    await made.create({"Name": "brief"})
    if source.random() < 0.5:
        coming: Awaitable[object] = made.attach("c", "c", "c", mode="brief")
    else:
        await made.attach("c", "c", "c")
        coming = made.connect("brief", "c", {})
    came, gone = await asyncio.gather(
        later(coming, source.randrange(6)), later(made.remove("brief"), source.randrange(6))
    )
    await made.detach("c")
    if isinstance(gone, errors.BarqueError):
        await made.remove("brief")
    return came, gone


@isolated
def test_a_place_in_a_network_that_is_being_removed() -> None:
    async def work() -> None:
        source = random.Random(SEED)
        with temporary_root() as root:
            async with networks(root) as made:
                for _ in range(ROUNDS):
                    came, gone = await race(made, source)
                    if isinstance(came, errors.BarqueError):
                        assert isinstance(came, errors.NotFound), came
                        assert str(came) == "network brief not found"
                        assert gone is None
                    else:
                        assert isinstance(gone, errors.Forbidden), gone
                        assert "has active endpoints" in str(gone)
                assert {n["Name"] for n in made.summaries({})} == {"bridge", "host", "none"}
        wait_for(lambda: "br-" not in (links := run("ip", "-br", "link")) and "veth" not in links)

    asyncio.run(work())
