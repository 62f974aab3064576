"""sd_notify(3) from a container to the service manager that started the runtime."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]


@contextmanager
def manager(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(20)
        yield listener


def told(listener: socket.socket) -> list[str]:
    """What is told up to the barrier, which is answered."""
    lines: list[str] = []
    while True:
        data, fds, _, _ = socket.recv_fds(listener, 4096, 1)
        for fd in fds:
            os.close(fd)
        lines += data.decode().split()
        if "BARRIER=1" in lines:
            return lines[:-1]


def say(pid: int, *messages: str) -> None:
    """What the container's process `pid` would send."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(message.encode(), f"/proc/{pid}/root/run/notify/notify.sock")


@pytest.mark.runtimes("ours")
def test_readiness(case: Case) -> None:
    case.write(case.configure("sleep", "1000"))
    path = case.place / "manager"
    environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
    with manager(path) as listener:
        argv = case.runtime.argv("create", "--bundle", str(case.bundle), case.id)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run(argv, env=environment, check=True, **quiet)  # type: ignore[call-overload]
        start = subprocess.Popen(case.runtime.argv("start", case.id), env=environment)
        wait_for(lambda: case.runtime.status(case.id) == "running")
        say(case.runtime.pid(case.id), "STATUS=starting", "READY=1\nSTATUS=ready", "READY=1")
        assert told(listener) == ["READY=1", f"MAINPID={case.runtime.pid(case.id)}"]
        assert start.wait(20) == 0
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)


@pytest.mark.runtimes("ours")
def test_one_that_ends_without_a_word(case: Case) -> None:
    case.write(case.configure("sh", "-c", "ls -l $NOTIFY_SOCKET"))
    path = case.place / "manager"
    environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
    with manager(path) as listener:
        argv = case.runtime.argv("run", "--detach", "--bundle", str(case.bundle), case.id)
        with open(case.place / "out", "w") as out:
            stdin = subprocess.DEVNULL
            subprocess.run(argv, env=environment, check=True, stdin=stdin, stdout=out)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(4096)
    case.runtime.wait_stopped(case.id)
    assert "/run/notify/notify.sock" in (case.place / "out").read_text()


@pytest.mark.runtimes("ours")
def test_a_long_root(case: Case) -> None:
    """The container's socket lies deeper than the path of a socket may be long."""
    deep = case.place / ("d" * 120)
    deep.mkdir()
    case.write(case.configure("sleep", "1000"))
    path = case.place / "manager"
    environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
    entry = case.runtime.argv()[:-2]
    runtime = [*entry, "--root", str(deep)]
    with manager(path) as listener:
        run = [*runtime, "run", "--detach", "--bundle", str(case.bundle), case.id]
        with open(os.devnull) as nothing, open(os.devnull, "w") as sink:
            process = subprocess.Popen(run, env=environment, stdin=nothing, stdout=sink)
        state = [*runtime, "state", case.id]
        pids: list[int] = []

        def running() -> bool:
            done = subprocess.run(state, capture_output=True, check=False)
            found = json.loads(done.stdout or b"{}")
            pids[:] = [found.get("pid", 0)]
            return bool(found.get("status") == "running")

        wait_for(running)
        say(pids[0], "READY=1")
        assert told(listener)[0] == "READY=1"
        assert process.wait(20) == 0
    subprocess.run([*runtime, "delete", "--force", case.id], check=True)
