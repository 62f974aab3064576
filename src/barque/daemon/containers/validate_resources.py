"""Limits that `create` and `update` refuse, in Docker's words, or lower with a warning. Pure."""

from __future__ import annotations

from barque.daemon.containers.documents import Resources
from barque.daemon.containers.host import MAX_CPUS, Host, parse_list
from barque.errors import InvalidArgument, Unsupported

MIN_MEMORY_BYTES = 6 << 20
ULIMITS = frozenset(
    {
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    }
)


def check_resources(limits: Resources, machine: Host) -> list[str]:
    """Limits of create and of update; may lower what the kernel cannot do, with a warning."""
    warnings = [
        *_check_memory(limits, machine),
        *_check_oom(limits, machine),
        *_check_block_weights(limits, machine),
    ]
    _check_cpu(limits, machine)
    if limits.blkio_weight and not 10 <= limits.blkio_weight <= 1000:
        raise InvalidArgument("range of blkio weight is from 10 to 1000")
    if limits.cpu_realtime_period or limits.cpu_realtime_runtime:
        if not machine.cpu_realtime:
            raise InvalidArgument("Your kernel does not support CPU real-time scheduler")
        if 0 < limits.cpu_realtime_period < limits.cpu_realtime_runtime:
            raise InvalidArgument(
                "cpu real-time runtime cannot be higher than cpu real-time period"
            )
    for name in ("cpu_count", "cpu_percent", "io_maximum_iops", "io_maximum_bandwidth"):
        if getattr(limits, name):
            raise Unsupported(f"{name.replace('_', ' ')} is a setting of Windows only")
    for limit in limits.ulimits:
        _check_ulimit(limit.name, limit.soft, limit.hard)
    return warnings


def _check_oom(limits: Resources, machine: Host) -> list[str]:
    if not limits.oom_kill_disable:
        return []
    if machine.cgroup_version == 2:
        limits.oom_kill_disable = None
        return ["Your kernel does not support OomKillDisable. OomKillDisable discarded."]
    if limits.memory:
        return []
    return [
        "OOM killer is disabled for the container, but no memory limit is set, this can result in "
        "the system running out of resources."
    ]


def _check_block_weights(limits: Resources, machine: Host) -> list[str]:
    """Only some of the kernel's schedulers of block devices know weights."""
    warnings = []
    if limits.blkio_weight and not machine.block_weight:
        limits.blkio_weight = 0
        warnings.append(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight "
            "discarded."
        )
    if limits.blkio_weight_device and not machine.block_weight_device:
        limits.blkio_weight_device = []
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. "
            "Weight-device discarded."
        )
    return warnings


def _check_ulimit(name: str, soft: int, hard: int) -> None:
    if name not in ULIMITS:
        raise InvalidArgument(f"invalid ulimit type: {name}")
    if soft < -1 or hard < -1:
        raise InvalidArgument(f"invalid ulimit {name}: negative limit")
    if hard != -1 and (soft > hard or soft == -1):
        raise InvalidArgument(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )


def check_least_memory(limits: Resources) -> None:
    if limits.memory < 0 or limits.memory_reservation < 0:
        raise InvalidArgument("invalid memory limit: it is negative")
    if 0 < limits.memory < MIN_MEMORY_BYTES:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")


def _check_memory(limits: Resources, machine: Host) -> list[str]:
    warnings = []
    check_least_memory(limits)
    if limits.memory and not machine.swap_limit and limits.memory_swap != -1:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        limits.memory_swap = -1
    if limits.memory and 0 < limits.memory_swap < limits.memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if not limits.memory and limits.memory_swap > 0:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    swappiness = limits.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgument(
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )
    if 0 < limits.memory_reservation < MIN_MEMORY_BYTES:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < limits.memory < limits.memory_reservation:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    return warnings


def _check_cpu(limits: Resources, machine: Host) -> None:
    if limits.nano_cpus:
        for name, value in (("Period", limits.cpu_period), ("Quota", limits.cpu_quota)):
            if value > 0:
                raise InvalidArgument(
                    f"Conflicting options: Nano CPUs and CPU {name} cannot both be set"
                )
        count = len(machine.cpus)
        if not 0 < limits.nano_cpus <= count * 1_000_000_000:
            raise InvalidArgument(
                f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs "
                "available"
            )
    if limits.cpu_shares < 0:
        raise InvalidArgument(
            f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer"
        )
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < limits.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    for text, limit, there, what, plural in (
        (limits.cpuset_cpus, MAX_CPUS, machine.cpus, "cpuset cpus", "CPUs"),
        (limits.cpuset_mems, 1024, machine.memory_nodes, "cpuset mems", "memory nodes"),
    ):
        if text:
            _check_set(text, limit, there, what, plural)


def _check_set(text: str, limit: int, there: frozenset[int], what: str, plural: str) -> None:
    try:
        wanted = parse_list(text, limit)
    except ValueError:
        shown = text[:100]
        raise InvalidArgument(
            f"Invalid value {shown} for {what}: invalid format: {shown}"
        ) from None
    if not wanted <= there:
        available = _ranges(there)
        raise InvalidArgument(
            f"Requested {plural} are not available - requested {text[:100]}, available: {available}"
        )


def _ranges(numbers: frozenset[int]) -> str:
    """`0-3,7`, as the kernel writes a set."""
    ordered, parts = sorted(numbers), list[str]()
    for number in ordered:
        if number - 1 in numbers:
            continue
        last = number
        while last + 1 in numbers:
            last += 1
        parts.append(str(number) if last == number else f"{number}-{last}")
    return ",".join(parts)
