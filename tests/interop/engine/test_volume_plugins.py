"""Volumes of a plugin as users meet them; Debian's dockerd does the same with the same plugin."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_cli import fails, out
from tests.support.volume_plugin import MADE, Keeper

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module")
def keeper(engine: Any) -> Iterator[Keeper]:
    """One for all: dockerd tries for long to reach those that it knows and that are away."""
    root = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    made = Keeper(root, mine=str(engine.root))
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root)


def name() -> str:
    return f"v{secrets.token_hex(4)}"


def test_a_volume_of_a_plugin_from_create_to_rm(engine: Any, keeper: Keeper) -> None:
    volume, container = name(), name()
    out(engine, "volume", "create", "-d", keeper.name, "-o", "colour=red", volume)
    assert keeper.options[volume] == {"colour": "red"}
    found = json.loads(out(engine, "volume", "inspect", volume))[0]
    assert (found["Driver"], found["Scope"], found["Status"]) == (
        keeper.name,
        "global",
        {"users": 0},
    )
    run = ("run", "-d", "--name", container, "-v", f"{volume}:/data", "busybox")
    out(engine, *run, "sh", "-c", "echo kept > /data/file; exec sleep 600")
    try:
        assert len(keeper.users[volume]) == 1
        again = ("run", "--rm", "-v", f"{volume}:/data", "busybox", "cat", "/data/file")
        assert out(engine, *again) == "kept"
        assert "volume is in use" in fails(engine, "volume", "rm", volume)
    finally:
        out(engine, "rm", "-f", container)
    assert keeper.users[volume] == []
    assert (keeper.root / volume / "file").read_text() == "kept\n"
    out(engine, "volume", "rm", volume)
    assert volume not in keeper.options


def test_a_plugin_that_is_started_again_meanwhile(engine: Any, keeper: Keeper) -> None:
    volume, container = name(), name()
    mount = f"type=volume,src={volume},dst=/data,volume-driver={keeper.name}"
    run = ("run", "-d", "--name", container, "--mount", mount, "busybox", "sleep", "600")
    out(engine, *run)
    keeper.stop()
    if isinstance(engine, Stack):  # dockerd waits for it, and then leaves the volume out
        assert volume in out(engine, "volume", "ls", "-q")
    assert out(engine, "exec", container, "ls", "/data") == ""
    keeper.start()
    out(engine, "rm", "-f", container)
    assert keeper.users[volume] == []
    out(engine, "volume", "rm", volume)


def test_what_a_plugin_refuses(engine: Any, keeper: Keeper) -> None:
    volume = name()
    said = fails(engine, "volume", "create", "-d", keeper.name, "-o", "colour=none", volume)
    assert "a colour is wanted" in said
    assert volume not in out(engine, "volume", "ls", "-q")
    out(engine, "volume", "create", "-d", keeper.name, volume)
    keeper.keeps = True
    assert "is dear" in fails(engine, "volume", "rm", volume)
    assert volume in out(engine, "volume", "inspect", volume)
    assert "is dear" in fails(engine, "volume", "rm", "-f", volume)  # and yet it is forgotten
    keeper.keeps = False
    keeper.forget(volume)
    assert volume not in out(engine, "volume", "ls", "-q")


def listed(engine: Any, *filters: str) -> dict[str, str]:
    """Driver by name."""
    asked = [word for text in filters for word in ("--filter", text)]
    lines = out(engine, "volume", "ls", *asked, "--format", "{{.Name}} {{.Driver}}").splitlines()
    return dict(line.split() for line in lines)


def test_a_volume_that_a_plugin_made_by_itself(engine: Any, keeper: Keeper) -> None:
    volume, other, container = name(), name(), name()
    keeper.make(volume)
    keeper.make(other)
    mine = f"driver={keeper.name}"
    assert listed(engine, mine, f"name={volume}") == {volume: keeper.name}
    assert listed(engine, mine, "dangling=true") == {volume: keeper.name, other: keeper.name}
    found = json.loads(out(engine, "volume", "inspect", volume))[0]
    assert found == {
        "CreatedAt": MADE,
        "Driver": keeper.name,
        "Labels": None,
        "Mountpoint": "",
        "Name": volume,
        "Options": None,
        "Scope": "global",
        "Status": {"users": 0},
    }
    out(engine, "run", "-d", "--name", container, "-v", f"{volume}:/data", "busybox", "sleep", "9")
    try:
        assert len(keeper.users[volume]) == 1
        mounts = json.loads(out(engine, "inspect", "-f", "{{json .Mounts}}", container))
        assert [(m["Name"], m["Driver"]) for m in mounts] == [(volume, keeper.name)]
        assert listed(engine, mine, "dangling=false") == {volume: keeper.name}
        assert "volume is in use" in fails(engine, "volume", "rm", volume)
    finally:
        out(engine, "rm", "-f", container)
    assert volume not in out(engine, "system", "df", "-v")
    out(engine, "volume", "rm", volume, other)
    assert keeper.options == {}
    assert "no such volume" in fails(engine, "volume", "inspect", volume)


def test_whose_volume_it_is_when_two_could_have_it(engine: Any, keeper: Keeper) -> None:
    theirs, ours = name(), name()
    keeper.make(theirs)
    local = ("--mount", f"type=volume,src={theirs},dst=/d,volume-driver=local", "busybox", "true")
    out(engine, "volume", "create", "-d", keeper.name, "--label", "a=b", theirs)  # now it is known
    assert json.loads(out(engine, "volume", "inspect", theirs))[0]["Labels"] == {"a": "b"}
    said = f"driver '{keeper.name}' already has volume '{theirs}': volume name must be unique"
    assert said in fails(engine, "run", "--rm", *local)
    assert said in fails(engine, "volume", "create", "-d", "local", theirs)
    out(engine, "volume", "create", ours)
    said = f"driver 'local' already has volume '{ours}': volume name must be unique"
    assert said in fails(engine, "volume", "create", "-d", keeper.name, ours)
    keeper.make(ours)
    assert listed(engine, f"name={ours}") == {ours: "local"}
    keeper.forget(ours)
    out(engine, "volume", "rm", ours, theirs)
    assert keeper.options == {}


def test_a_plugin_loses_a_volume(engine: Any, keeper: Keeper) -> None:
    volume = name()
    out(engine, "volume", "create", "-d", keeper.name, volume)
    keeper.forget(volume)
    assert listed(engine, f"name={volume}") == {}
    assert "no such volume" in fails(engine, "volume", "inspect", volume)
    out(engine, "volume", "create", volume)  # the name is free
    assert listed(engine, f"name={volume}") == {volume: "local"}
    out(engine, "volume", "rm", volume)


def test_pruning_leaves_the_volumes_of_plugins(engine: Any, keeper: Keeper) -> None:
    volume = name()
    out(engine, "volume", "create", "-d", keeper.name, volume)
    out(engine, "system", "prune", "--volumes", "-f")
    assert keeper.options == {volume: {}}
    out(engine, "volume", "rm", volume)


def test_what_an_image_has_is_copied_into_the_empty_volume_of_a_plugin(
    engine: Any, keeper: Keeper
) -> None:
    volume, full = name(), name()
    out(engine, "run", "--rm", "-v", f"{volume}:/etc", "--volume-driver", keeper.name, "busybox")
    assert (keeper.root / volume / "passwd").read_text().startswith("root:")
    keeper.make(full)
    (keeper.root / full / "own").touch()
    out(engine, "run", "--rm", "-v", f"{full}:/etc", "busybox")
    assert not (keeper.root / full / "passwd").exists()
    assert keeper.users == {volume: [], full: []}
    out(engine, "volume", "rm", volume, full)
