"""`/metrics` on its own address: the engine's figures in Prometheus's text format.

Source: Prometheus, exposition formats, text-based format; the names are dockerd's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from resource import RLIMIT_NOFILE, getrlimit

from barque import __version__
from barque.daemon.events import Events
from barque.daemon.http.messages import Request, Response, Route
from barque.daemon.measures import Measures
from barque.daemon.system import architecture, memory_bytes, operating_system

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Counts = Callable[[], Mapping[str, int]]


def routes(
    counts: Counts, events: Events, measures: Measures, identity: str, driver: str
) -> list[Route]:
    async def metrics(request: Request) -> Response:
        lines = [*_actions(measures), *_lines(counts(), events, identity, driver)]
        lines += _numbers(events, measures)
        text = "".join(lines)
        return Response(200, text.encode(), CONTENT_TYPE)

    return [Route("GET", "/metrics", metrics)]


def _actions(measures: Measures) -> Iterator[str]:
    name = "engine_daemon_container_actions_seconds"
    yield _head(name, "histogram", "How long each kind of action on a container takes")
    for action, taken in measures.actions.items():
        for bound, count in taken.buckets():
            yield f"{name}_bucket{_labels(action=action, le=bound)} {count}\n"
        yield f"{name}_sum{_labels(action=action)} {taken.sum_s}\n"
        yield f"{name}_count{_labels(action=action)} {taken.count}\n"


def _lines(counts: Mapping[str, int], events: Events, identity: str, driver: str) -> Iterator[str]:
    name = "engine_daemon_container_states_containers"
    yield _head(name, "gauge", "The count of containers in various states")
    for state in ("paused", "running", "stopped"):
        yield f"{name}{_labels(state=state)} {counts.get(state, 0)}\n"
    name = "engine_daemon_engine_info"
    yield _head(name, "gauge", "The information of the engine and the system it runs on")
    labels = _labels(
        architecture=architecture(),
        commit="",
        daemon_id=identity,
        graphdriver=driver,
        kernel=os.uname().release,
        os=operating_system(),
        os_type="linux",
        version=__version__,
    )
    yield f"{name}{labels} 1\n"


def _numbers(events: Events, measures: Measures) -> Iterator[str]:
    virtual, resident = _memory_bytes()
    for name, kind, help, value in (
        ("engine_daemon_engine_cpus_cpus", "gauge", "CPUs of the system", os.cpu_count() or 1),
        ("engine_daemon_engine_memory_bytes", "gauge", "Memory of the system", memory_bytes()),
        ("engine_daemon_events_total", "counter", "Events published", events.published),
        (
            "engine_daemon_events_subscribers_total",
            "gauge",
            "Readers of events",
            events.listeners,
        ),
        (
            "engine_daemon_health_checks_total",
            "counter",
            "Health checks",
            measures.health_checks,
        ),
        (
            "engine_daemon_health_checks_failed_total",
            "counter",
            "Health checks that could not be run",
            measures.health_checks_failed,
        ),
        ("process_cpu_seconds_total", "counter", "CPU time, user's and system's", _cpu_seconds()),
        ("process_max_fds", "gauge", "Bound of open files", getrlimit(RLIMIT_NOFILE)[0]),
        ("process_open_fds", "gauge", "Open file descriptors", len(os.listdir("/proc/self/fd"))),
        ("process_resident_memory_bytes", "gauge", "Resident memory", resident),
        ("process_start_time_seconds", "gauge", "When it started, by the clock", _started()),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory", virtual),
    ):
        yield f"{_head(name, kind, help)}{name} {value}\n"


def _head(name: str, kind: str, help: str) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n"


def _labels(**values: str) -> str:
    pairs = []
    for name, value in values.items():
        text = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        pairs.append(f'{name}="{text}"')
    return "{" + ",".join(pairs) + "}"


def _memory_bytes() -> tuple[int, int]:
    """Virtual and resident. proc(5), /proc/pid/statm."""
    with open("/proc/self/statm", encoding="ascii") as file:
        virtual, resident = file.read().split()[:2]
    page = os.sysconf("SC_PAGE_SIZE")
    return int(virtual) * page, int(resident) * page


def _cpu_seconds() -> float:
    used = os.times()
    return round(used.user + used.system, 2)


def _started() -> float:
    """proc(5): field 22 of /proc/pid/stat is in ticks since the machine's start."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    since_boot = ticks / os.sysconf("SC_CLK_TCK")
    return round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot, 2)
