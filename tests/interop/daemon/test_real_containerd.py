"""Our daemon on Debian's real containerd, with our shim on its PATH."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.barque import Stack, stack
from tests.support.containerd_peer import ContainerdPeer, containerd_peer

pytestmark = [pytest.mark.root, pytest.mark.peer]
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def peer() -> Iterator[ContainerdPeer]:
    with containerd_peer() as made:
        yield made


@pytest.fixture(scope="module")
def barque(peer: ContainerdPeer) -> Iterator[Stack]:
    with stack("--containerd", peer.address) as made:
        yield made


def test_run_exec_stop_and_remove(barque: Stack, peer: ContainerdPeer) -> None:
    done = barque.docker("run", "--rm", "-i", "busybox", "cat", stdin=b"in")
    assert done.stdout == b"in"
    assert (
        barque.docker("run", "--rm", "busybox", "sh", "-c", "exit 4", check=False).returncode == 4
    )
    barque.docker("run", "-d", "--name", "there", "busybox", "sleep", "1000")
    name = json.loads(barque.docker("inspect", "there").stdout)[0]["Id"]
    assert name in peer.ctr("-n", "moby", "tasks", "ls").stdout
    assert barque.docker("exec", "there", "echo", "hi").stdout == b"hi\n"
    barque.docker("pause", "there")
    barque.docker("unpause", "there")
    barque.docker("restart", "-t", "0", "there")
    barque.docker("rm", "-f", "there")
    deadline = time.monotonic() + LIMIT_S
    while name in peer.ctr("-n", "moby", "snapshots", "ls").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_that_is_not_there(barque: Stack) -> None:
    done = barque.docker("run", "--rm", "busybox", "nosuch", check=False)
    assert done.returncode == 127
    assert b"executable file not found in $PATH: unknown" in done.stderr


def test_a_created_container_outlives_garbage_collection(
    barque: Stack, peer: ContainerdPeer
) -> None:
    barque.docker("create", "--name", "kept", "busybox", "echo", "still here")
    peer.ctr("-n", "moby", "leases", "create", "--id", "turn")
    peer.ctr("-n", "moby", "leases", "rm", "--sync", "turn")  # collects before it answers
    assert barque.docker("start", "-a", "kept").stdout == b"still here\n"
    barque.docker("rm", "kept")


def test_containerd_is_killed_and_comes_back(barque: Stack, peer: ContainerdPeer) -> None:
    barque.docker("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    barque.docker("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 0.5; exit 9")
    peer.kill()
    time.sleep(0.7)
    peer.start()
    deadline = time.monotonic() + LIMIT_S
    while True:
        state = json.loads(barque.docker("inspect", "ends").stdout)[0]["State"]
        if state["Status"] == "exited":
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert state["ExitCode"] == 9
    assert barque.docker("exec", "stays", "echo", "hi").stdout == b"hi\n"
    barque.docker("rm", "-f", "stays", "ends")
