"""The life of a container after its start: stop, pause, restart, logs, exec, attach, events."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.barque import Stack

pytestmark = [pytest.mark.root, pytest.mark.peer]
LIMIT_S = 30.0


def state(barque: Stack, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(barque.docker("inspect", name).stdout)[0]["State"]
    return found


def until(barque: Stack, name: str, **wanted: object) -> dict[str, Any]:
    """The state once it is as wanted."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        now = state(barque, name)
        if all(now[key] == value for key, value in wanted.items()):
            return now
        assert time.monotonic() < deadline, now
        time.sleep(0.05)


@pytest.fixture
def sleeper(barque: Stack) -> Iterator[str]:
    script = "trap 'exit 3' TERM; echo ready; while true; do sleep 0.05; done"
    barque.docker("run", "-d", "--name", "zz", "busybox", "sh", "-c", script)
    deadline = time.monotonic() + LIMIT_S
    while barque.docker("logs", "zz").stdout != b"ready\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield "zz"
    barque.docker("rm", "-f", "zz", check=False)


def refused(barque: Stack, *arguments: str) -> str:
    done = barque.docker(*arguments, check=False)
    assert done.returncode != 0
    return done.stderr.decode()


def test_stop_is_polite_first(barque: Stack, sleeper: str) -> None:
    barque.docker("stop", sleeper)
    now = state(barque, sleeper)
    assert (now["Status"], now["ExitCode"], now["Pid"]) == ("exited", 3, 0)
    barque.docker("stop", sleeper)  # 304
    barque.docker("start", sleeper)
    barque.docker("start", sleeper)  # 304
    assert state(barque, sleeper)["Running"]


def test_stop_is_not_polite_for_ever(barque: Stack) -> None:
    barque.docker("run", "-d", "--name", "deaf", "busybox", "sleep", "1000")
    barque.docker("stop", "-t", "0", "deaf")
    assert state(barque, "deaf")["ExitCode"] == 137
    barque.docker("rm", "deaf")


def test_kill_with_signals(barque: Stack, sleeper: str) -> None:
    assert "Invalid signal: NOPE" in refused(barque, "kill", "-s", "NOPE", sleeper)
    barque.docker("kill", "-s", "TERM", sleeper)
    assert until(barque, sleeper, Status="exited")["ExitCode"] == 3
    assert "is not running" in refused(barque, "kill", sleeper)
    barque.docker("start", sleeper)
    barque.docker("kill", sleeper)
    assert state(barque, sleeper)["ExitCode"] == 137


def test_pause(barque: Stack, sleeper: str) -> None:
    barque.docker("pause", sleeper)
    assert state(barque, sleeper)["Status"] == "paused"
    assert b"(Paused)" in barque.docker("ps").stdout
    assert "is already paused" in refused(barque, "pause", sleeper)
    assert "unpause the container before exec" in refused(barque, "exec", sleeper, "true")
    barque.docker("unpause", sleeper)
    assert "is not paused" in refused(barque, "unpause", sleeper)
    barque.docker("pause", sleeper)
    barque.docker("stop", "-t", "5", sleeper)
    assert state(barque, sleeper)["ExitCode"] == 3


def test_removal_of_what_runs(barque: Stack, sleeper: str) -> None:
    text = refused(barque, "rm", sleeper)
    assert "container is running: stop the container before removing or force remove" in text
    barque.docker("pause", sleeper)
    barque.docker("rm", "-f", sleeper)
    assert "No such container: zz" in refused(barque, "start", "zz")


def test_the_file_system_survives_a_restart(barque: Stack, sleeper: str) -> None:
    barque.docker(
        "exec", sleeper, "sh", "-c", "echo kept > /file; echo bob:x:77:77::/: >> /etc/passwd"
    )
    barque.docker("restart", "-t", "1", sleeper)
    assert barque.docker("exec", sleeper, "cat", "/file").stdout == b"kept\n"
    assert barque.docker("exec", "-u", "bob", sleeper, "id", "-u").stdout == b"77\n"


def test_wait_conditions(barque: Stack, sleeper: str) -> None:
    waiting = _request(barque, "POST", "/containers/zz/wait?condition=next-exit")
    removed = _request(barque, "POST", "/containers/zz/wait?condition=removed")
    for connection in (waiting, removed):  # heads come at once
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    barque.docker("kill", sleeper)
    assert b'{"StatusCode":137}' in _rest(waiting)
    assert barque.docker("wait", sleeper).stdout == b"137\n"
    barque.docker("rm", sleeper)
    assert b'{"StatusCode":137}' in _rest(removed)


def _request(
    barque: Stack, method: str, path: str, body: bytes = b"", *headers: str
) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(LIMIT_S)
    connection.connect(str(barque.socket))
    head = [
        f"{method} {path} HTTP/1.1",
        "Host: d",
        f"Content-Length: {len(body)}",
        "Content-Type: application/json",
        *headers,
    ]
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    return connection


def _rest(connection: socket.socket) -> bytes:
    """What comes until the peer is silent for a moment or closes."""
    data = b""
    connection.settimeout(2)
    try:
        while piece := connection.recv(65536):
            data += piece
            if b"StatusCode" in data or b"message" in data:
                break
    except TimeoutError:
        pass
    connection.close()
    return data


@pytest.mark.parametrize(
    ("policy", "code", "runs"), [("no", 1, 1), ("on-failure:2", 1, 3), ("on-failure", 0, 1)]
)
def test_restart_policies(barque: Stack, policy: str, code: int, runs: int) -> None:
    barque.docker("run", "-d", "--name", "again", "--restart", policy, "busybox", "sh", "-c",
                  f"echo run; exit {code}")  # fmt: skip
    try:
        until(barque, "again", Status="exited", ExitCode=code)
        assert barque.docker("logs", "again").stdout == b"run\n" * runs
    finally:
        barque.docker("rm", "-f", "again")


def test_always_restarts_until_stopped(barque: Stack) -> None:
    barque.docker("run", "-d", "--name", "ever", "--restart", "always", "busybox", "sh", "-c",
                  "echo run; sleep 0.1")  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT_S
        while barque.docker("logs", "ever").stdout.count(b"run") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        barque.docker("stop", "ever")
        count = barque.docker("logs", "ever").stdout.count(b"run")
        assert state(barque, "ever")["Status"] == "exited"
        time.sleep(0.5)
        assert barque.docker("logs", "ever").stdout.count(b"run") == count
    finally:
        barque.docker("rm", "-f", "ever")


def test_logs(barque: Stack) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.01; done"
    barque.docker("run", "--name", "logged", "busybox", "sh", "-c", script)
    try:
        done = barque.docker("logs", "logged")
        assert done.stdout == b"out 1\nout 2\nout 3\n"
        assert done.stderr == b"err 1\nerr 2\nerr 3\n"
        done = barque.docker("logs", "--tail", "2", "logged")
        assert done.stdout + done.stderr in {b"out 3\nerr 3\n", b"err 3\n"}
        stamped = barque.docker("logs", "-t", "logged").stdout.decode().splitlines()
        assert all(line[:4] == time.strftime("%Y", time.gmtime()) for line in stamped)
        since = stamped[1].split()[0]
        assert barque.docker("logs", "--since", since, "logged").stdout == b"out 2\nout 3\n"
        assert barque.docker("logs", "--until", since, "logged").stdout.endswith(b"out 2\n")
        assert barque.docker("logs", "-f", "logged").stdout == b"out 1\nout 2\nout 3\n"
    finally:
        barque.docker("rm", "logged")


def test_following_logs_across_rotations(barque: Stack) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo number $i; i=$((i+1)); done; sleep 0.3"
    barque.docker("create", "--name", "turning", "--log-opt", "max-size=40k", "--log-opt",
                  "max-file=20", "busybox", "sh", "-c", script)  # fmt: skip
    try:
        barque.docker("start", "turning")
        followed = barque.docker("logs", "-f", "turning").stdout.decode().splitlines()
        assert followed == [f"number {number}" for number in range(3000)]
        last = barque.docker("logs", "--tail", "700", "turning").stdout.decode().splitlines()
        assert last == [f"number {number}" for number in range(2300, 3000)]
    finally:
        barque.docker("rm", "-f", "turning")


def test_exec(barque: Stack, sleeper: str) -> None:
    done = barque.docker("exec", sleeper, "sh", "-c", "echo o; echo e >&2; exit 5", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"o\n", b"e\n")
    data = os.urandom(100_000).hex().encode()
    assert barque.docker("exec", "-i", sleeper, "cat", stdin=data).stdout == data
    done = barque.docker("exec", sleeper, "nosuch", check=False)
    assert done.returncode == 127
    done = barque.docker("exec", "-w", "relative", sleeper, "true", check=False)
    assert done.returncode != 0
    script = "id -u; id -g; pwd; echo $A; grep CapEff /proc/self/status"
    options = ("-e", "A=b", "-u", "1:2", "-w", "/tmp")
    text = barque.docker("exec", *options, sleeper, "sh", "-c", script).stdout
    assert text.split() == [b"1", b"2", b"/tmp", b"b", b"CapEff:", b"0000000000000000"]
    barque.docker("exec", "-d", sleeper, "touch", "/detached")
    deadline = time.monotonic() + LIMIT_S
    while barque.docker("exec", sleeper, "ls", "/detached", check=False).returncode:
        assert time.monotonic() < deadline


def test_an_exec_ends_with_its_container(barque: Stack, sleeper: str) -> None:
    made = _rest_json(barque, "/containers/zz/exec", {"Cmd": ["sleep", "1000"]})
    assert _status(barque, f"/exec/{made['Id']}/start", {"Detach": True}) == 200
    assert _status(barque, f"/exec/{made['Id']}/start", {"Detach": True}) == 409
    barque.docker("kill", sleeper)
    assert _status(barque, f"/exec/{made['Id']}/start", {"Detach": True}) == 404


def _rest_json(barque: Stack, path: str, body: object) -> dict[str, Any]:
    connection = _request(barque, "POST", path, json.dumps(body).encode(), "Connection: close")
    data = b""
    while piece := connection.recv(65536):
        data += piece
    connection.close()
    decoded: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
    return decoded


def _status(barque: Stack, path: str, body: object) -> int:
    connection = _request(barque, "POST", path, json.dumps(body).encode())
    with connection:
        return int(connection.recv(4096).split()[1])


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        stream, length = struct.unpack_from(">BxxxI", data)
        found.append((stream, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


def test_attach_over_an_upgraded_connection(barque: Stack) -> None:
    barque.docker("create", "-i", "--name", "att", "busybox", "sh", "-c",
                  "read x; echo got $x; echo oops >&2")  # fmt: skip
    try:
        path = "/v1.44/containers/att/attach?stream=1&stdin=1&stdout=1&stderr=1"
        connection = _request(barque, "POST", path, b"", "Connection: Upgrade", "Upgrade: tcp")
        head = connection.recv(4096)
        assert head.startswith(b"HTTP/1.1 101")
        assert b"application/vnd.docker.multiplexed-stream" in head
        barque.docker("start", "att")
        connection.sendall(b"it\n")
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while piece := connection.recv(65536):
            data += piece
        assert sorted(_frames(data)) == [(1, b"got it\n"), (2, b"oops\n")]
    finally:
        barque.docker("rm", "-f", "att")


def test_attach_with_history(barque: Stack) -> None:
    barque.docker("run", "--name", "past", "busybox", "echo", "before")
    try:
        path = "/containers/past/attach?logs=1&stdout=1&stderr=1"
        connection = _request(barque, "POST", path)
        data = b""
        while piece := connection.recv(65536):
            data += piece
        assert _frames(data.partition(b"\r\n\r\n")[2]) == [(1, b"before\n")]
    finally:
        barque.docker("rm", "past")


def test_top_reads_from_outside(barque: Stack, sleeper: str) -> None:
    barque.docker(
        "exec",
        sleeper,
        "sh",
        "-c",
        "rm /bin/ps; printf '#!/bin/sh\\necho evil' > /bin/ps; chmod +x /bin/ps",
    )
    text = barque.docker("top", sleeper).stdout.decode()
    assert "sh -c trap" in text
    assert "evil" not in text
    assert barque.docker("top", sleeper, "-o", "pid,comm").stdout.split()[:2] == [
        b"PID",
        b"COMMAND",
    ]
    assert "unknown" in refused(barque, "top", sleeper, "--nope")


def test_stats(barque: Stack, sleeper: str) -> None:
    text = barque.docker("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}",
                         sleeper).stdout.decode().split()  # fmt: skip
    assert text[0] == "zz"
    assert int(text[1]) >= 1
    assert text[2] != "0B"


def test_lists_and_filters(barque: Stack) -> None:
    barque.docker("create", "--name", "l-one", "--label", "k=1", "busybox")
    barque.docker("run", "-d", "--name", "l-two", "--label", "k=2", "-p", "80", "busybox",
                  "sleep", "1000")  # fmt: skip
    try:

        def names(*arguments: str) -> list[str]:
            done = barque.docker("ps", "--format", "{{.Names}}", *arguments)
            return done.stdout.decode().split()

        assert names() == ["l-two"]
        assert names("-a") == ["l-two", "l-one"]
        assert names("-n", "1") == ["l-two"]
        for wanted, found in (
            ("name=one", ["l-one"]), ("name=^l-", ["l-two", "l-one"]), ("label=k", 2),
            ("label=k=2", ["l-two"]), ("status=created", ["l-one"]), ("before=l-two", ["l-one"]),
            ("since=l-one", ["l-two"]), ("ancestor=busybox", 2), ("network=bridge", 2),
            ("expose=80", ["l-two"]), ("status=paused", 0), ("exited=0", 0),
        ):  # fmt: skip
            got = names("-a", "-f", wanted)
            assert (len(got) if isinstance(found, int) else got) == found, wanted
        assert "invalid filter" in refused(barque, "ps", "-f", "nope=1")
        prefix = barque.docker("ps", "-q", "-f", "name=l-two").stdout.decode().strip()
        assert state(barque, prefix[:6])["Running"]
    finally:
        barque.docker("rm", "-f", "l-one", "l-two")


def test_prune(barque: Stack, sleeper: str) -> None:
    barque.docker("create", "--name", "p-one", "busybox")
    barque.docker("create", "--name", "p-two", "--label", "keep", "busybox")
    barque.docker("container", "prune", "-f", "--filter", "label!=keep")
    left = barque.docker("ps", "-a", "--format", "{{.Names}}").stdout.decode().split()
    assert sorted(left) == ["p-two", "zz"]
    barque.docker("rm", "p-two")


def test_events_of_a_life(barque: Stack) -> None:
    before = f"{time.time():.9f}"
    barque.docker("run", "--rm", "--name", "told", "busybox", "sh", "-c", "exit 2", check=False)
    after = f"{time.time() + 1:.9f}"
    text = barque.docker("events", "--since", before, "--until", after, "--filter",
                         "container=told", "--format", "{{.Action}}").stdout.decode()  # fmt: skip
    assert [line for line in text.split() if line != "attach"] == [
        "create", "start", "die", "destroy",
    ]  # fmt: skip


def test_health_checks(barque: Stack) -> None:
    barque.docker(
        "run", "-d", "--name", "well", "--health-cmd", "echo looked; test -e /tmp/ok",
        "--health-interval", "100ms", "--health-retries", "2", "busybox", "sleep", "1000",
    )  # fmt: skip
    try:
        assert state(barque, "well")["Health"]["Status"] == "starting"
        until_health(barque, "unhealthy")
        result = state(barque, "well")["Health"]["Log"][-1]
        assert (result["ExitCode"], result["Output"]) == (1, "looked\n")
        barque.docker("exec", "well", "touch", "/tmp/ok")
        until_health(barque, "healthy")
        assert b"(healthy)" in barque.docker("ps").stdout
        assert barque.docker("ps", "-q", "-f", "health=healthy").stdout
        assert state(barque, "well")["Health"]["FailingStreak"] == 0
        barque.docker("stop", "-t", "0", "well")
        assert not barque.docker("ps", "-q").stdout
    finally:
        barque.docker("rm", "-f", "well")


def until_health(barque: Stack, wanted: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while state(barque, "well")["Health"]["Status"] != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_health_check_that_takes_too_long(barque: Stack) -> None:
    barque.docker(
        "run", "-d", "--name", "slow", "--health-cmd", "sleep 1000", "--health-interval", "100ms",
        "--health-timeout", "200ms", "--health-retries", "1", "busybox", "sleep", "1000",
    )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT_S
        while state(barque, "slow")["Health"]["Status"] != "unhealthy":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "exceeded timeout" in state(barque, "slow")["Health"]["Log"][0]["Output"]
    finally:
        barque.docker("rm", "-f", "slow")


def test_shared_memory_of_a_donor(barque: Stack, sleeper: str) -> None:
    barque.docker("run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "1m",
                  "busybox", "sleep", "1000")  # fmt: skip
    try:
        barque.docker("exec", "donor", "sh", "-c", "echo shared > /dev/shm/x")
        joined = ("run", "--rm", "--ipc", "container:donor", "busybox", "cat", "/dev/shm/x")
        assert barque.docker(*joined).stdout == b"shared\n"
        text = refused(barque, "run", "--rm", "--ipc", f"container:{sleeper}", "busybox", "true")
        assert "non-shareable IPC" in text
    finally:
        barque.docker("rm", "-f", "donor")
    assert not os.listdir(barque.root / "r/shm")
