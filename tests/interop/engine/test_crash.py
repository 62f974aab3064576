"""kill -9 of each of our processes, alone and together, while containers run, start and stop."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from barque import program
from tests.support.barque import Stack
from tests.support.docker_peer import real_docker_cli

pytestmark = [pytest.mark.root, pytest.mark.peer]
WAIT_S = 30
COUNTER = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
DAEMON, CONTAINERD, ZYGOTE = "barqued", "barque-containerd", "barque-zygote"


def until(call: object, wanted: object) -> None:
    assert callable(call)
    deadline = time.monotonic() + WAIT_S
    while (got := call()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert got == wanted


def shim_of(pid: int) -> int:
    """The parent of a container's first process is its shim."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


def pid_of(barque: Stack, name: str) -> int:
    return int(barque.docker("inspect", "-f", "{{.State.Pid}}", name).stdout)


def state_of(barque: Stack, name: str) -> str:
    template = "{{.State.Status}} {{.State.ExitCode}}"
    return barque.docker("inspect", "-f", template, name, check=False).stdout.decode().strip()


def kill(barque: Stack, *what: str) -> None:
    """Kill these at once; the daemon is started again, and it starts the others."""
    for name in what:
        barque.kill(name)
    if barque.daemon is None:
        barque.start()
    else:
        until(lambda: barque.docker("ps", check=False).returncode, 0)


def counted(barque: Stack, name: str) -> list[int]:
    """The numbers in a container's log."""
    return [int(line) for line in barque.docker("logs", name).stdout.split()]


@pytest.mark.parametrize(
    "what",
    [
        (DAEMON,),
        (CONTAINERD,),
        (ZYGOTE,),
        (DAEMON, CONTAINERD),
        (CONTAINERD, ZYGOTE),
        (DAEMON, CONTAINERD, ZYGOTE),
    ],
    ids="+".join,
)
def test_a_running_container_goes_on(own_barque: Stack, what: tuple[str, ...]) -> None:
    barque = own_barque
    barque.docker("run", "-d", "--name", "counter", "busybox", "sh", "-c", COUNTER)
    barque.docker("run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 1; exit 7")
    barque.docker("run", "--name", "done", "busybox", "sh", "-c", "exit 3", check=False)
    pid = pid_of(barque, "counter")
    kill(barque, *what)
    assert pid_of(barque, "counter") == pid
    assert Path(f"/proc/{pid}").exists()
    until(lambda: state_of(barque, "short"), "exited 7")
    assert state_of(barque, "done") == "exited 3"
    assert barque.docker("exec", "counter", "echo", "in").stdout == b"in\n"
    before = counted(barque, "counter")
    until(lambda: counted(barque, "counter")[-1] > before[-1], True)
    numbers = counted(barque, "counter")
    assert numbers == list(range(1, len(numbers) + 1)), "a log line is lost"
    assert barque.docker("run", "--rm", "busybox", "echo", "new").stdout == b"new\n"
    barque.docker("stop", "-t", "1", "counter")
    assert state_of(barque, "counter") == "exited 137"


def test_an_exit_while_both_daemons_are_dead(own_barque: Stack) -> None:
    barque = own_barque
    barque.docker(
        "run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 1.5; echo bye; exit 9"
    )
    pid = pid_of(barque, "short")
    barque.kill(DAEMON)
    barque.kill(CONTAINERD)
    until(lambda: Path(f"/proc/{pid}").exists(), False)
    barque.start()
    until(lambda: state_of(barque, "short"), "exited 9")
    assert barque.docker("logs", "short").stdout == b"bye\n"


def test_a_killed_shim_is_told_and_cleaned(own_barque: Stack) -> None:
    barque = own_barque
    barque.docker(
        "run", "-d", "--name", "victim", "-p", "127.0.0.1:0:80", "busybox", "sleep", "999"
    )
    barque.docker("run", "-d", "--name", "other", "busybox", "sleep", "999")
    pid = pid_of(barque, "victim")
    os.kill(shim_of(pid), 9)
    until(lambda: state_of(barque, "victim"), "exited 137")
    until(lambda: Path(f"/proc/{pid}").exists(), False)
    assert state_of(barque, "other") == "running 0"
    barque.docker("start", "victim")
    assert state_of(barque, "victim") == "running 0"


def test_kills_while_containers_start_and_stop(own_barque: Stack) -> None:
    """Whatever a client was told holds; what it was not told is whole or gone."""
    barque = own_barque
    told: list[str] = []
    for turn, what in enumerate([DAEMON, CONTAINERD, ZYGOTE, DAEMON, CONTAINERD]):
        argv = [real_docker_cli(), "-H", barque.host, "run", "-d"]
        starting = [
            subprocess.Popen(
                [*argv, "--name", f"t{turn}-{n}", "busybox", "sleep", "999"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for n in range(4)
        ]
        time.sleep(0.05 * (turn + 1))
        kill(barque, what)
        for process in starting:
            out, _ = process.communicate(timeout=60)
            if process.returncode == 0:
                told.append(out.decode().strip())
    listed = barque.docker("ps", "-q", "--no-trunc").stdout.decode().split()
    assert set(told) <= set(listed), "a container that was started is not running"
    for container in barque.docker("ps", "-aq").stdout.decode().split():
        document = json.loads(barque.docker("inspect", container).stdout)[0]
        assert document["State"]["Status"] in {"created", "running", "exited"}
        if document["State"]["Running"]:
            assert barque.docker("exec", container, "true").returncode == 0


def test_the_command_starts_a_daemon_on_demand(own_barque: Stack) -> None:
    """`barqued --on-demand` leaves when nothing runs and nobody asks."""
    barque = own_barque
    barque.stop()
    barque.flags = ["--on-demand", "--idle-timeout", "1"]
    barque.start()
    barque.docker("run", "-d", "--name", "keeps-it", "busybox", "sleep", "1000")
    pid = pid_of(barque, "keeps-it")
    time.sleep(2.5)
    assert barque.daemon is not None
    assert barque.daemon.poll() is None, "it left while a container ran"
    os.kill(pid, signal.SIGKILL)
    barque.daemon.wait(WAIT_S)
    barque.daemon = None
    assert not barque.socket.exists()
    barque.flags = []
    barque.start()
    assert state_of(barque, "keeps-it") == "exited 137"


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.15])
def test_a_containerd_that_starts_as_its_daemon_is_killed(barque: Stack, after_s: float) -> None:
    """The next daemon finds none that listens, and yet there is one: it takes that one over."""
    barque.kill(CONTAINERD)
    time.sleep(after_s)  # until the daemon starts another
    barque.kill(DAEMON)
    barque.start()
    assert barque.docker("run", "--rm", "busybox", "echo", "here").stdout == b"here\n"
    until(lambda: len(barque.pids(CONTAINERD)), 1)
    barque.stop()
    until(lambda: barque.pids(CONTAINERD), [])
    barque.start()


def test_two_daemons_on_one_root(own_barque: Stack) -> None:
    second = subprocess.run(own_barque.argv(), capture_output=True, timeout=30, check=False)
    assert second.returncode == 1
    lines = second.stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert "in use by another barqued" in lines[0]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(program.command("barqued", "--nope"), timeout=10, check=False)
    assert own_barque.answers()


@pytest.mark.parametrize("dead", [(DAEMON,), (DAEMON, CONTAINERD)], ids="+".join)
def test_a_commit_cut_short_leaves_nothing_paused(own_barque: Stack, dead: tuple[str, ...]) -> None:
    """What a commit held still goes on with the next daemon; what a user paused stays paused."""
    barque = own_barque
    fill = "dd if=/dev/urandom of=/big bs=1M count=192 2>/dev/null; echo filled; exec sleep 1000"
    barque.docker("run", "-d", "--name", "held", "busybox", "sh", "-c", fill)
    barque.docker("run", "-d", "--name", "paused", "busybox", "sleep", "1000")
    barque.docker("pause", "paused")
    until(lambda: barque.docker("logs", "held").stdout, b"filled\n")
    argv = [real_docker_cli(), "-H", barque.host, "commit", "held", "image:cut"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as commit:
        until(lambda: state_of(barque, "held"), "paused 0")
        kill(barque, *dead)
        commit.communicate(timeout=WAIT_S)
        assert commit.returncode != 0
    until(lambda: state_of(barque, "held"), "running 0")
    assert state_of(barque, "paused") == "paused 0"
    assert barque.docker("exec", "held", "echo", "on").stdout == b"on\n"
    assert b"cut" not in barque.docker("images").stdout
    kill(barque, DAEMON)
    assert state_of(barque, "held") == "running 0"
    assert state_of(barque, "paused") == "paused 0"
    barque.docker("unpause", "paused")
    barque.docker("rm", "-f", "held", "paused")
