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
        "cpu_stats": _cpu(0, 0, 0, {}),
        "precpu_stats": _cpu(0, 0, 0, {}),
        "memory_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": None, "io_serviced_recursive": None},
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
    return {
        "cpu_usage": {
            "total_usage": total,
            "usage_in_usermode": user,
            "usage_in_kernelmode": kernel,
        },
        "system_cpu_usage": _system_ns(),
        "online_cpus": os.cpu_count() or 1,
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
    stats = {
        key: int(value)
        for key, value in memory.items()
        if not isinstance(value, Mapping) and str(value).isdigit()
    }
    return {
        "cpu_stats": _cpu(
            _number(values, *usage, "total"),
            _number(values, *usage, "user"),
            _number(values, *usage, "kernel"),
            throttling,
        ),
        "pids_stats": _pids(values),
        "memory_stats": {
            "usage": _number(memory, "usage", "usage"),
            "max_usage": _number(memory, "usage", "max"),
            "failcnt": _number(memory, "usage", "failcnt"),
            "limit": _limit(_number(memory, "usage", "limit")),
            "stats": stats,
        },
        "blkio_stats": {
            "io_service_bytes_recursive": _block(values, "io_service_bytes_recursive"),
            "io_serviced_recursive": _block(values, "io_serviced_recursive"),
        },
    }


def _v2(values: Mapping[str, Any]) -> Document:
    throttling = {
        "periods": _number(values, "cpu", "nr_periods"),
        "throttled_periods": _number(values, "cpu", "nr_throttled"),
        "throttled_time": _number(values, "cpu", "throttled_usec") * 1000,
    }
    memory = values.get("memory") or {}
    counted = {key: int(value) for key, value in memory.items() if not isinstance(value, Mapping)}
    usage, limit = counted.pop("usage", 0), counted.pop("usage_limit", 0)
    return {
        "cpu_stats": _cpu(
            _number(values, "cpu", "usage_usec") * 1000,
            _number(values, "cpu", "user_usec") * 1000,
            _number(values, "cpu", "system_usec") * 1000,
            throttling,
        ),
        "pids_stats": _pids(values),
        "memory_stats": {"usage": usage, "limit": _limit(limit), "stats": counted},
        "blkio_stats": {"io_service_bytes_recursive": _io(values), "io_serviced_recursive": None},
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
