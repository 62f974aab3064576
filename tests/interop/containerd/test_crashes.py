"""kill -9 of containerd, the zygote and shims, in turn and together, while containers run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from barque import program
from tests.support import rootfs
from tests.support.node import IMAGE, OURS, RUNC, Node, alive, node, parent, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]
ROUNDS = 12
SEED = 20261121


@pytest.fixture(scope="module")
def running() -> Iterator[Node]:
    with node() as it:
        yield it


@pytest.fixture
def containerd(running: Node) -> Iterator[Node]:
    yield running
    for id in running.ctr("containers", "ls", "-q").stdout.split():
        running.end(id)


@pytest.fixture(params=[OURS, RUNC])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sleep(containerd: Node, id: str, runtime: str = OURS) -> int:
    containerd.run(id, "sleep", "1000", runtime=runtime, flags=("-d",))
    return containerd.pid(id)


def shim_of(containerd: Node, id: str) -> int:
    return parent(containerd.pid(id))


def test_containerd_dies(containerd: Node, runtime: str) -> None:
    pid = sleep(containerd, "stays", runtime)
    containerd.run("ends", "sh", "-c", "sleep 1; exit 5", runtime=runtime, flags=("-d",))
    ends = containerd.pid("ends")
    containerd.crash()
    assert wait_until(lambda: not alive(ends))  # ends while nobody is there
    assert alive(pid)
    containerd.start()
    assert containerd.tasks() == {"stays": "RUNNING", "ends": "STOPPED"}
    assert containerd.pid("stays") == pid
    done = containerd.ctr(
        "task", "exec", "--exec-id", "e", "stays", "sh", "-c", "exit 3", check=False
    )
    assert done.returncode == 3
    assert "code 5" in containerd.ctr("task", "rm", "ends", check=False).stderr
    containerd.end("stays")
    containerd.end("ends")
    assert not alive(pid)


def test_the_zygote_dies(containerd: Node) -> None:
    pid = sleep(containerd, "before")
    (zygote,) = containerd.children()
    os.kill(zygote, signal.SIGKILL)
    assert containerd.run("after", "true", flags=("--rm",)).returncode == 0
    assert len(containerd.children()) == 1
    assert zygote not in containerd.children()
    assert alive(pid)
    assert containerd.tasks() == {"before": "RUNNING"}
    containerd.end("before")


def test_a_dead_containerd_leaves_no_zygote(containerd: Node) -> None:
    (zygote,) = containerd.children()
    containerd.crash()
    assert wait_until(lambda: not alive(zygote))
    containerd.start()
    assert wait_until(lambda: len(containerd.children()) == 1)


def test_a_shim_dies(containerd: Node, runtime: str) -> None:
    pid, other = sleep(containerd, "dies", runtime), sleep(containerd, "lives", runtime)
    with subprocess.Popen(
        ["ctr", "--address", containerd.address, "run", "--runtime", runtime, IMAGE, "held", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as held:
        assert wait_until(lambda: containerd.tasks().get("held") == "RUNNING")
        os.kill(shim_of(containerd, "held"), signal.SIGKILL)
        os.kill(shim_of(containerd, "dies"), signal.SIGKILL)
        assert wait_until(lambda: containerd.tasks() == {"lives": "RUNNING"})
        held.kill()
    assert wait_until(lambda: not alive(pid))
    assert alive(other)
    assert not [path for path in rootfs.mounts_below(containerd.root) if "/dies/" in path]
    assert not (containerd.root / "state/io.containerd.runtime.v2.task/default/dies").exists()
    containerd.end("dies")
    assert sleep(containerd, "dies", runtime)
    for id in ("dies", "lives", "held"):
        containerd.end(id)


def test_containerd_and_a_shim_die_together(containerd: Node, runtime: str) -> None:
    pid = sleep(containerd, "both", runtime)
    shim = shim_of(containerd, "both")
    containerd.crash()
    os.kill(shim, signal.SIGKILL)
    containerd.start()
    assert containerd.tasks() == {}
    assert wait_until(lambda: not alive(pid))
    assert rootfs.mounts_below(containerd.root) == []
    containerd.end("both")


def test_deaths_in_the_middle_of_starting(containerd: Node) -> None:
    """Whatever instant containerd or the zygote dies at, nothing is left of a start half done."""
    dice = random.Random(SEED)
    kept = sleep(containerd, "kept")
    for round in range(ROUNDS):
        id = f"start{round}"
        victim = dice.choice(["containerd", "zygote"])
        with subprocess.Popen(
            [
                *("ctr", "--address", containerd.address, "run", "--detach", "--runtime", OURS),
                *("--cgroup", f"/{containerd.word}/{id}", IMAGE, id, "sleep", "1000"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as starting:
            with suppress(subprocess.TimeoutExpired):
                starting.wait(dice.uniform(0.001, 0.07))
            if victim == "containerd":
                containerd.crash()
            else:
                for pid in containerd.children():
                    os.kill(pid, signal.SIGKILL)
            starting.wait(20)
        if victim == "containerd":
            containerd.start()
        assert alive(kept)
        status = containerd.tasks().get(id)
        assert status in (None, "CREATED", "RUNNING"), f"{id} after death of {victim}: {status}"
        containerd.end(id)
        assert id not in containerd.tasks()
        assert not (containerd.root / f"state/io.containerd.runtime.v2.task/default/{id}").exists()
    assert containerd.tasks() == {"kept": "RUNNING"}
    containerd.end("kept")


def test_a_second_server_does_not_disturb_the_first(containerd: Node) -> None:
    """Same state under another root, and same address: refused before anything is touched."""
    pid = sleep(containerd, "kept")
    root, state = containerd.root / "root2", containerd.root / "state2"
    for flags in (
        ["--root", str(root), "--state", f"{containerd.root}/state", "--address", f"{root}.sock"],
        ["--root", str(root), "--state", str(state), "--address", containerd.address],
    ):
        second = subprocess.run(
            program.command("barque-containerd", *flags), capture_output=True, text=True, timeout=30
        )
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert "another" in second.stderr
    assert alive(pid)
    assert containerd.tasks() == {"kept": "RUNNING"}
    with containerd.events() as lines:
        containerd.run("told", "true", flags=("--rm",))
        assert wait_until(lambda: any("/tasks/exit" in line for line in lines))
