"""`update`: new limits for a container that exists."""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported
from barque.linux.fs import read_bounded, read_fd_bounded
from barque.oci.document import parse
from barque.oci.fields import INT64, Fields
from barque.runc import resources
from barque.runc.container import STOPPED, load
from barque.runc.create import LONGEST_CONFIG
from barque.runc.flags import VALUE, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.linux.cgroup import Cgroup
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
MISSING = ("l3-cache-schema", "mem-bw-schema")
FLAGS = (
    Flag("resources,r", VALUE, "file with linux.resources as JSON, - for standard input"),
    *(Flag(name, VALUE, f"linux.resources.{'.'.join(place)}") for name, place in NUMBERS.items()),
    *(Flag(name, VALUE, f"linux.resources.{'.'.join(place)}") for name, place in TEXTS.items()),
    *(Flag(name, VALUE, "not supported") for name in MISSING),
)
USAGE = "update [command options] <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    container = load(paths, given.words[0])
    if container.status() == STOPPED:
        raise BarqueError("container not running")
    fields = Fields(requested(given), "linux.resources")
    if fields.members.get("devices"):
        raise Unsupported("linux.resources.devices of a running container cannot be changed")
    writes = resources.plan(fields, unified=container.cgroup.unified_only)
    if container.unit:
        from barque.runc import systemd

        systemd.set_properties(container.unit, systemd.properties_of(writes))
    apply(writes, container.cgroup)
    return 0


def requested(given: Arguments) -> dict[str, Any]:
    for name in MISSING:
        if given.given(name):
            raise Unsupported(f"--{name} is not supported")
    if given.given("resources"):
        return read(given.get("resources"))
    document: dict[str, dict[str, Any]] = {}
    for name, (section, member) in NUMBERS.items():
        if given.given(name):
            document.setdefault(section, {})[member] = given.number(name, -INT64, INT64)
    for name, (section, member) in TEXTS.items():
        if given.given(name):
            document.setdefault(section, {})[member] = given.get(name)
    return document


def read(path: str) -> dict[str, Any]:
    try:
        raw = read_fd_bounded(0) if path == "-" else read_bounded(path, LONGEST_CONFIG)
        document: dict[str, Any] = Fields(parse(raw), "linux.resources").members
        return document
    except FileNotFoundError:
        raise NotFound(f"open {path}: {os.strerror(2).lower()}") from None
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from None


def apply(writes: tuple[resources.Write, ...], cgroup: Cgroup) -> None:
    """Version 1 refuses a memory limit above memory and swap together, so the order may matter."""
    try:
        resources.apply(writes, cgroup)
    except InvalidArgument:
        if not any(write.file == "memory.memsw.limit_in_bytes" for write in writes):
            raise
        resources.apply(tuple(reversed(writes)), cgroup)
