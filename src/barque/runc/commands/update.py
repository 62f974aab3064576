"""`update`: new limits for a container that exists."""

from __future__ import annotations

from barque.errors import BarqueError, InvalidArgument, Unsupported
from barque.linux.accounting import number
from barque.linux.cgroup import UNIFIED
from barque.linux.fs import write_file
from barque.oci.fields import INT64, Fields
from barque.runc import resources
from barque.runc.commands import read_document
from barque.runc.container import STOPPED, load
from barque.runc.enter import container_spec
from barque.runc.flags import VALUE, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.linux.cgroup import Cgroup
    from barque.runc.container import Container
    from barque.runc.log import Log
    from barque.runc.paths import Paths

# flag: section and member of linux.resources
NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
SCHEMAS = {"l3-cache-schema": "Intel RDT/CAT", "mem-bw-schema": "Intel RDT/MBA"}
FLAGS = (
    Flag("resources,r", VALUE, "file with linux.resources as JSON, - for standard input"),
    *(Flag(name, VALUE, f"linux.resources.{'.'.join(place)}") for name, place in NUMBERS.items()),
    *(Flag(name, VALUE, f"linux.resources.{'.'.join(place)}") for name, place in TEXTS.items()),
    *(Flag(name, VALUE, f"{what} schema") for name, what in SCHEMAS.items()),
)
USAGE = "update [command options] <container-id>"
WORDS = (1, 1)
WHERE = "linux.resources"


def run(given: Arguments, paths: Paths, log: Log) -> int:
    fields = requested(given)
    container = load(paths, given.words[0])
    if container.status() == STOPPED:
        raise BarqueError("container not running")
    check_devices(fields, container)
    check_usage(fields, container.cgroup)
    writes = resources.plan(fields, unified=container.cgroup.unified_only)
    if container.unit:
        from barque.runc import systemd

        systemd.set_properties(container.unit, systemd.properties_of(writes))
    apply(writes, container.cgroup)
    set_schemas(given, container)
    return 0


def requested(given: Arguments) -> Fields:
    """linux.resources as a file or the flags say."""
    if given.given("resources"):
        return Fields(read_document(given.get("resources")), WHERE)
    document: dict[str, dict[str, Any]] = {}
    for name, (section, member) in NUMBERS.items():
        if given.given(name):
            document.setdefault(section, {})[member] = (
                size(given, name) if section == "memory" else given.number(name, -INT64, INT64)
            )
    for name, (section, member) in TEXTS.items():
        if given.given(name):
            document.setdefault(section, {})[member] = given.get(name)
    memory = document.get("memory", {})
    if memory.get("limit") == resources.UNLIMITED:
        memory.setdefault("swap", resources.UNLIMITED)  # as runc has it
    return Fields(document, WHERE)


def size(given: Arguments, name: str) -> int:
    """Bytes, or a number with a unit: 64m, 1.5GiB."""
    text = given.get(name)
    digits = text.rstrip("bBiI").rstrip("kKmMgGtTpP")
    unit = text[len(digits) :].lower().rstrip("bi")
    if digits == text or (digits.lstrip("-").isdigit() and not unit):
        return given.number(name, -INT64, INT64)
    whole, _, part = digits.partition(".")
    if not (whole.isascii() and whole.isdigit() and len(whole) < 20 and (part or "0").isdigit()):
        raise InvalidArgument(f"invalid value for {name}: invalid size: '{text}'")
    found = int(float(digits) * 1024 ** ("kmgtp".index(unit) + 1))
    if found > INT64:
        raise InvalidArgument(f"invalid value for {name}: {text} is out of range")
    return found


def check_devices(fields: Fields, container: Container) -> None:
    """A caller may repeat the container's devices; others it cannot get while it runs."""
    devices = fields.members.get("devices")
    if not devices:
        return
    own = container_spec(container).linux.resources
    if own is None or own.members.get("devices") != devices:
        raise Unsupported("linux.resources.devices of a running container cannot be changed")


def check_usage(fields: Fields, cgroup: Cgroup) -> None:
    """`checkBeforeUpdate`: no memory limit below what is used; version 1 refuses it anyway."""
    memory = fields.section("memory")
    if memory is None or not memory.flag("checkBeforeUpdate") or not cgroup.unified_only:
        return
    limit = memory.number("limit", resources.UNLIMITED, INT64) or 0
    usage = number(cgroup.directories[UNIFIED], "memory.current")
    if 0 < limit < usage:
        raise InvalidArgument(f"rejecting memory limit {limit} < usage {usage}")


def set_schemas(given: Arguments, container: Container) -> None:
    """New lines for the container's group of resctrl."""
    asked = {name: given.get(name) for name in SCHEMAS if given.given(name)}
    if not asked:
        return
    from barque.runc import rdt

    for name in asked:
        if not rdt.mounted():
            raise Unsupported(f"{SCHEMAS[name]}: {name.replace('-', ' ')} is not enabled")
    fields = container_spec(container).linux.rdt or Fields({}, "linux.intelRdt")
    group = rdt.Group(fields, container.id)
    for line in asked.values():
        write_file(f"{rdt.ROOT}/{group.name}/schemata", f"{line}\n")


def apply(writes: tuple[resources.Write, ...], cgroup: Cgroup) -> None:
    """Version 1 refuses a memory limit above memory and swap together, so the order may matter."""
    try:
        resources.apply(writes, cgroup)
    except InvalidArgument:
        if not any(write.file == "memory.memsw.limit_in_bytes" for write in writes):
            raise
        resources.apply(tuple(reversed(writes)), cgroup)
