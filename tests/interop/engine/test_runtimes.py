"""Runtimes by name: with arguments, and below shims that are not ours."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.barque import Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.peer]
RUNC_SHIM = "io.containerd.runc.v2"


@pytest.fixture(scope="module")
def barque(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    runc = "/usr/sbin/runc"
    program = tmp_path_factory.mktemp("runtimes") / "records"
    program.write_text(f'#!/bin/sh\necho "$1" >"$0.told"\nshift\nexec {runc} "$@"\n')
    program.chmod(0o700)
    settings = tmp_path_factory.mktemp("config") / "daemon.json"
    settings.write_text(
        json.dumps(
            {
                "runtimes": {
                    "told": {"path": str(program), "runtimeArgs": ["it's two words"]},
                    "nothing": {"path": runc, "args": []},
                    "shim": {"runtimeType": RUNC_SHIM, "options": {"BinaryName": runc}},
                }
            }
        )
    )
    with stack("--config-file", str(settings)) as made:
        yield made


def test_a_runtime_is_given_its_arguments(barque: Stack) -> None:
    said = barque.docker("run", "--rm", "--runtime", "told", "busybox", "echo", "here").stdout
    assert said == b"here\n"
    shown = json.loads(barque.docker("info", "--format", "{{json .Runtimes}}").stdout)["told"]
    assert Path(f"{shown['path']}.told").read_text() == "it's two words\n"


def test_an_empty_list_means_nothing(barque: Stack) -> None:
    said = barque.docker("run", "--rm", "--runtime", "nothing", "busybox", "echo", "here").stdout
    assert said == b"here\n"


@pytest.mark.parametrize("name", ["shim", RUNC_SHIM])
def test_below_another_shim(barque: Stack, name: str) -> None:
    script = "echo out; echo err >&2; exit 7"
    done = barque.docker(
        "run", "--name", "other", "--runtime", name, "busybox", "sh", "-c", script, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    logs = barque.docker("logs", "other")
    assert (logs.stdout, logs.stderr) == (b"out\n", b"err\n")
    shown = barque.docker("inspect", "-f", "{{.HostConfig.Runtime}}", "other").stdout
    assert shown.decode().strip() == name
    barque.docker("rm", "other")


def test_input_of_another_shim(barque: Stack) -> None:
    text = b"".join(b"%d\n" % n for n in range(100_000))
    run = ("run", "-i", "--rm", "--runtime", "shim", "busybox", "cat")
    assert barque.docker(*run, stdin=text).stdout == text


def test_a_terminal_of_another_shim(barque: Stack) -> None:
    start = ("run", "-d", "-t", "--name", "tty", "--runtime", "shim", "busybox")
    barque.docker(*start, "sh", "-c", "tty; sleep 1000")
    try:
        words = ("exec", "-t", "tty", "sh", "-c", "test -t 1 && echo yes")
        assert barque.docker(*words).stdout == b"yes\r\n"
        assert barque.docker("logs", "tty").stdout.startswith(b"/dev/")
    finally:
        barque.docker("rm", "-f", "tty")


def test_exec_pause_stats_and_a_restart_of_the_daemon(barque: Stack) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    run = ("run", "-d", "--name", "long", "--runtime", "shim", "busybox", "sh", "-c", script)
    barque.docker(*run)
    try:
        assert barque.docker("exec", "-i", "long", "cat", stdin=b"in").stdout == b"in"
        failed = barque.docker("exec", "long", "sh", "-c", "exit 9", check=False)
        assert failed.returncode == 9
        barque.docker("pause", "long")
        state = ("inspect", "-f", "{{.State.Status}}", "long")
        assert barque.docker(*state).stdout == b"paused\n"
        barque.docker("unpause", "long")
        used = barque.docker("stats", "--no-stream", "--format", "{{.PIDs}}", "long").stdout
        assert int(used) >= 1
        barque.kill("barqued")
        barque.start()
        assert barque.docker(*state).stdout == b"running\n"
        barque.docker("stop", "long")
        logs = barque.docker("logs", "long").stdout
        assert logs == b"up\nbye\n"
        code = barque.docker("inspect", "-f", "{{.State.ExitCode}}", "long").stdout
        assert code == b"3\n"
    finally:
        barque.docker("rm", "-f", "long")
    assert barque.leftover_sandboxes() == []


def test_a_shim_that_dies_ends_the_container(barque: Stack) -> None:
    run = ("run", "-d", "--name", "lost", "--runtime", "shim", "busybox", "sleep", "1000")
    identifier = barque.docker(*run).stdout.decode().strip()
    found = subprocess.run(["pgrep", "-f", f"runc-v2.*-id {identifier}"], capture_output=True)
    os.kill(int(found.stdout), signal.SIGKILL)
    assert barque.docker("wait", "lost").stdout in (b"137\n", b"255\n")
    barque.docker("rm", "-f", "lost")
    assert barque.leftover_sandboxes() == []


def test_a_start_that_fails_leaves_nothing(barque: Stack) -> None:
    run = ("run", "--name", "bad", "--runtime", "shim", "busybox", "/no/such/program")
    failed = barque.docker(*run, check=False)
    assert failed.returncode == 127
    barque.docker("rm", "bad")
    assert barque.leftover_sandboxes() == []


@pytest.mark.parametrize("name", ["none-such", "io.containerd.none.v9", "/usr/sbin/runc"])
def test_a_runtime_that_is_not_there(barque: Stack, name: str) -> None:
    failed = barque.docker("create", "--runtime", name, "busybox", check=False)
    assert f"unknown or invalid runtime name: {name}" in failed.stderr.decode()
