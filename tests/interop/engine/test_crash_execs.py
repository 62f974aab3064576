"""Execs while containerd dies: each runs once, and its end is told once it has one."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
CONTAINERD = "barque-containerd"
PIDFD_GETFD = 438
SEED = 20261121
ROUNDS = 8
WAIT_S = 60
COUNTED = "echo x >>/ran; echo in; exit 7"
IN = b"\1\0\0\0\0\0\0\3in\n"


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def running(own_barque: Stack) -> Stack:
    """With the container `it`."""
    own_barque.docker("run", "-d", "--name", "it", "busybox", "sleep", "100000")
    return own_barque


def made(barque: Stack, command: str) -> str:
    document = {"Cmd": ["sh", "-c", command], "AttachStdout": True, "AttachStderr": True}
    identity: str = ask(
        barque.socket, "POST", "/containers/it/exec", None, document=document
    ).json()["Id"]
    return identity


def started(barque: Stack, identity: str, *, detach: bool = False) -> bytes:
    document = {"Detach": detach}
    return ask(barque.socket, "POST", f"/exec/{identity}/start", None, document=document).body


def shown(barque: Stack, identity: str) -> Any:
    return ask(barque.socket, "GET", f"/exec/{identity}/json").json()


def ended(barque: Stack, identity: str) -> int | None:
    """Its exit code, once it does not run any more."""
    until(lambda: not shown(barque, identity)["Running"], "it runs for ever")
    code: int | None = shown(barque, identity)["ExitCode"]
    return code


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def of_shims(barque: Stack) -> list[int]:
    """All processes of its shims."""
    pids = barque.pids("zygote")
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "barque-shim\n"]


def hang_up(pid: int, path: Path) -> int:
    """Break the connections of a process to the unix socket at `path`; how many."""
    pidfd = os.pidfd_open(pid)
    broken = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            fd = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(name), 0)
            with socket.socket(fileno=fd) as copy:
                if copy.family == socket.AF_UNIX and copy.getpeername() == str(path):
                    copy.shutdown(socket.SHUT_RDWR)
                    broken += 1
    os.close(pidfd)
    return broken


def test_an_end_that_nobody_was_there_to_hear_of(running: Stack) -> None:
    """The daemon's connection is gone when containerd tells of it."""
    identity = made(running, "exec sleep 1000")
    started(running, identity, detach=True)
    pid = shown(running, identity)["Pid"]
    assert running.daemon is not None
    with stopped([running.daemon.pid]):
        assert hang_up(running.daemon.pid, running.root / "r/containerd/containerd.sock")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), "it is reaped")
        time.sleep(0.5)  # its shim tells containerd
    assert ended(running, identity) == 137


def test_containerd_dies_while_an_exec_begins(running: Stack) -> None:
    """The shim stands still while it is asked, and is asked for all of it again."""
    running.docker("exec", "it", "true")
    with ThreadPoolExecutor(1) as pool:
        identity = made(running, COUNTED)
        with stopped(of_shims(running)):
            answer = pool.submit(started, running, identity)
            time.sleep(0.5)
            assert not answer.done()  # it waits for the shim
            running.kill(CONTAINERD)
        assert answer.result(WAIT_S) == IN
    assert ended(running, identity) == 7
    assert running.docker("exec", "it", "cat", "/ran").stdout == b"x\n"


def test_containerd_dies_at_any_moment_of_an_exec(running: Stack) -> None:
    dice = random.Random(SEED)
    ran = 0
    with ThreadPoolExecutor(1) as pool:
        for _ in range(ROUNDS):
            identity = made(running, COUNTED)
            answer = pool.submit(started, running, identity)
            time.sleep(dice.random() * 0.08)
            running.kill(CONTAINERD)
            said = answer.result(WAIT_S)
            code = ended(running, identity)
            # 126: it was not even asked to run it
            refused = b"does not answer" in said and code in (126, 128)
            assert (said, code) == (IN, 7) or refused
            ran += said == IN
    lines = running.docker("exec", "it", "cat", "/ran").stdout.count(b"x")
    assert ran <= lines <= ROUNDS
    assert ran
