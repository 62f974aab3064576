"""Limits as the OCI `linux.resources`. runtime-spec: config-linux.md, "Control groups"."""

from __future__ import annotations

import os
import re
from typing import Any

from barque import errors
from barque.daemon.containers.documents import Resources, ThrottleDevice
from barque.daemon.containers.record import Record
from barque.daemon.containers.start_facts import StartFacts

CPU_PERIOD_US = 100_000
DEVICE_RULE = re.compile(r"([acb]) (\*|[0-9]{1,7}):(\*|[0-9]{1,7}) ([rwm]{1,3})", re.ASCII)


def resources(record: Record, facts: StartFacts) -> dict[str, Any]:
    """All limits of a container that starts, with its device rules."""
    return {"devices": device_rules(record, facts), **limits(record.host)}


def limits(asked: Resources) -> dict[str, Any]:
    """What may also be changed while it runs; only what was asked for is in it."""
    result: dict[str, Any] = {}
    for key, value in (
        ("memory", _memory(asked)),
        ("cpu", _cpu(asked)),
        ("blockIO", _block_io(asked)),
    ):
        if value:
            result[key] = value
    if asked.pids_limit is not None:
        result["pids"] = {"limit": asked.pids_limit if asked.pids_limit > 0 else -1}
    return result


def _memory(asked: Resources) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if asked.memory:
        memory["limit"] = asked.memory
        memory["swap"] = asked.memory_swap or 2 * asked.memory
    elif asked.memory_swap:
        memory["swap"] = asked.memory_swap
    if asked.memory_reservation:
        memory["reservation"] = asked.memory_reservation
    if asked.memory_swappiness is not None and asked.memory_swappiness >= 0:
        memory["swappiness"] = asked.memory_swappiness
    if asked.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(asked: Resources) -> dict[str, Any]:
    cpu: dict[str, Any] = {}
    if asked.nano_cpus:
        cpu["period"] = CPU_PERIOD_US
        cpu["quota"] = asked.nano_cpus * CPU_PERIOD_US // 1_000_000_000
    for key, value in (
        ("shares", asked.cpu_shares),
        ("period", asked.cpu_period),
        ("quota", asked.cpu_quota),
        ("cpus", asked.cpuset_cpus),
        ("mems", asked.cpuset_mems),
        ("realtimePeriod", asked.cpu_realtime_period),
        ("realtimeRuntime", asked.cpu_realtime_runtime),
    ):
        if value:
            cpu[key] = value
    return cpu


def _block_io(asked: Resources) -> dict[str, Any]:
    block: dict[str, Any] = {}
    if asked.blkio_weight:
        block["weight"] = asked.blkio_weight
    if asked.blkio_weight_device:
        block["weightDevice"] = [
            {**_numbers(device.path), "weight": device.weight}
            for device in asked.blkio_weight_device
        ]
    for key, throttles in (
        ("throttleReadBpsDevice", asked.blkio_device_read_bps),
        ("throttleWriteBpsDevice", asked.blkio_device_write_bps),
        ("throttleReadIOPSDevice", asked.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", asked.blkio_device_write_iops),
    ):
        if throttles:
            block[key] = [_throttle(throttle) for throttle in throttles]
    return block


def _throttle(throttle: ThrottleDevice) -> dict[str, Any]:
    return {**_numbers(throttle.path), "rate": throttle.rate}


def _numbers(path: str) -> dict[str, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise errors.InvalidArgument(f"stat {path}: {reason}") from None
    except ValueError as error:
        raise errors.InvalidArgument(f"stat {path!r}: {error}") from None
    return {"major": os.major(number), "minor": os.minor(number)}


def _rule(
    allow: bool, access: str, kind: str = "", major: int = -1, minor: int = -1
) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": allow, "access": access}
    if kind:
        rule["type"] = kind
    if major >= 0:
        rule["major"] = major
    if minor >= 0:
        rule["minor"] = minor
    return rule


DEFAULT_DEVICE_RULES = (
    _rule(False, "rwm"),
    _rule(True, "m", "c"),
    _rule(True, "m", "b"),
    _rule(True, "rwm", "c", 1, 3),  # null
    _rule(True, "rwm", "c", 1, 5),  # zero
    _rule(True, "rwm", "c", 1, 7),  # full
    _rule(True, "rwm", "c", 1, 8),  # random
    _rule(True, "rwm", "c", 1, 9),  # urandom
    _rule(True, "rwm", "c", 5, 0),  # tty
    _rule(True, "rwm", "c", 5, 1),  # console
    _rule(True, "rwm", "c", 5, 2),  # ptmx
    _rule(True, "rwm", "c", 136),  # pts
)


def device_rules(record: Record, facts: StartFacts) -> list[dict[str, Any]]:
    """An allow list; everything for a privileged container."""
    if record.host.privileged:
        return [_rule(True, "rwm")]
    rules = [*DEFAULT_DEVICE_RULES, *(device.rule() for device in facts.devices)]
    rules += [parse_device_rule(text) for text in record.host.device_cgroup_rules or ()]
    return rules


def parse_device_rule(text: str) -> dict[str, Any]:
    """`c 7:* rwm`. Raises InvalidArgument."""
    match = DEVICE_RULE.fullmatch(text)
    if not match:
        raise errors.InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = match.groups()
    return _rule(
        True,
        access,
        kind,
        -1 if major == "*" else int(major),
        -1 if minor == "*" else int(minor),
    )
