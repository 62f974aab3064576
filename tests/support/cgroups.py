"""The control groups of a test: all of them are below one name at the top of each hierarchy."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
VERSION_2 = (CGROUPS / "cgroup.controllers").exists()  # of this machine: alone, not hybrid
GONE_LIMIT_S = 30.0
# what version 1 calls a file, and its name in version 2
OF_VERSION_2 = {
    "memory.limit_in_bytes": "memory.max",
    "memory.soft_limit_in_bytes": "memory.low",
    "cpu.shares": "cpu.weight",
    "cpu.cfs_quota_us": "cpu.max",
    "cpu.cfs_burst_us": "cpu.max.burst",
}
POLL_S = 0.02


def group(controller: str, name: str) -> Path:
    """The directory of a container's group that has the files of a controller."""
    return CGROUPS / name if VERSION_2 else CGROUPS / controller / name


def limit(container: str, name: str) -> str:
    """A limit of a container: a file of either version, named as in the first."""
    controller = name.split(".")[0]
    if VERSION_2:
        name = OF_VERSION_2.get(name, name)
    return (group(controller, container) / name).read_text().strip()


def weight(shares: int) -> str:
    """As the kernel shows it: version 2 has a weight from 1 to 10000 for 2 to 262144 shares."""
    return str(1 + (shares - 2) * 9999 // 262142 if VERSION_2 else shares)


def quota(quota_us: int, period_us: int) -> str:
    """As the kernel shows it: version 2 has both in one file."""
    return f"{quota_us} {period_us}" if VERSION_2 else str(quota_us)


def tops(name: str) -> list[Path]:
    """The directories of this name, in a hierarchy of version 1 or in that of version 2 itself."""
    return [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]


def processes(name: str) -> set[int]:
    """Whatever is in these groups, or below."""
    lists = [file for top in tops(name) for file in top.rglob("cgroup.procs")]
    return {int(pid) for file in lists for pid in file.read_text().split()}


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
