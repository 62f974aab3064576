"""How the kernel schedules a process and where it takes memory: sched_setattr(2), ioprio_set(2),
set_mempolicy(2), sched_setaffinity(2). Rare: loaded only for who asks for one of them."""

from __future__ import annotations

import ctypes
import os

from barque.linux.libc import MACHINE, raise_errno, system_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IO_CLASS_SHIFT = 13
IOPRIO_WHO_PROCESS = 1
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
LARGEST_NODE = 1023
WORD_BITS = 64


class _Attributes(ctypes.Structure):
    """struct sched_attr, its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


_sched_setattr = system_call(
    {"x86_64": 314, "aarch64": 274, "riscv64": 274}[MACHINE],
    ctypes.c_int,
    ctypes.POINTER(_Attributes),
    ctypes.c_uint,
)
_ioprio_set = system_call(
    {"x86_64": 251, "aarch64": 30, "riscv64": 30}[MACHINE], *[ctypes.c_int] * 3
)
_set_mempolicy = system_call(
    {"x86_64": 238, "aarch64": 237, "riscv64": 237}[MACHINE],
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_ulong,
)


def set_scheduler(
    policy: int,
    *,
    flags: int = 0,
    nice: int = 0,
    priority: int = 0,
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """The scheduling policy of this thread. sched(7); times are in nanoseconds."""
    size = ctypes.sizeof(_Attributes)
    value = _Attributes(size, policy, flags, nice, priority, runtime, deadline, period)
    if _sched_setattr(0, ctypes.byref(value), 0) < 0:
        raise_errno("sched_setattr")


def set_io_priority(io_class: int, level: int) -> None:
    """The I/O scheduling class and level (0 is the highest) of this thread."""
    if _ioprio_set(IOPRIO_WHO_PROCESS, 0, io_class << IO_CLASS_SHIFT | level) < 0:
        raise_errno("ioprio_set")


def set_memory_policy(mode: int, nodes: Iterable[int] = ()) -> None:
    """The NUMA nodes this thread's memory comes from; `mode` with its flags. numa(7)."""
    words = (ctypes.c_uint64 * ((LARGEST_NODE + 1) // WORD_BITS))()
    named = False
    for node in nodes:
        words[node // WORD_BITS] |= 1 << node % WORD_BITS
        named = True
    # the kernel reads one bit less than it is told
    count = len(words) * WORD_BITS + 1 if named else 0
    if _set_mempolicy(mode, ctypes.addressof(words) if named else None, count) < 0:
        raise_errno("set_mempolicy")


def set_affinity(cpus: Iterable[int]) -> None:
    """The CPUs this thread may run on."""
    os.sched_setaffinity(0, cpus)
