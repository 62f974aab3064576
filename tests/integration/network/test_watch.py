"""Whose changes of rules wake the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barque.network.watch import RulesWatch
from tests.support.netns_host import isolated, run, temporary_root
from tests.support.networks import networks

pytestmark = pytest.mark.root


@isolated
def test_our_own_changes_are_no_loss_and_others_are() -> None:
    async def scenario(root: Path) -> None:
        async with networks(root) as made:
            firewall = made._host.firewall
            await made.create({"Name": "first"})  # the socket of changes is open from now on
            watch = RulesWatch(firewall.table, firewall.port)
            try:
                await made.create({"Name": "one"})
                await made.attach("c", "c", "c", "one", ports={"80/tcp": [{"HostPort": "8080"}]})
                await made.detach("c")
                await made.remove("one")
                assert not watch.changed()
                assert not watch.foreign
                run("nft", "add", "table", "inet", "site")
                assert not watch.changed()
                assert watch.foreign
                run("nft", "flush", "chain", "inet", firewall.table, "forward")
                assert watch.changed()
            finally:
                watch.close()
            await made.remove("first")

    with temporary_root() as root:
        asyncio.run(scenario(root))
