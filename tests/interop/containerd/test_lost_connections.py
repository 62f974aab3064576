"""A connection between containerd and a shim breaks, and both live: nothing of the task does.

It is shut down from outside, by a copy of the shim's descriptor: containerd is left with calls that
were carried out or not.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.node import OURS, RUNC, Node, alive, node, parent, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer]
PIDFD_GETFD = 438
ROUNDS = 4
SEED = 20261121
STATES = (None, "CREATED", "RUNNING", "STOPPED")


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        yield made


@pytest.fixture(params=[OURS, RUNC])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def hang_up(shim: int) -> int:
    """Break the connections that the shim has accepted, or was given; how many."""
    pidfd = os.pidfd_open(shim)
    broken = 0
    for name in os.listdir(f"/proc/{shim}/fd"):
        with suppress(OSError):
            if not os.readlink(f"/proc/{shim}/fd/{name}").startswith("socket:"):
                continue
            fd = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(name), 0)
            with socket.socket(fileno=fd) as copy:
                if copy.family == socket.AF_UNIX and is_served(copy):
                    copy.shutdown(socket.SHUT_RDWR)
                    broken += 1
    os.close(pidfd)
    return broken


def is_served(one: socket.socket) -> bool:
    """Not one that listens, nor one by which the shim has connected to somebody's path."""
    if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    return bool(one.getsockname()) or not one.getpeername()


def started(it: Node, runtime: str, *command: str) -> int:
    """A task `one`; its shim."""
    done = it.run("one", *command, runtime=runtime, flags=("-d",))
    assert done.returncode == 0, done.stderr
    return parent(it.pid("one"))


def test_a_task_outlives_its_connection(it: Node, runtime: str) -> None:
    shim = started(it, runtime, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    pid = it.pid("one")
    waits = subprocess.Popen(
        ["ctr", "--address", it.address, "task", "attach", "one"], stdin=subprocess.DEVNULL
    )
    for _ in range(3):
        assert hang_up(shim) == 1
        assert it.tasks() == {"one": "RUNNING"}
        assert it.pid("one") == pid
    it.ctr("task", "kill", "-s", "TERM", "one")
    assert waits.wait(30) == 7  # its call of Wait was made again
    assert wait_until(lambda: not alive(shim))
    it.end("one")


@pytest.mark.parametrize(
    "words",
    [
        ("task", "rm", "--force", "one"),
        ("task", "pause", "one"),
        ("task", "ps", "one"),
    ],
    ids=lambda words: words[1],
)
def test_a_call_whose_answer_may_be_lost(it: Node, words: tuple[str, ...]) -> None:
    """The client may be told of a failure; a task that is removed has no shim, however it went."""
    dice = random.Random(SEED)
    for number in range(ROUNDS):
        shim = started(it, OURS, "sleep", "1000")
        pid = it.pid("one")
        asks = subprocess.Popen(
            ["ctr", "--address", it.address, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(dice.uniform(0.01, 0.06))
        with suppress(ProcessLookupError, FileNotFoundError):
            hang_up(shim)
        asks.wait(60)
        assert it.tasks().get("one") in (*STATES, "PAUSED")
        it.ctr("task", "resume", "one", check=False)
        it.end("one")
        assert wait_until(lambda pair=(pid, shim): not any(map(alive, pair))), number  # type: ignore[misc]
        assert it.tasks() == {}


def test_a_shim_that_is_killed_is_dead(it: Node, runtime: str) -> None:
    shim = started(it, runtime, "sleep", "1000")
    pid = it.pid("one")
    hang_up(shim)
    os.kill(shim, signal.SIGKILL)
    assert wait_until(lambda: it.tasks() == {})
    assert wait_until(lambda: not alive(pid))
    it.end("one")
