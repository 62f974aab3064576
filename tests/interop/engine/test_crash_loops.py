"""Containers that end and are restarted over and over are stopped and removed at any moment."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.docker_cli import out

pytestmark = [pytest.mark.root, pytest.mark.peer]
CONTAINERS, CLIENTS = 24, 6
LOOP = ("run", "-d", "--network", "none", "--restart", "always", "busybox", "true")


def at_any_moment(engine: Any, *command: str) -> list[str]:
    """The ids of containers in loops, each after `command` was given it some time later."""
    source = random.Random(1)
    moments = [source.random() for _ in range(CONTAINERS)]

    def one(moment_s: float) -> str:
        container = out(engine, *LOOP)
        time.sleep(moment_s)
        assert out(engine, *command, container) == container
        return container

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(one, moments))


def test_removed_by_force(engine: Any) -> None:
    at_any_moment(engine, "rm", "-f")
    assert out(engine, "ps", "-aq") == ""


def test_stopped(engine: Any) -> None:
    stopped = at_any_moment(engine, "stop", "-t", "0")
    assert out(engine, "ps", "-q") == ""
    assert set(out(engine, "inspect", "-f", "{{.State.Status}}", *stopped).split()) == {"exited"}
    out(engine, "rm", *stopped)
