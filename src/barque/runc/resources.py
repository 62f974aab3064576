"""`linux.resources` as writes to cgroup files, for version 1 and for version 2. Pure, then applied.

config-linux.md, "Control groups". A zero is "not set", as for runc. What a hierarchy cannot do is
an error that names the property: no limit is taken and then not kept.
"""

from __future__ import annotations

import os
from errno import EINVAL

from barque.errors import InvalidArgument, Unsupported
from barque.linux.bpf import attach_device_program, device_program
from barque.linux.cgroup import UNIFIED
from barque.linux.fs import write_file
from barque.oci.fields import INT64, UINT16, UINT32, UINT64
from barque.oci.runtime import Value
from barque.runc.device_rules import Rules, parse_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barque.linux.cgroup import Cgroup
    from barque.oci.fields import Fields

    Planned = Iterator[tuple[str, str, str]]  # controller, file, value
    Plan = Callable[[Fields], Planned]

CPU_PERIOD = "cpu.cfs_period_us"
UNLIMITED = -1
SMALLEST_SHARES, LARGEST_SHARES = 2, 262144
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1, 10000
DEFAULT_PERIOD_US = 100_000
BFQ_WEIGHT = "io.bfq.weight"
SMALLEST_BLOCK_WEIGHT = 10
THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
)


class Write(Value):
    """One value for one file of one controller."""

    __slots__ = ("controller", "file", "value")
    controller: str
    file: str
    value: str


def plan(resources: Fields | None, *, unified: bool) -> tuple[Write, ...]:
    """The writes, in the order in which the kernel takes them."""
    if resources is None:
        return ()
    plans = _plan_v2 if unified else _plan_v1
    return tuple(Write(controller=c, file=f, value=v) for c, f, v in plans(resources))


def device_rules(resources: Fields | None) -> Rules:
    return parse_rules(() if resources is None else resources.sections("devices"))


def apply(writes: tuple[Write, ...], cgroup: Cgroup) -> None:
    """Write each; the error has runc's form, with the file and the kernel's reason."""
    pending = list(writes)
    for write in pending:
        directory = cgroup.path(write.controller)
        if directory is None:
            text = f"linux.resources: {write.file} needs the {write.controller} controller"
            raise Unsupported(f"{text}, which is not mounted")
        file, value = written(write, directory)
        path = f"{directory}/{file}"
        try:
            write_file(path, value)
            if write.controller == "hugetlb":
                _reserve_huge_pages(directory, file, value)
        except OSError as error:
            if write.file == CPU_PERIOD and write is not pending[-1] and error.errno == EINVAL:
                pending.append(write)  # too short for the old quota: after the new one
                continue
            text = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(f'failed to write "{value}": write {path}: {text}') from (error)


def _reserve_huge_pages(directory: str, file: str, value: str) -> None:
    """The limit holds for reservations too, where the kernel counts them: who asks for too much is
    told, and not killed later. config-linux.md, "Huge page limits"."""
    controller, size, name = file.split(".", 2)
    try:
        write_file(f"{directory}/{controller}.{size}.rsvd.{name}", value)
    except FileNotFoundError:
        return


def written(write: Write, directory: str) -> tuple[str, str]:
    """The file and value of a write on this kernel: without the BFQ scheduler another file has the
    weights of block devices, on another scale."""
    if write.file != BFQ_WEIGHT or os.path.exists(f"{directory}/{BFQ_WEIGHT}"):
        return write.file, write.value
    *device, weight = write.value.split()
    return "io.weight", " ".join([*device, str(io_weight(int(weight)))])


def io_weight(weight: int) -> int:
    """Weights 10..1000 of version 1 on the weights 1..10000 of `io.weight`, linearly."""
    return 1 + (max(weight, SMALLEST_BLOCK_WEIGHT) - SMALLEST_BLOCK_WEIGHT) * 9999 // 990


def apply_devices(rules: Rules, cgroup: Cgroup) -> None:
    """Let the cgroup use the devices of the rules and no others."""
    if cgroup.unified_only:
        entries = ((*key, access) for key, access in rules.exceptions.items())
        program = device_program(rules.allowed, entries)
        attach_device_program(cgroup.directories[UNIFIED], program)
        return
    directory = cgroup.path("devices")
    if directory is None:
        raise Unsupported("linux.resources.devices: the devices controller is not mounted")
    first, *rest = rules.lines()
    write_file(f"{directory}/{first[0]}", first[1])
    if rest:
        fd = os.open(f"{directory}/{rest[0][0]}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for _, text in rest:
                os.write(fd, text.encode())
        finally:
            os.close(fd)


def _of_both_versions(
    top: Fields, cpu: Plan, memory: Plan, block: Plan, huge_pages: str
) -> Planned:
    """Limits that both versions have; what sets them, and the files of huge pages, differ."""
    section = top.section("cpu")
    if section is not None:
        yield from _cpuset(section)
        yield from cpu(section)
    section = top.section("memory")
    if section is not None:
        yield from memory(section)
    yield from _pids(top)
    section = top.section("blockIO")
    if section is not None:
        yield from block(section)
    for size, limit in _huge_pages(top):
        yield "hugetlb", f"hugetlb.{size}.{huge_pages}", str(limit)


def _plan_v1(top: Fields) -> Planned:
    if top.table("unified"):
        raise Unsupported("invalid configuration: linux.resources.unified needs cgroup version 2")
    yield from _of_both_versions(top, _cpu_v1, _memory_v1, _block_v1, "limit_in_bytes")
    network = top.section("network")
    if network is not None:
        if network.has("classID"):
            value = network.required_number("classID", 0, UINT32)
            yield "net_cls", "net_cls.classid", str(value)
        for entry in network.sections("priorities"):
            priority = entry.required_number("priority", 0, UINT32)
            yield "net_prio", "net_prio.ifpriomap", f"{entry.text('name')} {priority}"
    yield from _rdma(top)


def _cpu_v1(cpu: Fields) -> Planned:
    for name, file in (
        ("shares", "cpu.shares"),
        ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"),
        ("period", CPU_PERIOD),
        ("quota", "cpu.cfs_quota_us"),
        ("burst", "cpu.cfs_burst_us"),
    ):
        if value := cpu.number(name, UNLIMITED, INT64):
            yield "cpu", file, str(_shares(value) if name == "shares" else value)
    if cpu.has("idle"):
        yield "cpu", "cpu.idle", str(cpu.required_number("idle", 0, 1))


def _shares(value: int) -> int:
    """The kernel would take another number in silence."""
    if value < SMALLEST_SHARES:
        raise InvalidArgument(f"the minimum allowed cpu-shares is {SMALLEST_SHARES}")
    if value > LARGEST_SHARES:
        raise InvalidArgument(f"the maximum allowed cpu-shares is {LARGEST_SHARES}")
    return value


def _memory_v1(memory: Fields) -> Planned:
    _refuse_kernel_memory(memory)
    for name, file in (
        ("limit", "memory.limit_in_bytes"),
        ("swap", "memory.memsw.limit_in_bytes"),
        ("reservation", "memory.soft_limit_in_bytes"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
    ):
        if value := memory.number(name, UNLIMITED, INT64):
            yield "memory", file, str(value)
    swappiness = memory.number("swappiness", 0, UINT64)
    if swappiness is not None:
        yield "memory", "memory.swappiness", str(swappiness)
    if memory.flag("disableOOMKiller"):
        yield "memory", "memory.oom_control", "1"


def _refuse_kernel_memory(memory: Fields) -> None:
    if (memory.number("kernel", UNLIMITED, INT64) or 0) > 0:
        raise Unsupported("linux.resources.memory.kernel is not supported: no kernel has it now")


def _pids(top: Fields) -> Planned:
    pids = top.section("pids")
    limit = 0 if pids is None else pids.number("limit", -INT64, INT64) or 0
    if limit:
        yield "pids", "pids.max", str(limit) if limit > 0 else "max"


def _cpuset(cpu: Fields) -> Planned:
    for name in ("cpus", "mems"):
        if value := cpu.text(name):
            yield "cpuset", f"cpuset.{name}", value


def _block_v1(block: Fields) -> Planned:
    if weight := block.number("weight", 0, UINT16):
        yield "blkio", "blkio.bfq.weight", str(weight)
    if block.number("leafWeight", 0, UINT16):
        raise Unsupported("linux.resources.blockIO.leafWeight is not supported")
    for device, entry in _block_devices(block, "weightDevice"):
        if weight := entry.number("weight", 0, UINT16):
            yield "blkio", "blkio.bfq.weight_device", f"{device} {weight}"
    for name, file, _ in THROTTLES:
        for device, entry in _block_devices(block, name):
            yield "blkio", file, f"{device} {entry.required_number('rate', 0, UINT64)}"


def _block_devices(block: Fields, name: str) -> Iterator[tuple[str, Fields]]:
    for entry in block.sections(name):
        major = entry.required_number("major", 0, INT64)
        yield f"{major}:{entry.required_number('minor', 0, INT64)}", entry


def _huge_pages(top: Fields) -> Iterator[tuple[str, int]]:
    for entry in top.sections("hugepageLimits"):
        size = entry.text("pageSize")
        if not size.isalnum():
            raise InvalidArgument(f"{entry.path('pageSize')}: {size!r} is not a size")
        yield size, entry.required_number("limit", 0, UINT64)


def _rdma(top: Fields) -> Planned:
    rdma = top.section("rdma")
    for name in () if rdma is None else rdma.members:
        assert rdma is not None
        entry = rdma.section(name)
        if entry is None or not name.isalnum():
            raise InvalidArgument(f"{rdma.path(name)} is not a device")
        words = [name]
        for member, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            value = entry.number(member, 0, UINT32)
            words.append(f"{word}={'max' if value is None else value}")
        yield "rdma", "rdma.max", " ".join(words)


def _plan_v2(top: Fields) -> Planned:
    network = top.section("network")
    if network is not None and (network.has("classID") or network.has("priorities")):
        raise Unsupported("linux.resources.network needs cgroup version 1")
    yield from _of_both_versions(top, _cpu_v2, _memory_v2, _block_v2, "max")
    yield from _rdma(top)
    for name, value in top.table("unified").items():
        controller, dot, _ = name.partition(".")
        if not dot or "/" in name:
            raise InvalidArgument(f"linux.resources.unified: {name!r} is not a cgroup file")
        yield controller, name, value


def _cpu_v2(cpu: Fields) -> Planned:
    if cpu.number("realtimePeriod", 0, INT64) or cpu.number("realtimeRuntime", UNLIMITED, INT64):
        raise Unsupported("linux.resources.cpu: realtime limits need cgroup version 1")
    if shares := cpu.number("shares", 0, INT64):
        yield "cpu", "cpu.weight", str(weight_of_shares(shares))
    quota = cpu.number("quota", UNLIMITED, INT64) or 0
    period = cpu.number("period", 0, INT64) or 0
    if quota or period:
        limit = str(quota) if quota > 0 else "max"
        yield "cpu", "cpu.max", f"{limit} {period or DEFAULT_PERIOD_US}"
    if burst := cpu.number("burst", 0, INT64):
        yield "cpu", "cpu.max.burst", str(burst)
    if cpu.has("idle"):
        yield "cpu", "cpu.idle", str(cpu.required_number("idle", 0, 1))


def weight_of_shares(shares: int) -> int:
    """Shares 2..262144 of version 1 on the weights 1..10000 of version 2, linearly."""
    shares = min(max(shares, SMALLEST_SHARES), LARGEST_SHARES)
    span = LARGEST_WEIGHT - SMALLEST_WEIGHT
    return SMALLEST_WEIGHT + (shares - SMALLEST_SHARES) * span // (LARGEST_SHARES - SMALLEST_SHARES)


def _memory_v2(memory: Fields) -> Planned:
    _refuse_kernel_memory(memory)
    if memory.number("kernelTCP", UNLIMITED, INT64) or memory.flag("disableOOMKiller"):
        raise Unsupported("linux.resources.memory: kernelTCP, disableOOMKiller need version 1")
    if memory.number("swappiness", 0, UINT64) is not None:
        raise Unsupported("linux.resources.memory.swappiness needs cgroup version 1")
    limit = memory.number("limit", UNLIMITED, INT64) or 0
    swap = memory.number("swap", UNLIMITED, INT64) or 0
    if limit:
        yield "memory", "memory.max", _bytes(limit)
    if swap:
        yield "memory", "memory.swap.max", _bytes(swap_alone(limit, swap))
    if reservation := memory.number("reservation", UNLIMITED, INT64) or 0:
        yield "memory", "memory.low", _bytes(reservation)


def swap_alone(limit: int, swap: int) -> int:
    """The specification's `swap` is memory and swap together; version 2 counts swap alone."""
    if swap == UNLIMITED:
        return UNLIMITED
    if limit <= 0:
        raise InvalidArgument("unable to set swap limit without memory limit")
    if swap < limit:
        raise InvalidArgument("memory+swap limit should be >= memory limit")
    return swap - limit


def _bytes(value: int) -> str:
    return "max" if value == UNLIMITED else str(value)


def _block_v2(block: Fields) -> Planned:
    if block.number("leafWeight", 0, UINT16):
        raise Unsupported("linux.resources.blockIO.leafWeight needs cgroup version 1")
    if weight := block.number("weight", 0, UINT16):
        yield "io", BFQ_WEIGHT, str(weight)
    for device, entry in _block_devices(block, "weightDevice"):
        if weight := entry.number("weight", 0, UINT16):
            yield "io", BFQ_WEIGHT, f"{device} {weight}"
    for name, _, word in THROTTLES:
        for device, entry in _block_devices(block, name):
            rate = entry.required_number("rate", 0, UINT64)
            yield "io", "io.max", f"{device} {word}={rate or 'max'}"
