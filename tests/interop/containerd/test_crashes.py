"""kill -9 of containerd, the zygote and shims, in turn and together, while containers run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator

import pytest

from barque import program
from barque.linux.lock import EXIT_TAKEN
from tests.support import rootfs
from tests.support.node import IMAGE, OURS, RUNC, Node, alive, node, parent, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]


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
    done = containerd.run(id, "sleep", "1000", runtime=runtime, flags=("-d",))
    assert done.returncode == 0, f"{done.stderr}\n{containerd.log[-2000:]}"
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


def test_a_second_server_does_not_disturb_the_first(containerd: Node) -> None:
    """Same state under another root, and same address: refused before anything is touched."""
    pid = sleep(containerd, "kept")
    root, state = containerd.root / "root2", containerd.root / "state2"
    shared = ["--root", str(root), "--state", f"{containerd.root}/state"]
    for flags, code in (
        ([*shared, "--address", f"{root}.sock"], EXIT_TAKEN),
        (["--root", str(root), "--state", str(state), "--address", containerd.address], 1),
    ):
        second = subprocess.run(
            program.command("barque-containerd", *flags), capture_output=True, text=True, timeout=30
        )
        assert second.returncode == code
        assert second.stderr.count("\n") == 1
        assert "another" in second.stderr
    assert alive(pid)
    assert containerd.tasks() == {"kept": "RUNNING"}
    with containerd.events() as lines:
        containerd.run("told", "true", flags=("--rm",))
        assert wait_until(lambda: any("/tasks/exit" in line for line in lines))


def test_a_group_lives_and_dies_with_its_shim(containerd: Node, runtime: str) -> None:
    mark = ("-d", "--annotation", "io.containerd.runc.v2.group=pod")
    for id in ("one", "two", "three"):
        done = containerd.run(id, "sleep", "1000", runtime=runtime, flags=mark)
        assert done.returncode == 0, done.stderr
    (shim,) = {shim_of(containerd, id) for id in ("one", "two", "three")}
    containerd.end("one")
    assert containerd.tasks() == {"two": "RUNNING", "three": "RUNNING"}
    containerd.crash()
    containerd.start()
    assert containerd.tasks() == {"two": "RUNNING", "three": "RUNNING"}
    done = containerd.run("one", "sleep", "1000", runtime=runtime, flags=mark)
    assert done.returncode == 0, done.stderr
    assert shim_of(containerd, "one") == shim
    pids = containerd.pids().values()
    os.kill(shim, signal.SIGKILL)
    assert wait_until(lambda: containerd.tasks() == {})
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    for id in ("one", "two", "three"):
        containerd.end(id)


def soft_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def test_descriptors_are_containerds_alone() -> None:
    """Each task takes some: its limit is raised, what it starts has the limit that was given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, hard))
    try:
        with node() as it:
            assert it.process is not None
            assert soft_limit(it.process.pid) == hard
            assert wait_until(lambda: [soft_limit(pid) for pid in it.children()] == [777])
            sleep(it, "one")
            assert soft_limit(shim_of(it, "one")) == 777
            it.end("one")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
