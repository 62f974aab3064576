"""The control groups of a test: all of them are below one name at the top of each hierarchy."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
VERSION_2 = (CGROUPS / "cgroup.controllers").exists()  # of this machine: alone, not hybrid
GONE_LIMIT_S = 30.0
POLL_S = 0.02


def group(controller: str, name: str) -> Path:
    """The directory of a container's group that has the files of a controller."""
    return CGROUPS / name if VERSION_2 else CGROUPS / controller / name


def tops(name: str) -> list[Path]:
    """The directories of this name, in a hierarchy of version 1 or in that of version 2 itself."""
    return [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]


def remove(name: str, *, depth: int = 1) -> list[str]:
    """Remove the empty groups that the makers of containers leave: the parent they were told.

    Returns what is left after some time: groups deeper than `depth`, which their makers should have
    removed, and groups that hold processes. Those below are removed too, if that can be done.
    """
    deadline = time.monotonic() + GONE_LIMIT_S
    while left := _remove_once(name, depth):
        if time.monotonic() > deadline:
            _remove_once(name, 100)
            break
        time.sleep(POLL_S)
    return left


def _remove_once(name: str, depth: int) -> list[str]:
    left = []
    for top in tops(name):
        for directory, _, _ in os.walk(top, topdown=False):
            if len(Path(directory).relative_to(top).parts) < depth:
                with suppress(OSError):  # of another's making, or a process is about to leave it
                    os.rmdir(directory)
            if os.path.isdir(directory):
                left.append(directory)
    return left
