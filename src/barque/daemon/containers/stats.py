"""`stats`: what the kernel counts of a container, in the shape of ContainerStatsResponse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.state import NEVER

INTERVAL_S = 1.0
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
Document = dict[str, Any]
# The kernel's names of what version 1 counts (memory.stat), and containerd's where they differ.
_RENAMED = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
}
_OF_A_GROUP = (
    *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", *_RENAMED),
    *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
)
MEMORY_V1 = {
    **{name: _RENAMED.get(name, name) for name in _OF_A_GROUP},
    "hierarchical_memory_limit": "hierarchical_memory_limit",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
    **{f"total_{name}": f"total_{_RENAMED.get(name, name)}" for name in _OF_A_GROUP},
}
_OF_VERSION_2 = """
anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp inactive_anon
active_anon inactive_file active_file unevictable slab_reclaimable slab_unreclaimable pgfault
pgmajfault workingset_refault workingset_activate workingset_nodereclaim pgrefill pgscan pgsteal
pgactivate pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc
"""
MEMORY_V2 = tuple(_OF_VERSION_2.split())
BLOCKS_V1 = {  # the API's names, and containerd's
    "io_service_bytes_recursive": "io_service_bytes_recursive",
    "io_serviced_recursive": "io_serviced_recursive",
    "io_queue_recursive": "io_queued_recursive",
    "io_service_time_recursive": "io_service_time_recursive",
    "io_wait_time_recursive": "io_wait_time_recursive",
    "io_merged_recursive": "io_merged_recursive",
    "io_time_recursive": "io_time_recursive",
    "sectors_recursive": "sectors_recursive",
}


async def once(engine: Engine, container: Container, *, one_shot: bool) -> Document:
    """One sample; without `one_shot` a second apart from another, so that a rate can be told."""
    first = await sample(engine, container)
    if one_shot or not container.state.running:
        return first
    await asyncio.sleep(INTERVAL_S)
    return _after(first, await sample(engine, container))


async def stream(engine: Engine, container: Container) -> AsyncIterator[bytes]:
    """A sample a second until the container is gone or its client."""
    before: Document | None = None
    while container.id in engine.catalogue:
        now = await sample(engine, container)
        if before is not None:
            now = _after(before, now)
        yield msgspec.json.encode(now) + b"\n"
        before = now
        await asyncio.sleep(INTERVAL_S)


def _after(before: Document, now: Document) -> Document:
    return {**now, "precpu_stats": before["cpu_stats"], "preread": before["read"]}


async def sample(engine: Engine, container: Container) -> Document:
    result: Document = {
        "id": container.id,
        "name": f"/{container.name}",
        "os_type": "linux",
        "read": NEVER,
        "preread": NEVER,
        "num_procs": 0,
        "pids_stats": {},
        "cpu_stats": _usage(0, 0, 0, {}),
        "precpu_stats": _usage(0, 0, 0, {}),
        "memory_stats": {},
        "blkio_stats": dict.fromkeys(BLOCKS_V1),
        "storage_stats": {},
        "networks": {},
    }
    if not container.state.running:
        return result
    try:
        version, values = await engine.supervisor.metrics(container.id)
    except (errors.NotFound, errors.Conflict):
        return result
    result["read"] = engine.now()
    result |= _v2(values) if version == 2 else _v1(values)
    if container.record.host.network_mode != "host":
        result["networks"] = network_counters(container.state.pid)
    return result


def _number(values: Mapping[str, Any], *path: str) -> int:
    """A counter of a message as JSON: 64-bit numbers come as text, absent ones are 0."""
    found: Any = values
    for key in path:
        if not isinstance(found, Mapping):
            return 0
        found = found.get(key)
    return int(found or 0)


def _cpu(total: int, user: int, kernel: int, throttling: Mapping[str, int]) -> Document:
    """What was used up to now, and the time of the machine that a rate is reckoned by."""
    machine = {"system_cpu_usage": _system_ns(), "online_cpus": os.cpu_count() or 1}
    return {**_usage(total, user, kernel, throttling), **machine}


def _usage(total: int, user: int, kernel: int, throttling: Mapping[str, int]) -> Document:
    return {
        "cpu_usage": {
            "total_usage": total,
            "usage_in_usermode": user,
            "usage_in_kernelmode": kernel,
        },
        "throttling_data": {
            "periods": throttling.get("periods", 0),
            "throttled_periods": throttling.get("throttled_periods", 0),
            "throttled_time": throttling.get("throttled_time", 0),
        },
    }


def _system_ns() -> int:
    """All CPUs' time since boot: the first line of /proc/stat. proc(5)."""
    with open("/proc/stat", "rb") as file:
        fields = file.readline().split()[1:9]
    return sum(map(int, fields)) * TICK_NS


def _v1(values: Mapping[str, Any]) -> Document:
    throttling = {
        "periods": _number(values, "cpu", "throttling", "periods"),
        "throttled_periods": _number(values, "cpu", "throttling", "throttled_periods"),
        "throttled_time": _number(values, "cpu", "throttling", "throttled_time"),
    }
    usage = ("cpu", "usage")
    memory = values.get("memory") or {}
    cpu = _cpu(
        _number(values, *usage, "total"),
        _number(values, *usage, "user"),
        _number(values, *usage, "kernel"),
        throttling,
    )
    if each := ((values.get("cpu") or {}).get("usage") or {}).get("per_cpu"):
        cpu["cpu_usage"]["percpu_usage"] = [int(value) for value in each]
    return {
        "cpu_stats": cpu,
        "pids_stats": _pids(values),
        "memory_stats": {
            "usage": _number(memory, "usage", "usage"),
            "max_usage": _number(memory, "usage", "max"),
            "failcnt": _number(memory, "usage", "failcnt"),
            "limit": _limit(_number(memory, "usage", "limit")),
            "stats": {name: _number(memory, theirs) for name, theirs in MEMORY_V1.items()},
        },
        "blkio_stats": {name: _block(values, theirs) for name, theirs in BLOCKS_V1.items()},
    }


def _v2(values: Mapping[str, Any]) -> Document:
    throttling = {
        "periods": _number(values, "cpu", "nr_periods"),
        "throttled_periods": _number(values, "cpu", "nr_throttled"),
        "throttled_time": _number(values, "cpu", "throttled_usec") * 1000,
    }
    memory = values.get("memory") or {}
    usage, limit = _number(memory, "usage"), _number(memory, "usage_limit")
    counted = {name: _number(memory, name) for name in MEMORY_V2}
    return {
        "cpu_stats": _cpu(
            _number(values, "cpu", "usage_usec") * 1000,
            _number(values, "cpu", "user_usec") * 1000,
            _number(values, "cpu", "system_usec") * 1000,
            throttling,
        ),
        "pids_stats": _pids(values),
        "memory_stats": {"usage": usage, "limit": _limit(limit), "stats": counted},
        "blkio_stats": dict.fromkeys(BLOCKS_V1) | {"io_service_bytes_recursive": _io(values)},
    }


def _pids(values: Mapping[str, Any]) -> dict[str, int]:
    found = {"current": _number(values, "pids", "current")}
    if limit := _number(values, "pids", "limit"):
        found["limit"] = limit
    return found


def _limit(limit: int) -> int:
    """The machine's memory where the group has no bound of its own."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(limit, machine) if limit > 0 else machine


def _block(values: Mapping[str, Any], kind: str) -> list[Document]:
    return [
        {
            "major": int(entry.get("major", 0)),
            "minor": int(entry.get("minor", 0)),
            "op": str(entry.get("op", "")).lower(),
            "value": int(entry.get("value", 0)),
        }
        for entry in (values.get("blkio") or {}).get(kind) or ()
    ]


def _io(values: Mapping[str, Any]) -> list[Document]:
    return [
        {
            "major": int(entry.get("major", 0)),
            "minor": int(entry.get("minor", 0)),
            "op": name,
            "value": int(entry.get(key, 0)),
        }
        for entry in (values.get("io") or {}).get("usage") or ()
        for name, key in (("read", "rbytes"), ("write", "wbytes"))
    ]


def network_counters(pid: int) -> dict[str, dict[str, int]]:
    """Per interface, from the process's own view. proc(5), /proc/PID/net/dev."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()[2:]
    except OSError:
        return {}
    result = {}
    for line in lines:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() == "lo" or len(fields) < 12:
            continue
        keys = ("bytes", "packets", "errors", "dropped")
        result[name.strip()] = {
            **{f"rx_{key}": int(value) for key, value in zip(keys, fields[:4], strict=True)},
            **{f"tx_{key}": int(value) for key, value in zip(keys, fields[8:12], strict=True)},
        }
    return result
