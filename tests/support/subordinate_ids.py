"""Ranges in /etc/subuid and /etc/subgid for a user of the machine, while a test needs them.

    with subordinate_ids() as user:       # "games", whose containers' root is FIRST on the machine
        ...

One test at a time has them; lines that a killed test left go first.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "games"
FIRST, COUNT = 1_700_000, 65_536
FILES = (Path("/etc/subuid"), Path("/etc/subgid"))


@contextmanager
def subordinate_ids() -> Iterator[str]:
    with Path("/tmp/barque-test-subids.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write([f"{USER}:{FIRST}:{COUNT}"])
        try:
            yield USER
        finally:
            _write([])


def _write(own: list[str]) -> None:
    for path in FILES:
        lines = path.read_text().splitlines() if path.exists() else []
        others = [line for line in lines if not line.startswith(f"{USER}:")]
        path.write_text("".join(f"{line}\n" for line in [*others, *own]))
