"""The command, and beside it the real docker CLI, on a service of podman."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.cli.conftest import PODMAN_IMAGE as IMAGE
from tests.interop.cli.conftest import PODMAN_RUN as RUN
from tests.interop.cli.conftest import Commands

pytestmark = [pytest.mark.peer, pytest.mark.root]


@pytest.fixture
def name(podman: Commands) -> Iterator[str]:
    made = f"t{secrets.token_hex(4)}"
    code, _, error = podman.ours("run", "-d", "--name", made, *RUN, IMAGE, "sleep", "1000")
    assert code == 0, error
    yield made
    podman.ours("rm", "-f", made)


@pytest.mark.parametrize(
    "line",
    [
        "version --format {{.Server.Version}}",
        "info --format {{.Driver}}",
        "images",
        "image inspect localhost/busybox",
        "history localhost/busybox --format {{.CreatedBy}}",
        "ps -a",
        "network ls",
        "network inspect bridge",
        "volume ls",
        "system df",
        "inspect nosuch",
        "rm nosuch",
        "logs nosuch",
    ],
)
def test_both_say_the_same(podman: Commands, line: str) -> None:
    podman.same(*line.split())


def test_output_input_and_exit_code(podman: Commands) -> None:
    code, out, _ = podman.same("run", *RUN, IMAGE, "sh", "-c", "echo out; exit 3")
    assert (code, out) == (3, b"out\n")
    code, out, _ = podman.same("run", "--rm", "-i", *RUN, IMAGE, "cat", stdin=b"in")
    assert (code, out) == (0, b"in")
    podman.same("container", "prune", "-f", "--filter", "label=nosuch")


def test_a_life(podman: Commands, name: str, tmp_path: Path) -> None:
    assert podman.same("exec", name, "sh", "-c", "echo inside; exit 4")[:2] == (4, b"inside\n")
    assert podman.same("exec", "-i", name, "cat", stdin=b"abc")[1] == b"abc"
    template = "{{.State.Status}} {{.Config.Cmd}}"
    assert podman.same("inspect", "-f", template, name)[1] == b"running [sleep 1000]\n"
    assert b"sleep 1000" in podman.same("top", name)[1]
    (tmp_path / "file").write_text("copied")
    assert podman.ours("cp", str(tmp_path / "file"), f"{name}:/tmp/x")[0] == 0
    assert podman.ours("cp", f"{name}:/tmp/x", str(tmp_path / "back"))[0] == 0
    assert (tmp_path / "back").read_text() == "copied"
    ours, theirs = podman.ours("diff", name)[1], podman.theirs("diff", name)[1]
    assert sorted(ours.splitlines()) == sorted(theirs.splitlines())  # podman has no order
    assert b"A /tmp/x" in ours.splitlines()
    for command in ("pause", "unpause", "kill"):
        assert podman.ours(command, name)[:2] == (0, f"{name}\n".encode())
    assert podman.same("wait", name)[1] == b"137\n"
    assert podman.ours("rm", name)[0] == 0


def test_volumes(podman: Commands) -> None:
    made = f"v{secrets.token_hex(4)}"
    assert podman.ours("volume", "create", made)[1] == f"{made}\n".encode()
    podman.same("volume", "inspect", made)
    assert podman.ours("volume", "rm", made)[0] == 0
