"""`rm --link`: a link of the default network is forgotten."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.support.barque import Stack

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture
def pair(barque: Stack) -> Iterator[tuple[str, str]]:
    """(linked to, the one with the link `db`)."""
    one, other = (f"l{secrets.token_hex(4)}" for _ in range(2))
    barque.docker("run", "-d", "--name", one, "busybox", "sleep", "600")
    barque.docker("run", "-d", "--name", other, "--link", f"{one}:db", "busybox", "sleep", "600")
    yield one, other
    barque.docker("rm", "-f", other, one)


@pytest.mark.parametrize("ours", [True, False])
def test_a_link_is_removed(barque: Stack, pair: tuple[str, str], ours: bool) -> None:
    one, other = pair
    assert b"db" in barque.docker("exec", other, "cat", "/etc/hosts").stdout.split()
    run = barque.cli if ours else barque.docker
    assert run("rm", "--link", f"{other}/db").stdout.decode().strip() == f"{other}/db"
    (found,) = json.loads(barque.docker("inspect", other).stdout)
    assert not found["HostConfig"]["Links"]
    barque.docker("restart", "-t", "0", other)
    assert b"db" not in barque.docker("exec", other, "cat", "/etc/hosts").stdout.split()
    assert barque.docker("inspect", "-f", "{{.State.Running}}", one).stdout.strip() == b"true"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{other}/nothing", "No such link"),
        ("nobody/db", "Cannot get parent nobody for link name"),
        ("{other}", "cannot remove the default link name of the container"),
    ],
)
def test_what_is_no_link_is_said(
    barque: Stack, pair: tuple[str, str], name: str, words: str
) -> None:
    done = barque.docker("rm", "--link", name.format(other=pair[1]), check=False)
    assert done.returncode == 1
    assert words in done.stderr.decode()
    assert barque.docker("inspect", pair[1], check=False).returncode == 0
