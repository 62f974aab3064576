"""Plugins that keep volumes and do not answer: the others' volumes are told all the same."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.volumes import keepers
from barque.daemon.volumes.service import Volumes
from barque.linux.mount import mount
from barque.program import command
from barque.volume.local import LocalVolumes
from tests.support.netns_host import isolated, temporary_root
from tests.support.network_plugin import Plugin
from tests.support.plugin_server import serving
from tests.support.volume_plugin import SOCKETS, Keeper

pytestmark = pytest.mark.root


async def look(root: Path, away: Keeper, slow: Keeper) -> None:
    (root / "volumes").mkdir()
    database = Database.open(root / "daemon.db")
    local = LocalVolumes(root / "volumes", command("barque-copyup"))
    volumes = Volumes(database, Events(), local, root / "parts")
    await volumes.create({"Name": "ours"})
    await volumes.create({"Name": "theirs", "Driver": slow.name})
    slow.hangs.clear()
    found, warnings = await volumes.listed({})
    assert {volume["Name"]: volume["Driver"] for volume in found} == {
        "ours": "local",
        "theirs": slow.name,
        "well": "keeperwell",
    }
    asked = {away.name: "Connection refused", slow.name: "timed out"}
    for warning, (name, words) in zip(sorted(warnings), sorted(asked.items()), strict=True):
        assert f"plugin {name}: " in warning
        assert words in warning
    assert (await volumes.inspect("well"))["Scope"] == "global"
    assert await volumes.reserve("new", "c1") == "local"
    database.close()


@isolated
def test_a_plugin_that_is_gone_and_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "ASK_LIMIT_S", 0.5)
    mount("tmpfs", "/run", "tmpfs")
    with temporary_root() as root, serving_another_kind():
        away, slow, well = (Keeper(root, mine="") for _ in range(3))
        well.name = "keeperwell"
        for keeper in (away, slow, well):
            keeper.start()
        well.make("well")
        address = SOCKETS / f"{away.name}.sock"
        kept = address.with_name("kept")
        address.rename(kept)
        away.stop()
        kept.rename(address)
        asyncio.run(look(root, away, slow))
        slow.stop()
        well.stop()


def serving_another_kind() -> AbstractContextManager[None]:
    """One that keeps networks is no matter of ours."""
    SOCKETS.mkdir(parents=True)
    return serving(SOCKETS / "networks.sock", Plugin("br0").answer)
