"""What a container's cgroup has used, in the form of runc's `events`. Members without a value are
left out where runc leaves them out, so that its readers find what they expect."""

from __future__ import annotations

import os

from barque.linux import accounting as read
from barque.linux.cgroup import UNIFIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.linux.cgroup import Cgroup

NS_PER_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
NS_PER_US = 1000
PSI_AVERAGES = ("avg10", "avg60", "avg300")
EVENTS = ("low", "high", "max", "oom", "oom_kill")
CPUSET_FLAGS = (
    ("cpu_exclusive", "cpu_exclusive"),
    ("mem_hardwall", "mem_hardwall"),
    ("mem_exclusive", "mem_exclusive"),
    ("memory_migrate", "memory_migrate"),
    ("memory_spread_page", "memory_spread_page"),
    ("memory_spread_slab", "memory_spread_slab"),
    ("memory_pressure", "memory_pressure"),
    ("sched_load_balance", "sched_load_balance"),
)
LARGEST_CPU = 1 << 16
IO_FILES = (
    ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
    ("ioServicedRecursive", "io_serviced_recursive"),
)


def event(container: str, cgroup: Cgroup) -> dict[str, Any]:
    """The `stats` event of a container."""
    return {"type": "stats", "id": container, "data": statistics(cgroup)}


def statistics(cgroup: Cgroup) -> dict[str, Any]:
    data = _unified(cgroup.directories[UNIFIED]) if cgroup.unified_only else _legacy(cgroup)
    return {**data, "hugetlb": {}, "intel_rdt": {}, "network_interfaces": None}


def _given(**members: Any) -> dict[str, Any]:
    """What has a value."""
    return {name: value for name, value in members.items() if value}


def _legacy(cgroup: Cgroup) -> dict[str, Any]:
    def place(controller: str) -> str:
        return cgroup.path(controller) or "/nonexistent"

    accounts, cpu = place("cpuacct"), place("cpu")
    ticks, throttled = read.table(accounts, "cpuacct.stat"), read.table(cpu, "cpu.stat")
    kernel, user = _usage_by_cpu(accounts)
    usage = _given(
        total=read.number(accounts, "cpuacct.usage"),
        percpu=read.numbers(accounts, "cpuacct.usage_percpu"),
        percpu_kernel=kernel,
        percpu_user=user,
    )
    usage["kernel"] = ticks.get("system", 0) * NS_PER_TICK
    usage["user"] = ticks.get("user", 0) * NS_PER_TICK
    throttling = _given(
        periods=throttled.get("nr_periods"),
        throttledPeriods=throttled.get("nr_throttled"),
        throttledTime=throttled.get("throttled_time"),
    )
    return {
        "cpu": {"usage": usage, "throttling": throttling},
        "cpuset": _cpuset(place("cpuset")),
        "memory": _memory_legacy(place("memory")),
        "pids": _pids(place("pids")),
        "blkio": _blkio_legacy(place("blkio")),
    }


def _usage_by_cpu(directory: str) -> tuple[list[int], list[int]]:
    """Of each CPU the time in the kernel and outside. cpuacct.usage_all."""
    kernel, user = [], []
    for line in read.text(directory, "cpuacct.usage_all").splitlines()[1:]:
        words = line.split()
        if len(words) == 3:
            user.append(int(words[1]))
            kernel.append(int(words[2]))
    return kernel, user


def _cpuset(directory: str) -> dict[str, Any]:
    found: dict[str, Any] = _given(
        cpus=_list(read.text(directory, "cpuset.cpus")),
        mems=_list(read.text(directory, "cpuset.mems")),
    )
    for name, file in CPUSET_FLAGS:
        found[name] = read.number(directory, f"cpuset.{file}")
    level = read.text(directory, "cpuset.sched_relax_domain_level").strip()
    found["sched_relax_domain_level"] = int(level) if level.lstrip("-").isdigit() else 0
    return found


def _list(text: str) -> list[int]:
    found: list[int] = []
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            found += range(int(first), min(int(last if dash else first), LARGEST_CPU) + 1)
    return found


def _memory_legacy(directory: str) -> dict[str, Any]:
    raw = read.table(directory, "memory.stat")

    def entry(name: str) -> dict[str, Any]:
        prefix = f"memory.{name}" if name else "memory"
        found: dict[str, Any] = {"limit": read.number(directory, f"{prefix}.limit_in_bytes")}
        found |= _given(
            usage=read.number(directory, f"{prefix}.usage_in_bytes"),
            max=read.number(directory, f"{prefix}.max_usage_in_bytes"),
        )
        found["failcnt"] = read.number(directory, f"{prefix}.failcnt")
        return found

    return {
        **_given(cache=raw.get("cache")),
        "usage": entry(""),
        "swap": entry("memsw"),
        "kernel": entry("kmem"),
        "kernelTCP": entry("kmem.tcp"),
        **_given(raw=raw),
    }


def _pids(directory: str) -> dict[str, Any]:
    limit = read.number(directory, "pids.max")
    return _given(
        current=read.number(directory, "pids.current"),
        limit=0 if limit == read.UNLIMITED else limit,
    )


def _blkio_legacy(directory: str) -> dict[str, Any]:
    found = {}
    for name, file in IO_FILES:
        lines = read.devices(directory, f"blkio.throttle.{file}")
        found[name] = [_io(*line) for line in lines]
    return _given(**found)


def _io(major: int, minor: int, operation: str, value: int) -> dict[str, Any]:
    return _given(major=major, minor=minor, op=operation, value=value)


def _unified(directory: str) -> dict[str, Any]:
    cpu = read.table(directory, "cpu.stat")
    usage: dict[str, Any] = _given(total=cpu.get("usage_usec", 0) * NS_PER_US)
    usage["kernel"] = cpu.get("system_usec", 0) * NS_PER_US
    usage["user"] = cpu.get("user_usec", 0) * NS_PER_US
    throttling = _given(
        periods=cpu.get("nr_periods"),
        throttledPeriods=cpu.get("nr_throttled"),
        throttledTime=cpu.get("throttled_usec", 0) * NS_PER_US,
    )
    cpus = _given(
        cpus=_list(read.text(directory, "cpuset.cpus.effective")),
        mems=_list(read.text(directory, "cpuset.mems.effective")),
    )
    zeros = {name: 0 for name, _ in CPUSET_FLAGS}
    return {
        "cpu": {"usage": usage, "throttling": throttling, **_psi(directory, "cpu")},
        "cpuset": {**cpus, **zeros, "sched_relax_domain_level": 0},
        "memory": _memory_unified(directory),
        "pids": _pids(directory),
        "blkio": {**_blkio_unified(directory), **_psi(directory, "io")},
    }


def _memory_unified(directory: str) -> dict[str, Any]:
    raw = read.table(directory, "memory.stat")
    limit, current = read.number(directory, "memory.max"), read.number(directory, "memory.current")
    swap_limit = read.number(directory, "memory.swap.max")
    # as version 1 counts: swap with memory
    swap_limit = swap_limit if read.UNLIMITED in (limit, swap_limit) else limit + swap_limit
    swap = read.number(directory, "memory.swap.current") + current
    peak = read.number(directory, "memory.peak")
    nothing = {"limit": 0, "failcnt": 0}
    counts = read.table(directory, "memory.events")
    return {
        **_given(cache=raw.get("file")),
        "usage": {"limit": limit, **_given(usage=current, max=peak), "failcnt": 0},
        "swap": {"limit": swap_limit, **_given(usage=swap), "failcnt": 0},
        "kernel": nothing,
        "kernelTCP": nothing,
        **_given(raw=raw),
        **_psi(directory, "memory"),
        "event_count": {name: counts.get(name, 0) for name in EVENTS},
    }


def _blkio_unified(directory: str) -> dict[str, Any]:
    bytes_served, served = [], []
    for major, minor, counters in read.io_table(directory):
        for letter, operation in (("r", "Read"), ("w", "Write"), ("d", "Discard")):
            bytes_served.append(_io(major, minor, operation, counters.get(f"{letter}bytes", 0)))
            served.append(_io(major, minor, operation, counters.get(f"{letter}ios", 0)))
    return _given(ioServiceBytesRecursive=bytes_served, ioServicedRecursive=served)


def _psi(directory: str, controller: str) -> dict[str, Any]:
    """How long tasks waited for the resource. Where the kernel tells it."""
    kinds: dict[str, Any] = {}
    for line in read.text(directory, f"{controller}.pressure").splitlines():
        kind, *pairs = line.split()
        values = dict(pair.partition("=")[::2] for pair in pairs)
        kinds[kind] = {name: float(values.get(name, 0)) for name in PSI_AVERAGES}
        kinds[kind]["total"] = int(values.get("total", 0))
    return {"psi": kinds} if kinds else {}
