"""A kernel call of a daemon fails, whichever: an error, and the old state (see `test_faults`)."""

from __future__ import annotations

import json
import threading

import pytest

from tests.interop.engine.test_faults import (
    CONTAINERD,
    DAEMON,
    Client,
    World,
    failed,
    pid_of,
)
from tests.support.barque import Stack
from tests.support.engine_api import Answer
from tests.support.faults import failing

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(300)]

# For each operation the calls that its roads make, as strace names them, and which of them fails.
FAULTS = {
    DAEMON: {
        "volume": ("pwrite64:EIO:1", "mkdir:ENOMEM:2", "openat:ENOMEM:1", "fdatasync,fsync:EIO:1"),
        "network": ("pwrite64:EIO:2", "write:EIO:1", "openat:ENOMEM:1", "fdatasync:EIO:1"),
        "container": ("pwrite64:EIO:1", "pwrite64:EIO:4", "fdatasync:EIO:1"),
        "start": (
            *(f"pwrite64:EIO:{number}" for number in (1, 2, 3, 4, 6, 9)),
            *("write:EIO:1", "write:EIO:2", "mkdir:ENOMEM:1", "openat:ENOMEM:1", "socket:ENOMEM:1"),
        ),
    },
    CONTAINERD: {
        "image": (
            *("pwrite64:EIO:1", "pwrite64:EIO:9", "write:EIO:1", "mkdir:ENOMEM:1"),
            *("openat:ENOMEM:3", "fsync:EIO:1", "rename:EIO:1"),
        ),
        "tag": ("pwrite64:EIO:1", "pwrite64:EIO:2", "pwrite64:EIO:3", "fdatasync:EIO:1"),
        "container": ("pwrite64:EIO:1", "mkdir:ENOMEM:1", "mkdir:ENOMEM:2"),
        "start": (
            *("pwrite64:EIO:1", "write:EIO:1", "write:EIO:3", "mkdir:ENOMEM:2", "openat:ENOMEM:2"),
            *("rename:EIO:1", "rename:EIO:2", "socket:ENOMEM:1", "socket:ENOMEM:2"),
        ),
    },
}
CASES = [
    (program, what, faults)
    for program, operations in FAULTS.items()
    for what, faults in operations.items()
]


@pytest.mark.parametrize(("program", "what", "faults"), CASES, ids=lambda value: str(value)[:20])
def test_what_is_told_is_true(
    barque: Stack, program: str, what: str, faults: tuple[str, ...]
) -> None:
    """And what failed goes through when it is asked for again."""
    pid, world, failures = pid_of(barque, program), World(barque), 0
    for fault in faults:
        calls, error, number = fault.split(":")
        name = "x" + fault.replace(":", "-").replace(",", "-").lower() + program
        if what == "start":
            assert not failed(world.make("container", name))
        with failing(pid, f"{calls}:error={error}:when={number}"):
            answer = world.make(what, name)
        wrong = failed(answer)
        failures += wrong
        assert world.there(what, name) is not wrong, (fault, answer)
        if wrong:
            again = world.make(what, name)
            assert not failed(again), (fault, answer, again)
            assert world.there(what, name)
        world.remove(what, name)
    assert failures
    assert barque.docker("run", "--rm", "busybox", "echo", "well").stdout == b"well\n"


def test_an_exit_that_cannot_be_written_is_told(barque: Stack) -> None:
    world = World(barque)
    assert not failed(world.make("container", "ends"))
    assert not failed(world.make("start", "ends"))
    told: list[Answer] = []
    waiting = Client(barque)
    waiter = threading.Thread(
        target=lambda: told.append(waiting.ask("POST", "/containers/ends/wait"))
    )
    waiter.start()
    try:
        with failing(pid_of(barque, DAEMON), "pwrite64:error=EIO"):
            assert world.client.ask("POST", "/containers/ends/kill").status == 204
            waiter.join(60)
        assert not waiter.is_alive()
        assert json.loads(told[0].body)["StatusCode"] == 137
        assert not world.there("start", "ends")
    finally:
        world.remove("container", "ends")
        waiter.join(60)
