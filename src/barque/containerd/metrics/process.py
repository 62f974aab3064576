"""What the kernel says of this process, under Prometheus' usual names. Source: proc(5)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from barque.containerd.metrics.text import COUNTER, GAUGE, Family, Sample

START_TIME, VIRTUAL, RESIDENT = 19, 20, 21  # fields of stat(5) after the name, from 0


def families() -> Iterator[Family]:
    with open("/proc/self/stat", encoding="latin-1") as file:
        fields = file.read().rpartition(")")[2].split()
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    ticks = os.sysconf("SC_CLK_TCK")
    for name, kind, value in (
        ("cpu_seconds_total", COUNTER, used.ru_utime + used.ru_stime),
        ("max_fds", GAUGE, limit),
        ("open_fds", GAUGE, len(os.listdir("/proc/self/fd")) - 1),
        ("resident_memory_bytes", GAUGE, int(fields[RESIDENT]) * os.sysconf("SC_PAGE_SIZE")),
        ("start_time_seconds", GAUGE, _boot_time_s() + int(fields[START_TIME]) / ticks),
        ("virtual_memory_bytes", GAUGE, int(fields[VIRTUAL])),
    ):
        yield Family(f"process_{name}", kind, "Of this server's process.", (Sample({}, value),))


def _boot_time_s() -> int:
    with open("/proc/stat", encoding="latin-1") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("btime "))
