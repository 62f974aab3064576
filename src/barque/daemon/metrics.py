"""`/metrics` on its own address: the engine's figures in Prometheus's text format.

Source: Prometheus, exposition formats, text-based format; the names are dockerd's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from barque import __version__
from barque.daemon.events import Events
from barque.daemon.http.messages import Request, Response, Route
from barque.daemon.system import architecture, memory_bytes, operating_system

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Counts = Callable[[], Mapping[str, int]]


def routes(counts: Counts, events: Events, identity: str, driver: str) -> list[Route]:
    async def metrics(request: Request) -> Response:
        text = "".join(_lines(counts(), events, identity, driver))
        return Response(200, text.encode(), CONTENT_TYPE)

    return [Route("GET", "/metrics", metrics)]


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
        ("process_open_fds", "gauge", "Open file descriptors", len(os.listdir("/proc/self/fd"))),
        ("process_resident_memory_bytes", "gauge", "Resident memory", _resident_bytes()),
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


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
