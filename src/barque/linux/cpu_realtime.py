"""Real-time scheduling of groups of processes: cgroups of version 1 alone have it.

Linux, Documentation/scheduler/sched-rt-group.rst: a group may give to those below it what it has.
"""

from __future__ import annotations

import os

from barque.linux.cgroup import ROOT
from barque.linux.fs import write_file

HIERARCHY = f"{ROOT}/cpu"
PERIOD, RUNTIME = "cpu.rt_period_us", "cpu.rt_runtime_us"


def available() -> bool:
    """Whether this kernel has it and the hierarchy is there."""
    return os.path.exists(f"{HIERARCHY}/{RUNTIME}")


def give(group: str, period_us: int, runtime_us: int) -> None:
    """Let `group` and those above it have it, but for the root; they are made when missing.

    0 leaves what is there. Raises OSError: those above have not got as much.
    """
    path = HIERARCHY
    for part in group.strip("/").split("/"):
        if part in ("", ".", ".."):
            continue
        path = f"{path}/{part}"
        os.makedirs(path, mode=0o755, exist_ok=True)
        for name, value in ((PERIOD, period_us), (RUNTIME, runtime_us)):
            if value:
                write_file(f"{path}/{name}", str(value))
