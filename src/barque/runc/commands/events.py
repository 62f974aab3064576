"""`events`: what a container uses, again and again, and when it has no memory left."""

from __future__ import annotations

import errno
import os
import select
import time

from barque.errors import Conflict, InvalidArgument
from barque.linux.accounting import oom_kills, open_oom_events
from barque.linux.cgroup import UNIFIED
from barque.linux.fs import write_all
from barque.oci.document import dump
from barque.runc.container import STOPPED, load
from barque.runc.flags import SWITCH, VALUE, Arguments, Flag, Usage
from barque.runc.lifecycle import open_init
from barque.runc.statistics import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.runc.container import Container
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (
    Flag("interval", VALUE, "time between two statistics (default: 5s)"),
    Flag("stats", SWITCH, "display the container's statistics then exit"),
)
USAGE = "events [command options] <container-id>"
WORDS = (1, 1)
DEFAULT_INTERVAL = "5s"
GONE = (errno.ENOENT, errno.ENODEV)  # of a control group and of what was open in it
UNITS_NS = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "ms": 10**6}
UNITS_NS |= {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
LARGEST_NS = (1 << 63) - 1


def run(given: Arguments, paths: Paths, log: Log) -> int:
    interval = duration_ns(given.get("interval", DEFAULT_INTERVAL))
    container = load(paths, given.words[0])
    if interval <= 0:
        raise InvalidArgument("duration interval must be greater than 0")
    if container.status() == STOPPED:
        raise Conflict(f"container with id {container.id} is not running")
    if given.on("stats"):
        tell(event(container.id, container.cgroup))
        return 0
    try:
        follow(container, interval)
    except OSError as error:
        if error.errno not in GONE:  # else it was deleted while its files were read
            raise
    return 0


def tell(document: dict[str, Any]) -> None:
    write_all(1, dump(document) + b"\n")


def duration_ns(text: str) -> int:
    """A duration as Go writes it: 1m30s, 1.5s, 200ms, 0."""
    rest = text.removeprefix("+")
    if rest == "0":
        return 0
    total = 0.0
    while rest:
        number = len(rest) - len(rest.lstrip("0123456789."))
        unit = len(rest) - number - len(rest[number:].lstrip("nu\u00b5msh"))
        digits, name = rest[:number], rest[number : number + unit]
        if name not in UNITS_NS or not digits.strip(".") or digits.count(".") > 1:
            raise Usage(f'invalid value "{text}" for flag -interval: parse error')
        total += float(digits) * UNITS_NS[name]
        rest = rest[number + unit :]
    if not text or total > LARGEST_NS:
        raise Usage(f'invalid value "{text}" for flag -interval: parse error')
    return int(total)


def follow(container: Container, interval_ns: int) -> None:
    """Tell until the container's first process has ended."""
    unified = container.cgroup.unified_only
    directory = container.cgroup.path("memory")
    pidfd = open_init(container)
    if pidfd < 0:
        return
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    memory = -1
    if directory is not None:
        memory = open_oom_events(directory, unified)
        poller.register(memory, select.POLLPRI if unified else select.POLLIN)
    kills = oom_kills(container.cgroup.directories[UNIFIED], True) if unified else 0
    next_ns = time.monotonic_ns() + interval_ns
    while True:
        left_ms = max(0, next_ns - time.monotonic_ns()) // 10**6
        ready = dict(poller.poll(min(left_ms, (1 << 31) - 1)))
        if memory in ready:
            if unified:
                before, kills = kills, oom_kills(container.cgroup.directories[UNIFIED], True)
                os.pread(memory, 4096, 0)
            else:
                before, kills = kills, kills + 1
                os.read(memory, 8)
            if kills > before:
                tell({"type": "oom", "id": container.id})
        if pidfd in ready:
            return
        if time.monotonic_ns() >= next_ns:
            tell(event(container.id, container.cgroup))
            next_ns += interval_ns
