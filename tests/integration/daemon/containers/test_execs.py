"""What runs by exec is listed, and ended with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barque import program
from tests.support.barque import Stack
from tests.support.engine_api import ask
from tests.support.lives import LIMIT_S

pytestmark = pytest.mark.root
# The shell starts two; the second makes a session of its own, as a daemon does.
TREE = "sleep 1001 & setsid sleep 1002 & sleep 1003"


@pytest.fixture
def box(barque: Stack) -> Iterator[str]:
    barque.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    yield "box"
    barque.docker("rm", "-f", "box")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleepers(barque: Stack, name: str) -> list[str]:
    shown = barque.docker("top", name, "-o", "pid,args").stdout.decode().splitlines()[1:]
    return sorted(line.split()[-1] for line in shown if line.split()[1] == "sleep")


def begin(barque: Stack, name: str, script: str, count: int) -> str:
    """The id of an exec of a shell, once `count` sleep beside the container's own."""
    barque.cli("exec", "-d", name, "sh", "-c", script)
    until(lambda: len(sleepers(barque, name)) == count + 1)
    return barque.cli("container", "execs", "-q", "--no-trunc", name).stdout.decode().strip()


def test_what_runs_is_listed(barque: Stack, box: str) -> None:
    assert barque.cli("container", "execs").stdout.decode().split("\n")[1:] == [""]
    one = begin(barque, box, "sleep 1001", 1)
    (line,) = barque.cli("container", "execs", box).stdout.decode().splitlines()[1:]
    exec_id, container, pid, status, *command = line.split()
    assert (exec_id, container, status) == (one[:12], box, "Running")
    assert command == ["sh", "-c", "sleep", "1001"]
    assert Path(f"/proc/{pid}").exists()
    barque.cli("container", "kill-exec", one)
    assert not barque.cli("container", "execs", "-q", box).stdout
    waits = ask(barque.socket, "POST", f"/containers/{box}/exec", document={"Cmd": ["true"]})
    assert not barque.cli("container", "execs", "-q", box).stdout
    told = barque.cli("container", "execs", "-a", "--format", "{{.Status}} {{.ID}}", box).stdout
    assert told.decode() == f"Created {waits.json()['Id'][:12]}\n"


def test_all_that_it_started_ends_with_it(barque: Stack, box: str) -> None:
    one = begin(barque, box, TREE, 3)
    assert barque.cli("container", "kill-exec", one[:12]).stdout.decode() == f"{one[:12]}\n"
    assert sleepers(barque, box) == ["1000", "1002"]  # at once; but for who left its session


def test_a_signal_reaches_all_of_it(barque: Stack, box: str) -> None:
    one = begin(barque, box, "trap 'exit 5' TERM; " + TREE + "; wait", 3)
    barque.cli("container", "kill-exec", "-s", "TERM", one)
    until(lambda: sleepers(barque, box) == ["1000", "1002"])
    until(lambda: ask(barque.socket, "GET", f"/exec/{one}/json").json()["ExitCode"] == 5)


def test_who_hears_nothing_is_ended_by_force(barque: Stack, box: str) -> None:
    one = begin(barque, box, "trap '' TERM; sleep 1001", 1)
    barque.cli("container", "kill-exec", "-s", "TERM", one)
    assert ask(barque.socket, "GET", f"/exec/{one}/json").json()["Running"]
    assert ask(barque.socket, "POST", f"/exec/{one}/kill").status == 204
    assert ask(barque.socket, "GET", f"/exec/{one}/json").json()["ExitCode"] == 137
    assert sleepers(barque, box) == ["1000"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_sent_on(barque: Stack, box: str, number: int) -> None:
    """To the command, which ends as it likes, and to what it started."""
    script = f"trap 'echo heard; exit 7' {number}; echo ready; {TREE} & wait"
    command = subprocess.Popen(
        program.command("barque", "exec", "--sig-proxy", box, "sh", "-c", script),
        env={**os.environ, "DOCKER_HOST": barque.host},
        stdout=subprocess.PIPE,
    )
    assert command.stdout is not None
    try:
        assert command.stdout.readline() == b"ready\n"  # from here on it sends them
        until(lambda: len(sleepers(barque, box)) == 4)
        command.send_signal(number)
        out, _ = command.communicate(timeout=LIMIT_S)
    finally:
        command.kill()
        command.wait()
    assert (command.returncode, out) == (7, b"heard\n")
    until(lambda: sleepers(barque, box) == ["1000", "1002"])


def test_what_cannot_be_signalled(barque: Stack, box: str) -> None:
    made = ask(barque.socket, "POST", f"/containers/{box}/exec", document={"Cmd": ["true"]}).json()
    target = f"/exec/{made['Id']}/kill"
    answer = ask(barque.socket, "POST", target)
    assert (answer.status, answer.message) == (409, f"exec {made['Id']} is not running")
    assert ask(barque.socket, "POST", f"{target}?signal=NOPE").status == 400
    assert ask(barque.socket, "POST", "/exec/nosuch/kill").status == 404
    barque.docker("pause", box)
    assert "is paused" in ask(barque.socket, "POST", target).message
    barque.docker("unpause", box)
    done = barque.cli("container", "kill-exec", "nosuch", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        b"Error response from daemon: No such exec instance: nosuch\n",
    )
