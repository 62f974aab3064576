"""A container's counters as containerd's Metrics messages.

Source: containerd/cgroups, stats/v1/metrics.proto and cgroup2/stats/metrics.proto.
"""

from __future__ import annotations

from barque.linux import accounting
from barque.linux.cgroup import UNIFIED, Cgroup
from barque.shim.wire import MESSAGE, STRING, UINT, Field, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    Values = dict[str, Any]

V1: Final = "io.containerd.cgroups.v1."
V2: Final = "io.containerd.cgroups.v2."


def _numbers(name: str, *names: str, first: int = 1) -> Table:
    """A message of uint64 fields in a row; an empty name skips its number."""
    rows = [Field(n, field, UINT) for n, field in enumerate(names, first) if field]
    return Table(name, *rows)


# --- version 1 -----------------------------------------------------------------------------------
PIDS_V1: Final = _numbers(V1 + "PidsStat", "current", "limit")
CPU_USAGE_V1: Final = Table(
    V1 + "CPUUsage",
    Field(1, "total", UINT),
    Field(2, "kernel", UINT),
    Field(3, "user", UINT),
    Field(4, "per_cpu", UINT, many=True),
)
THROTTLE_V1: Final = _numbers(V1 + "Throttle", "periods", "throttled_periods", "throttled_time")
CPU_V1: Final = Table(
    V1 + "CPUStat",
    Field(1, "usage", MESSAGE, CPU_USAGE_V1),
    Field(2, "throttling", MESSAGE, THROTTLE_V1),
)
ENTRY_V1: Final = _numbers(V1 + "MemoryEntry", "limit", "usage", "max", "failcnt")
# By the names of memory.stat, of which the message spells a few in another way.
MEMORY_BASE: Final = (
    *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout"),
    *("pgfault", "pgmajfault", "inactive_anon", "active_anon", "inactive_file", "active_file"),
    "unevictable",
)
MEMORY_NAMES_V1: Final = (
    *MEMORY_BASE,
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
    *[f"total_{name}" for name in MEMORY_BASE],
)
MEMORY_V1: Final = Table(
    V1 + "MemoryStat",
    *[Field(number, name, UINT) for number, name in enumerate(MEMORY_NAMES_V1, 1)],
    Field(33, "usage", MESSAGE, ENTRY_V1),
    Field(34, "swap", MESSAGE, ENTRY_V1),
    Field(35, "kernel", MESSAGE, ENTRY_V1),
    Field(36, "kernel_tcp", MESSAGE, ENTRY_V1),
)
MEMORY_ENTRIES_V1: Final = {
    "usage": "memory",
    "swap": "memory.memsw",
    "kernel": "memory.kmem",
    "kernel_tcp": "memory.kmem.tcp",
}
BLKIO_ENTRY_V1: Final = Table(
    V1 + "BlkIOEntry",
    Field(1, "op", STRING),
    Field(2, "device", STRING),
    Field(3, "major", UINT),
    Field(4, "minor", UINT),
    Field(5, "value", UINT),
)
BLKIO_NAMES_V1: Final = (
    *("io_service_bytes_recursive", "io_serviced_recursive", "io_queued_recursive"),
    *("io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive"),
    *("io_time_recursive", "sectors_recursive"),
)
BLKIO_V1: Final = Table(
    V1 + "BlkIOStat",
    *[
        Field(n, name, MESSAGE, BLKIO_ENTRY_V1, many=True)
        for n, name in enumerate(BLKIO_NAMES_V1, 1)
    ],
)
OOM_V1: Final = _numbers(V1 + "MemoryOomControl", "oom_kill_disable", "under_oom", "oom_kill")
METRICS_V1: Final = Table(
    V1 + "Metrics",
    Field(2, "pids", MESSAGE, PIDS_V1),
    Field(3, "cpu", MESSAGE, CPU_V1),
    Field(4, "memory", MESSAGE, MEMORY_V1),
    Field(5, "blkio", MESSAGE, BLKIO_V1),
    Field(9, "memory_oom_control", MESSAGE, OOM_V1),
)

# --- version 2 -----------------------------------------------------------------------------------
PIDS_V2: Final = _numbers(V2 + "PidsStat", "current", "limit")
CPU_NAMES_V2: Final = (
    *("usage_usec", "user_usec", "system_usec"),
    *("nr_periods", "nr_throttled", "throttled_usec"),
)
CPU_V2: Final = _numbers(V2 + "CPUStat", *CPU_NAMES_V2)
MEMORY_NAMES_V2: Final = (
    *("anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty"),
    *("file_writeback", "anon_thp", "inactive_anon", "active_anon", "inactive_file"),
    *("active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable", "pgfault"),
    *("pgmajfault", "workingset_refault", "workingset_activate", "workingset_nodereclaim"),
    *("pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed"),
    *("thp_fault_alloc", "thp_collapse_alloc"),
)
MEMORY_FILES_V2: Final = {
    "usage": "memory.current",
    "usage_limit": "memory.max",
    "swap_usage": "memory.swap.current",
    "swap_limit": "memory.swap.max",
    "max_usage": "memory.peak",
    "swap_max_usage": "memory.swap.peak",
}
MEMORY_V2: Final = _numbers(V2 + "MemoryStat", *MEMORY_NAMES_V2, *MEMORY_FILES_V2)
IO_ENTRY_V2: Final = _numbers(V2 + "IOEntry", "major", "minor", "rbytes", "wbytes", "rios", "wios")
IO_V2: Final = Table(V2 + "IOStat", Field(1, "usage", MESSAGE, IO_ENTRY_V2, many=True))
EVENTS_V2: Final = _numbers(V2 + "MemoryEvents", "low", "high", "max", "oom", "oom_kill")
METRICS_V2: Final = Table(
    V2 + "Metrics",
    Field(1, "pids", MESSAGE, PIDS_V2),
    Field(2, "cpu", MESSAGE, CPU_V2),
    Field(4, "memory", MESSAGE, MEMORY_V2),
    Field(6, "io", MESSAGE, IO_V2),
    Field(8, "memory_events", MESSAGE, EVENTS_V2),
)


def measure(cgroup: Cgroup) -> tuple[Table, Values]:
    """The container's Metrics message, of the version that counts on this machine."""
    if cgroup.unified_only:
        return METRICS_V2, _measure_v2(cgroup.directories[UNIFIED])
    return METRICS_V1, _measure_v1(cgroup)


def _measure_v1(cgroup: Cgroup) -> Values:
    values: Values = {}
    parts = {"pids": _pids, "cpuacct": _cpu_v1, "memory": _memory_v1, "blkio": _blkio_v1}
    for controller, part in parts.items():
        directory = cgroup.path(controller)
        if directory is not None:
            values["cpu" if controller == "cpuacct" else controller] = part(directory)
    throttled = cgroup.path("cpu")
    if "cpu" in values and throttled is not None:
        values["cpu"]["throttling"] = _throttle_v1(throttled)
    memory = cgroup.path("memory")
    if memory is not None:
        control = accounting.table(memory, "memory.oom_control")
        names = ("oom_kill_disable", "under_oom", "oom_kill")
        values["memory_oom_control"] = {name: control.get(name, 0) for name in names}
    return values


def _pids(directory: str) -> Values:
    limit = accounting.number(directory, "pids.max")
    return {
        "current": accounting.number(directory, "pids.current"),
        "limit": 0 if limit == accounting.UNLIMITED else limit,
    }


def _cpu_v1(directory: str) -> Values:
    usage = {
        "total": accounting.number(directory, "cpuacct.usage"),
        "user": accounting.number(directory, "cpuacct.usage_user"),
        "kernel": accounting.number(directory, "cpuacct.usage_sys"),
        "per_cpu": accounting.numbers(directory, "cpuacct.usage_percpu"),
    }
    return {"usage": usage}


def _throttle_v1(directory: str) -> Values:
    counted = accounting.table(directory, "cpu.stat")
    return {
        "periods": counted.get("nr_periods", 0),
        "throttled_periods": counted.get("nr_throttled", 0),
        "throttled_time": counted.get("throttled_time", 0),
    }


def _memory_v1(directory: str) -> Values:
    counted = accounting.table(directory, "memory.stat")
    values: Values = {name: counted.get(name, 0) for name in MEMORY_NAMES_V1}
    for field, prefix in MEMORY_ENTRIES_V1.items():
        values[field] = {
            "limit": accounting.number(directory, f"{prefix}.limit_in_bytes"),
            "usage": accounting.number(directory, f"{prefix}.usage_in_bytes"),
            "max": accounting.number(directory, f"{prefix}.max_usage_in_bytes"),
            "failcnt": accounting.number(directory, f"{prefix}.failcnt"),
        }
    return values


def _blkio_v1(directory: str) -> Values:
    """The counters of the throttling policy: those of the others need a scheduler that counts."""
    return {
        "io_service_bytes_recursive": _blkio_file(directory, "io_service_bytes"),
        "io_serviced_recursive": _blkio_file(directory, "io_serviced"),
    }


def _blkio_file(directory: str, name: str) -> list[Values]:
    rows = accounting.devices(directory, f"blkio.throttle.{name}_recursive")
    return [
        {"op": operation, "major": major, "minor": minor, "value": value}
        for major, minor, operation, value in rows
    ]


def _measure_v2(directory: str) -> Values:
    cpu = accounting.table(directory, "cpu.stat")
    events = accounting.table(directory, "memory.events")
    return {
        "pids": _pids(directory),
        "cpu": {name: cpu.get(name, 0) for name in CPU_NAMES_V2},
        "memory": _memory_v2(directory),
        "io": {"usage": [_io_entry(*row) for row in accounting.io_table(directory)]},
        "memory_events": {field.name: events.get(field.name, 0) for field in EVENTS_V2.fields},
    }


def _memory_v2(directory: str) -> Values:
    counted = accounting.table(directory, "memory.stat")
    values = {name: counted.get(name, 0) for name in MEMORY_NAMES_V2}
    for field, name in MEMORY_FILES_V2.items():
        values[field] = accounting.number(directory, name)
    return values


def _io_entry(major: int, minor: int, counters: dict[str, int]) -> Values:
    names = ("rbytes", "wbytes", "rios", "wios")
    return {"major": major, "minor": minor, **{name: counters.get(name, 0) for name in names}}
