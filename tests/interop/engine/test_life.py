"""The life of a container after its start, on our engine and Debian's: what ends it, what starts it
again, and what is told of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.docker_cli import fails
from tests.support.lives import LIMIT_S, sleeping, state, until

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture
def sleeper(engine: Any) -> Iterator[str]:
    with sleeping(engine, "zz") as name:
        yield name


def test_stop_is_polite_first(engine: Any, sleeper: str) -> None:
    engine.docker("stop", sleeper)
    now = state(engine, sleeper)
    assert (now["Status"], now["ExitCode"], now["Pid"]) == ("exited", 3, 0)
    engine.docker("stop", sleeper)  # 304
    engine.docker("start", sleeper)
    engine.docker("start", sleeper)  # 304
    assert state(engine, sleeper)["Running"]


def test_stop_is_not_polite_for_ever(engine: Any) -> None:
    engine.docker("run", "-d", "--name", "deaf", "busybox", "sleep", "1000")
    engine.docker("stop", "-t", "0", "deaf")
    assert state(engine, "deaf")["ExitCode"] == 137
    engine.docker("rm", "deaf")


def test_kill_with_signals(engine: Any, sleeper: str) -> None:
    assert "Invalid signal: NOPE" in fails(engine, "kill", "-s", "NOPE", sleeper)
    engine.docker("kill", "-s", "TERM", sleeper)
    assert until(engine, sleeper, lambda now: now["Status"] == "exited")["ExitCode"] == 3
    assert "is not running" in fails(engine, "kill", sleeper)
    engine.docker("start", sleeper)
    engine.docker("kill", sleeper)
    assert state(engine, sleeper)["ExitCode"] == 137


def test_pause(engine: Any, sleeper: str) -> None:
    engine.docker("pause", sleeper)
    assert state(engine, sleeper)["Status"] == "paused"
    assert b"(Paused)" in engine.docker("ps").stdout
    assert "is already paused" in fails(engine, "pause", sleeper)
    assert "unpause the container before exec" in fails(engine, "exec", sleeper, "true")
    engine.docker("unpause", sleeper)
    assert "is not paused" in fails(engine, "unpause", sleeper)
    engine.docker("pause", sleeper)
    engine.docker("stop", "-t", "5", sleeper)
    assert state(engine, sleeper)["ExitCode"] == 3


def test_the_file_system_survives_a_restart(engine: Any, sleeper: str) -> None:
    engine.docker(
        "exec", sleeper, "sh", "-c", "echo kept > /file; echo bob:x:77:77::/: >> /etc/passwd"
    )
    engine.docker("restart", "-t", "1", sleeper)
    assert engine.docker("exec", sleeper, "cat", "/file").stdout == b"kept\n"
    assert engine.docker("exec", "-u", "bob", sleeper, "id", "-u").stdout == b"77\n"


@pytest.mark.parametrize(
    ("policy", "code", "runs"), [("no", 1, 1), ("on-failure:2", 1, 3), ("on-failure", 0, 1)]
)
def test_restart_policies(engine: Any, policy: str, code: int, runs: int) -> None:
    engine.docker("run", "-d", "--name", "again", "--restart", policy, "busybox", "sh", "-c",
                  f"echo run; exit {code}")  # fmt: skip
    try:
        until(engine, "again", lambda now: now["Status"] == "exited" and now["ExitCode"] == code)
        assert engine.docker("logs", "again").stdout == b"run\n" * runs
    finally:
        engine.docker("rm", "-f", "again")


def test_always_restarts_until_stopped(engine: Any) -> None:
    engine.docker("run", "-d", "--name", "ever", "--restart", "always", "busybox", "sh", "-c",
                  "echo run; sleep 0.1")  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT_S
        while engine.docker("logs", "ever").stdout.count(b"run") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        engine.docker("stop", "ever")
        count = engine.docker("logs", "ever").stdout.count(b"run")
        assert state(engine, "ever")["Status"] == "exited"
        time.sleep(0.5)
        assert engine.docker("logs", "ever").stdout.count(b"run") == count
    finally:
        engine.docker("rm", "-f", "ever")


def test_logs(engine: Any) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.01; done"
    engine.docker("run", "--name", "logged", "busybox", "sh", "-c", script)
    try:
        done = engine.docker("logs", "logged")
        assert done.stdout == b"out 1\nout 2\nout 3\n"
        assert done.stderr == b"err 1\nerr 2\nerr 3\n"
        done = engine.docker("logs", "--tail", "2", "logged")
        assert done.stdout + done.stderr in {b"out 3\nerr 3\n", b"err 3\n"}
        stamped = engine.docker("logs", "-t", "logged").stdout.decode().splitlines()
        assert all(line[:4] == time.strftime("%Y", time.gmtime()) for line in stamped)
        since = stamped[1].split()[0]
        assert engine.docker("logs", "--since", since, "logged").stdout == b"out 2\nout 3\n"
        assert engine.docker("logs", "--until", since, "logged").stdout.endswith(b"out 2\n")
        assert engine.docker("logs", "-f", "logged").stdout == b"out 1\nout 2\nout 3\n"
    finally:
        engine.docker("rm", "logged")


def test_top_reads_from_outside(engine: Any, sleeper: str) -> None:
    engine.docker(
        "exec",
        sleeper,
        "sh",
        "-c",
        "rm /bin/ps; printf '#!/bin/sh\\necho evil' > /bin/ps; chmod +x /bin/ps",
    )
    text = engine.docker("top", sleeper).stdout.decode()
    assert "sh -c trap" in text
    assert "evil" not in text
    assert engine.docker("top", sleeper, "-o", "pid,comm").stdout.split()[:2] == [
        b"PID",
        b"COMMAND",
    ]
    assert "unknown" in fails(engine, "top", sleeper, "--nope")


def test_stats(engine: Any, sleeper: str) -> None:
    text = engine.docker("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}",
                         sleeper).stdout.decode().split()  # fmt: skip
    assert text[0] == "zz"
    assert int(text[1]) >= 1
    assert text[2] != "0B"


def test_prune(engine: Any, sleeper: str) -> None:
    engine.docker("create", "--name", "p-one", "busybox")
    engine.docker("create", "--name", "p-two", "--label", "keep", "busybox")
    engine.docker("container", "prune", "-f", "--filter", "label!=keep")
    left = engine.docker("ps", "-a", "--format", "{{.Names}}").stdout.decode().split()
    assert sorted(left) == ["p-two", "zz"]
    engine.docker("rm", "p-two")


def test_events_of_a_life(engine: Any) -> None:
    before = f"{time.time():.9f}"
    engine.docker("run", "--rm", "--name", "told", "busybox", "sh", "-c", "exit 2", check=False)
    after = f"{time.time() + 1:.9f}"
    text = engine.docker("events", "--since", before, "--until", after, "--filter",
                         "container=told", "--format", "{{.Action}}").stdout.decode()  # fmt: skip
    assert [line for line in text.split() if line != "attach"] == [
        "create", "start", "die", "destroy",
    ]  # fmt: skip


def test_health_checks(engine: Any) -> None:
    engine.docker(
        "run", "-d", "--name", "well", "--health-cmd", "echo looked; test -e /tmp/ok",
        "--health-interval", "100ms", "--health-retries", "2", "busybox", "sleep", "1000",
    )  # fmt: skip
    try:
        assert state(engine, "well")["Health"]["Status"] == "starting"
        until(engine, "well", lambda now: now["Health"]["Status"] == "unhealthy")
        result = state(engine, "well")["Health"]["Log"][-1]
        assert (result["ExitCode"], result["Output"]) == (1, "looked\n")
        engine.docker("exec", "well", "touch", "/tmp/ok")
        until(engine, "well", lambda now: now["Health"]["Status"] == "healthy")
        assert b"(healthy)" in engine.docker("ps").stdout
        assert engine.docker("ps", "-q", "-f", "health=healthy").stdout
        assert state(engine, "well")["Health"]["FailingStreak"] == 0
        engine.docker("stop", "-t", "0", "well")
        assert not engine.docker("ps", "-q").stdout
    finally:
        engine.docker("rm", "-f", "well")


def test_a_health_check_that_takes_too_long(engine: Any) -> None:
    engine.docker(
        "run", "-d", "--name", "slow", "--health-cmd", "sleep 1000", "--health-interval", "100ms",
        "--health-timeout", "200ms", "--health-retries", "1", "busybox", "sleep", "1000",
    )  # fmt: skip
    try:
        now = until(engine, "slow", lambda now: now["Health"]["Status"] == "unhealthy")
        assert "exceeded timeout" in now["Health"]["Log"][0]["Output"]
    finally:
        engine.docker("rm", "-f", "slow")
