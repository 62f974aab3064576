"""What a test of containers' lives asks an engine, ours or a real one, by docker's own command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LIMIT_S = 30.0
POLITE = "trap 'exit 3' TERM; echo ready; while true; do sleep 0.05; done"


def state(engine: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("inspect", name).stdout)[0]["State"]
    return found


def until(engine: Any, name: str, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The state once it is as wanted."""
    deadline = time.monotonic() + LIMIT_S
    while not wanted(now := state(engine, name)):
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


@contextmanager
def sleeping(engine: Any, name: str) -> Iterator[str]:
    """A container that runs until it is told to end, with 3 when it is asked to."""
    engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", POLITE)
    deadline = time.monotonic() + LIMIT_S
    while engine.docker("logs", name).stdout != b"ready\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield name
    engine.docker("rm", "-f", name, check=False)
