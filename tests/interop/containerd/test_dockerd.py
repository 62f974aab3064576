"""Debian's real dockerd on our containerd: `dockerd --containerd SOCKET`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.docker_peer import Peer, docker_peer
from tests.support.node import Node, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def containerd() -> Iterator[Node]:
    with node() as it:
        yield it


@pytest.fixture(scope="module")
def dockerd(containerd: Node) -> Iterator[Peer]:
    flags = [f"--containerd={containerd.address}", "--iptables=false"]
    with docker_peer(flags, own_mounts=False) as peer:
        yield peer


def shown(peer: Peer, *arguments: str) -> str:
    return peer.docker(*arguments).stdout.decode().strip()


def test_run(dockerd: Peer) -> None:
    done = dockerd.docker("run", "--rm", "busybox", "sh", "-c", "echo hi; exit 5", check=False)
    assert (done.returncode, done.stdout) == (5, b"hi\n")


def test_a_command_that_is_not_there(dockerd: Peer) -> None:
    done = dockerd.docker("run", "--rm", "busybox", "nosuch", check=False)
    assert done.returncode == 127
    assert b'exec: "nosuch": executable file not found in $PATH: unknown' in done.stderr
    assert shown(dockerd, "ps", "-aq") == ""


def test_the_life_of_a_container(dockerd: Peer) -> None:
    dockerd.docker("run", "-d", "--name", "life", "busybox", "sleep", "1000")
    done = dockerd.docker("exec", "life", "sh", "-c", "echo in; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, b"in\n")
    assert "sleep 1000" in shown(dockerd, "top", "life")
    dockerd.docker("pause", "life")
    assert shown(dockerd, "inspect", "-f", "{{.State.Status}}", "life") == "paused"
    dockerd.docker("unpause", "life")
    dockerd.docker("update", "--pids-limit", "50", "life")
    assert shown(dockerd, "exec", "life", "cat", "/proc/1/comm") == "sleep"
    assert "life" in shown(dockerd, "stats", "--no-stream", "life")
    dockerd.docker("stop", "-t", "0", "life")
    assert shown(dockerd, "inspect", "-f", "{{.State.ExitCode}}", "life") == "137"
    dockerd.docker("start", "life")
    assert shown(dockerd, "inspect", "-f", "{{.State.Status}}", "life") == "running"
    dockerd.docker("rm", "-f", "life")
    assert shown(dockerd, "ps", "-aq") == ""


def test_input_and_output_in_a_pipe(dockerd: Peer) -> None:
    done = dockerd.docker("run", "--rm", "-i", "busybox", "wc", "-c", stdin=b"x" * 200_000)
    assert done.stdout.strip() == b"200000"


def until_it_hears(dockerd: Peer) -> None:
    """dockerd follows a containerd's events again some time after that containerd came back; what
    ends until then it never hears of."""
    for number in range(20):
        try:
            dockerd.docker("run", "--name", f"heard{number}", "busybox", "true", timeout_s=5)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            continue
        finally:
            dockerd.docker("rm", "-f", f"heard{number}", check=False)
        return
    raise AssertionError("dockerd does not hear of exits")


def test_a_crash_of_containerd_under_dockerd(dockerd: Peer, containerd: Node) -> None:
    script = "trap 'exit 6' TERM; while :; do sleep 0.1; done"
    dockerd.docker("run", "-d", "--name", "stay", "busybox", "sh", "-c", script)
    containerd.crash()
    containerd.start()
    until_it_hears(dockerd)
    dockerd.docker("kill", "-s", "TERM", "stay")
    assert shown(dockerd, "wait", "stay") == "6"
    dockerd.docker("rm", "stay")


def test_a_detached_container_restarts(dockerd: Peer) -> None:
    dockerd.docker("run", "-d", "--name", "again", "--restart=on-failure:2", "busybox", "false")
    assert shown(dockerd, "wait", "again") == "1"
    assert shown(dockerd, "inspect", "-f", "{{.RestartCount}}", "again") in "012"
    dockerd.docker("rm", "-f", "again")
