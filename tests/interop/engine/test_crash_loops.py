"""Containers that end and are restarted over and over are stopped and removed at any moment."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.docker_cli import out
from tests.support.node import wait_until

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


def test_started_by_hand_the_count_begins_anew(engine: Any) -> None:
    script = ("--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 1")
    container = out(engine, "run", "-d", "--network", "none", *script)
    assert wait_until(lambda: state(engine, container) == "exited 2")
    assert wait_until(lambda: out(engine, "logs", container).count("run") == 3)
    out(engine, "start", container)
    assert wait_until(lambda: out(engine, "logs", container).count("run") == 6)
    assert wait_until(lambda: state(engine, container) == "exited 2")
    out(engine, "rm", "-f", container)


def state(engine: Any, container: str) -> str:
    return out(engine, "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", container)


def test_logs_are_followed_to_the_end_of_a_run(engine: Any) -> None:
    script = "test -f /again && exec sleep 1000; sleep 3; touch /again; echo once; exit 1"
    run = ("run", "-d", "--network", "none", "--restart", "always", "busybox", "sh", "-c")
    container = out(engine, *run, script)
    assert out(engine, "logs", "-f", container) == "once"
    assert wait_until(lambda: state(engine, container) == "running 1")
    out(engine, "rm", "-f", container)
