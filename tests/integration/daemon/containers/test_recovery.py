"""kill -9 of each process of ours at each stage: nothing is lost, nothing is left.

The stack of this module is killed again and again; containers go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from barque import program
from tests.support.barque import Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.peer]
LIMIT_S = 30.0


@pytest.fixture
def fresh() -> Iterator[Stack]:
    with stack() as made:
        yield made


def inspect(barque: Stack, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(barque.docker("inspect", name).stdout)[0]
    return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def shim_of(barque: Stack, name: str) -> int:
    """The parent of the container's first process."""
    pid = inspect(barque, name)["State"]["Pid"]
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(stat[1])


def test_exits_while_the_daemon_was_dead_keep_their_codes(fresh: Stack) -> None:
    fresh.docker("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 0.7; exit 42")
    fresh.docker("run", "-d", "--name", "stays", "busybox", "sh", "-c",
                 "i=0; while true; do echo n $i; i=$((i+1)); sleep 0.02; done")  # fmt: skip
    fresh.docker("run", "-d", "--rm", "--name", "goes", "busybox", "sleep", "0.7")
    fresh.docker("run", "-d", "--restart", "always", "--name", "ever", "busybox", "sleep", "0.7")
    pid = inspect(fresh, "stays")["State"]["Pid"]
    fresh.kill("barqued")
    time.sleep(1.2)
    fresh.start()
    state = inspect(fresh, "ends")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 42)
    assert fresh.docker("wait", "ends").stdout == b"42\n"
    until(lambda: b"goes" not in fresh.docker("ps", "-a").stdout)
    until(lambda: inspect(fresh, "ever")["State"]["Running"])
    assert inspect(fresh, "stays")["State"]["Pid"] == pid
    assert fresh.docker("exec", "stays", "echo", "hi").stdout == b"hi\n"
    fresh.docker("stop", "-t", "0", "stays")
    lines = fresh.docker("logs", "stays").stdout.decode().splitlines()
    assert lines == [f"n {number}" for number in range(len(lines))]


def test_networks_and_ports_survive(fresh: Stack) -> None:
    script = "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w"
    fresh.docker("run", "-d", "--name", "web", "-p", "80", "busybox", "sh", "-c", script)
    before = inspect(fresh, "web")["NetworkSettings"]
    fresh.kill("barqued")
    fresh.start()
    after = inspect(fresh, "web")["NetworkSettings"]
    assert after["Networks"] == before["Networks"]
    port = after["Ports"]["80/tcp"][0]["HostPort"]
    url = f"http://127.0.0.1:{port}/"
    assert subprocess.run(["curl", "-s", url], capture_output=True, check=True).stdout == b"page\n"


def test_containerd_dies(fresh: Stack) -> None:
    fresh.docker("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    fresh.docker("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 0.3; exit 9")
    fresh.kill("barque-containerd")
    until(lambda: inspect(fresh, "ends")["State"]["Status"] == "exited")
    assert inspect(fresh, "ends")["State"]["ExitCode"] == 9
    until(lambda: fresh.docker("exec", "stays", "true", check=False).returncode == 0)
    assert fresh.docker("run", "--rm", "busybox", "echo", "new").stdout == b"new\n"


def test_a_shim_dies(fresh: Stack) -> None:
    fresh.docker("run", "-d", "--name", "orphan", "busybox", "sleep", "1000")
    fresh.docker("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    pid = inspect(fresh, "orphan")["State"]["Pid"]
    os.kill(shim_of(fresh, "orphan"), signal.SIGKILL)
    until(lambda: inspect(fresh, "orphan")["State"]["Status"] == "exited")
    assert inspect(fresh, "orphan")["State"]["ExitCode"] == 137
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert inspect(fresh, "other")["State"]["Running"]
    fresh.docker("start", "orphan")
    assert fresh.docker("exec", "orphan", "echo", "back").stdout == b"back\n"


def test_everything_dies_at_once(fresh: Stack) -> None:
    for number in range(3):
        fresh.docker("run", "-d", "--name", f"c{number}", "busybox", "sleep", "1000")
    shim = shim_of(fresh, "c0")
    os.kill(shim, signal.SIGKILL)
    fresh.kill("barqued")
    fresh.kill("barque-containerd")
    fresh.start()
    until(lambda: inspect(fresh, "c0")["State"]["Status"] == "exited")
    assert inspect(fresh, "c1")["State"]["Running"]
    assert fresh.docker("exec", "c2", "echo", "hi").stdout == b"hi\n"


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 1.2])
def test_the_daemon_starts_while_containerd_is_ending(fresh: Stack, delay_s: float) -> None:
    """Its socket takes connections until it is gone."""
    fresh.docker("run", "-d", "--name", "on", "busybox", "sleep", "1000")
    (containerd,) = [
        pid
        for pid in fresh.pids("")
        if Path(f"/proc/{pid}/comm").read_text() == "barque-containe\n"
    ]
    os.kill(containerd, signal.SIGSTOP)
    fresh.kill("barqued")
    ending = threading.Timer(delay_s, os.kill, (containerd, signal.SIGKILL))
    ending.start()
    fresh.start()
    ending.join()
    assert fresh.docker("exec", "on", "echo", "hi").stdout == b"hi\n"


@pytest.mark.parametrize("delay_ms", range(5, 95, 10))
def test_the_daemon_dies_during_a_start(fresh: Stack, delay_ms: int) -> None:
    """Whatever the moment: afterwards it runs, or it does not, and both can be told and ended."""
    fresh.docker("create", "--name", "half", "busybox", "sleep", "1000")
    begun = subprocess.Popen(
        program.command("barque", "-H", fresh.host, "start", "half"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(delay_ms / 1000)
    fresh.kill("barqued")
    begun.wait(LIMIT_S)
    fresh.start()
    state = inspect(fresh, "half")["State"]
    assert state["Status"] in {"created", "running", "exited"}
    if state["Status"] == "running":
        assert fresh.docker("exec", "half", "echo", "hi").stdout == b"hi\n"
    else:
        fresh.docker("start", "half")
    fresh.docker("rm", "-f", "half")


@pytest.mark.parametrize("delay_ms", [2, 10, 30, 60])
def test_the_daemon_dies_during_creation_and_removal(fresh: Stack, delay_ms: int) -> None:
    command = program.command("barque", "-H", fresh.host, "run", "--rm", "busybox", "true")
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.02 + delay_ms / 1000)
    fresh.kill("barqued")
    begun.wait(LIMIT_S)
    fresh.start()
    until(lambda: not fresh.docker("ps", "-aq").stdout)
    until(lambda: not os.listdir(fresh.root / "d/containers"))
    snapshots = fresh.root / "d/containerd/snapshots/overlayfs"
    until(lambda: len(os.listdir(snapshots)) == 1)  # the image's
