"""Checkpoints where criu cannot work: what both daemons say of them. tests/vm has those that do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_cli import fails, out
from tests.support.docker_peer import docker_peer
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
DISABLED = "experimental feature is disabled by default"
OWN_CGROUPS = ("--cgroupns", "private")  # what our runtime needs, where they are of version 1


@pytest.fixture(scope="module", params=["ours", "docker"])
def experimental(request: pytest.FixtureRequest) -> Iterator[Any]:
    flags = ["--experimental"]
    with stack(*flags) if request.param == "ours" else docker_peer(flags) as made:
        made.docker("run", "-d", "--name", "runs", *OWN_CGROUPS, "busybox", "sleep", "1000")
        made.docker("create", "--name", "rests", "busybox")
        yield made


def test_only_an_experimental_daemon_has_them(engine: Any) -> None:
    for method, path in (
        ("GET", "/containers/nosuch/checkpoints"),
        ("POST", "/containers/nosuch/checkpoints"),
        ("DELETE", "/containers/nosuch/checkpoints/one"),
    ):
        answer = ask(engine.socket, method, path, b"{}")
        assert answer.status == 501
        assert DISABLED in answer.message
    answer = ask(engine.socket, "POST", "/containers/nosuch/start?checkpoint=one")
    assert (answer.status, answer.message) == (
        400,
        "checkpoint is only supported in experimental mode",
    )
    assert "experimental features enabled" in fails(engine, "checkpoint", "ls", "nosuch")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("create rests one", "Container rests not running"),
        ("create runs ../one", r"Invalid checkpoint ID (../one), only [a-zA-Z0-9][a-zA-Z0-9_.-]"),
        ("create nosuch one", "No such container: nosuch"),
        ("rm runs one", "checkpoint one does not exist for container runs"),
        ("ls nosuch", "No such container: nosuch"),
        ("ls --checkpoint-dir /nosuch runs", "checkpoint  does not exist for container runs"),
    ],
)
def test_what_is_refused(experimental: Any, words: str, said: str) -> None:
    assert said in fails(experimental, "checkpoint", *words.split())


def test_what_criu_cannot_save_leaves_nothing(experimental: Any) -> None:
    """This kernel has not what criu needs; the container goes on."""
    said = fails(experimental, "checkpoint", "create", "runs", "one")
    assert re.search(r"Cannot checkpoint container runs: .*criu", said)
    assert out(experimental, "checkpoint", "ls", "runs") == "CHECKPOINT NAME"
    assert out(experimental, "exec", "runs", "echo", "there") == "there"
    assert out(experimental, "inspect", "-f", "{{.State.Status}}", "runs") == "running"


def test_a_start_of_no_checkpoint(experimental: Any) -> None:
    said = fails(experimental, "start", "--checkpoint", "one", "rests")
    assert re.search("checkpoint one does not exist for container /?rests", said)
    both = fails(experimental, "start", "--checkpoint", "one", "rests", "runs")
    assert "cannot restore multiple containers at once" in both


@pytest.fixture(scope="module")
def ours() -> Iterator[Stack]:
    with stack("--experimental") as made:
        made.cli("run", "-d", "--name", "runs", *OWN_CGROUPS, "busybox", "sleep", "1000")
        yield made


def test_our_command(ours: Stack, tmp_path: Path) -> None:
    done = ours.cli(
        "checkpoint", "create", "--checkpoint-dir", str(tmp_path), "runs", "one", check=False
    )
    assert done.returncode == 1
    assert re.search(rb"Cannot checkpoint container runs: .*criu", done.stderr)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "two").mkdir()
    listed = ours.cli("checkpoint", "ls", "--checkpoint-dir", str(tmp_path), "runs")
    assert listed.stdout.split() == [b"CHECKPOINT", b"NAME", b"two"]
    done = ours.cli(
        "checkpoint", "create", "--checkpoint-dir", str(tmp_path), "runs", "two", check=False
    )
    assert b"checkpoint with name two already exists for container runs" in done.stderr
    ours.cli("checkpoint", "rm", "--checkpoint-dir", str(tmp_path), "runs", "two")
    assert list(tmp_path.iterdir()) == []
    assert list((ours.root / "d" / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "-x", "a\0b"])
@pytest.mark.parametrize("directory", ["", "relative", "/etc"])
def test_names_that_lead_elsewhere(ours: Stack, name: str, directory: str) -> None:
    body = json.dumps({"CheckpointID": name, "CheckpointDir": directory}).encode()
    assert ask(ours.socket, "POST", "/containers/runs/checkpoints", body).status == 400
