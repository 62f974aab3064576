"""How a container's process is scheduled and where its memory comes from.

config.md, "Linux Process": `scheduler`, `ioPriority`, `execCPUAffinity`; config-linux.md, "Memory
policy". All is checked before the process exists, and applied by the process itself.

Rare, so it is loaded when a config asks for it, and by `preload`.
"""

from __future__ import annotations

from barque.errors import InvalidArgument
from barque.linux import scheduling as kernel
from barque.oci.fields import UINT64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from barque.oci.fields import Fields
    from barque.oci.runtime import Process

INT32 = (1 << 31) - 1
HIGHEST_NICE, LOWEST_NICE = -20, 19
LOWEST_IO_PRIORITY = 7
LARGEST_CPU = 1023  # what a cpu_set_t has room for
PRIORITISED = ("SCHED_FIFO", "SCHED_RR")
TIMED = ("runtime", "deadline", "period")
NAMELESS_MODES = ("MPOL_DEFAULT", "MPOL_LOCAL")  # take no nodes
NODE_FREE_MODES = (*NAMELESS_MODES, "MPOL_PREFERRED")  # may go without


def of_process(process: Process, memory_policy: Fields | None) -> tuple[Callable[[], None], ...]:
    """What the process does to itself while it has its privileges, in order."""
    steps: list[Callable[[], None]] = []
    if process.scheduler is not None:
        steps.append(scheduler(process.scheduler))
    if process.io_priority is not None:
        steps.append(io_priority(process.io_priority))
    if memory_policy is not None:
        steps.append(memory(memory_policy))
    return tuple(steps)


def scheduler(fields: Fields) -> Callable[[], None]:
    name = fields.text("policy")
    if not name:
        raise InvalidArgument("scheduler policy is required")
    if name not in kernel.POLICIES:
        raise InvalidArgument(f"invalid scheduler policy: {name}")
    nice = fields.number("nice", HIGHEST_NICE, LOWEST_NICE) or 0
    priority = fields.number("priority", -INT32, INT32) or 0
    if priority and name not in PRIORITISED:
        raise InvalidArgument(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy"
        )
    if priority < 0:
        raise InvalidArgument(f"{fields.path('priority')}: {priority} is negative")
    times = {member: fields.number(member, 0, UINT64) or 0 for member in TIMED}
    if any(times.values()) and name != "SCHED_DEADLINE":
        raise InvalidArgument(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
        )
    flags = _bits(fields, "flags", kernel.SCHEDULER_FLAGS)

    def apply() -> None:
        policy = kernel.POLICIES[name]
        kernel.set_scheduler(policy, flags=flags, nice=nice, priority=priority, **times)

    return apply


def io_priority(fields: Fields) -> Callable[[], None]:
    name = fields.text("class")
    if name not in kernel.IO_CLASSES:
        raise InvalidArgument(f"invalid ioPriority.class: {name}")
    level = fields.number("priority", 0, LOWEST_IO_PRIORITY) or 0
    return lambda: kernel.set_io_priority(kernel.IO_CLASSES[name], level)


def memory(fields: Fields) -> Callable[[], None]:
    name = fields.text("mode")
    if name not in kernel.MEMORY_MODES:
        raise InvalidArgument(f"invalid memory policy mode: {name!r}")
    mode = kernel.MEMORY_MODES[name] | _bits(fields, "flags", kernel.MEMORY_FLAGS)
    nodes = number_list(fields.text("nodes"), kernel.LARGEST_NODE, fields.path("nodes"))
    if nodes and name in NAMELESS_MODES:
        raise InvalidArgument(f"memory policy {name} takes no nodes")
    if not nodes and name not in NODE_FREE_MODES:
        raise InvalidArgument(f"memory policy {name} needs nodes")
    return lambda: kernel.set_memory_policy(mode, nodes)


class Affinity:
    """`execCPUAffinity`: the CPUs before and after an exec enters the container's cgroup."""

    __slots__ = ("final", "initial")

    def __init__(self, fields: Fields) -> None:
        self.initial = number_list(fields.text("initial"), LARGEST_CPU, fields.path("initial"))
        self.final = number_list(fields.text("final"), LARGEST_CPU, fields.path("final"))

    def begin(self) -> None:
        _run_on(self.initial)

    def end(self) -> None:
        _run_on(self.final)


def _run_on(cpus: frozenset[int]) -> None:
    if cpus:
        kernel.set_affinity(cpus)


def number_list(text: str, largest: int, where: str) -> frozenset[int]:
    """The numbers of a list such as "0-3,7". cpuset(7), "List format". Bounded by `largest`."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.strip().partition("-")
        low, high = _digits(first, largest), _digits(last if dash else first, largest)
        if low < 0 or high < low:
            raise InvalidArgument(
                f"{where}: {part[:64]!r} is not a number or range up to {largest}"
            )
        found.update(range(low, high + 1))
    return frozenset(found)


def _digits(text: str, largest: int) -> int:
    """The number, or -1: it is none, or too large."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return -1
    return int(text) if int(text) <= largest else -1


def _bits(fields: Fields, name: str, known: dict[str, int]) -> int:
    bits = 0
    for word in _known(fields.texts(name), known, fields.path(name)):
        bits |= known[word]
    return bits


def _known(words: Iterable[str], known: dict[str, int], where: str) -> Iterable[str]:
    for word in words:
        if word not in known:
            raise InvalidArgument(f"{where}: {word!r} is unknown")
        yield word
