"""The processes that name a test's directory: a server, its shims, what these have started."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

GONE_LIMIT_S = 30.0
POLL_S = 0.02


def lines_by_pid(root: Path) -> dict[int, str]:
    """Command lines that name something in `root`, without the test's own."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        if int(directory.name) == os.getpid():
            continue
        with suppress(OSError):
            line = os.fsdecode((directory / "cmdline").read_bytes()).replace("\0", " ")
            if f"{root}/" in line:
                found[int(directory.name)] = line
    return found


def assert_gone(root: Path, limit_s: float = GONE_LIMIT_S) -> None:
    """For the end of a test: they end by themselves. Those that do not are killed; AssertionError
    tells of them."""
    deadline = time.monotonic() + limit_s
    while left := lines_by_pid(root):
        if time.monotonic() > deadline:
            kill(root)
            raise AssertionError(f"left on the machine: {left}")
        time.sleep(POLL_S)


def kill(root: Path) -> None:
    """Kill them, until there are none: who is killed may just have started another."""
    deadline = time.monotonic() + GONE_LIMIT_S
    while pids := lines_by_pid(root):
        assert time.monotonic() < deadline, f"do not end: {pids}"
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
