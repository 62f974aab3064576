"""What clients have of a container that runs: removal, wait, exec, attach, logs, lists."""

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
from tests.support.lives import sleeping, state

pytestmark = [pytest.mark.root, pytest.mark.peer]
LIMIT_S = 30.0


@pytest.fixture
def sleeper(barque: Stack) -> Iterator[str]:
    with sleeping(barque, "zz") as name:
        yield name


def refused(barque: Stack, *arguments: str) -> str:
    done = barque.docker(*arguments, check=False)
    assert done.returncode != 0
    return done.stderr.decode()


def test_removal_of_what_runs(barque: Stack, sleeper: str) -> None:
    text = refused(barque, "rm", sleeper)
    assert "container is running: stop the container before removing or force remove" in text
    barque.docker("pause", sleeper)
    barque.docker("rm", "-f", sleeper)
    assert "No such container: zz" in refused(barque, "start", "zz")


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
