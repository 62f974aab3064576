"""Metrics of a whole server, from its configuration to its address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.config import Config
from barque.containerd.grpc import Watch
from barque.containerd.metrics import process, tasks
from barque.containerd.metrics.calls import Calls
from barque.containerd.metrics.server import MetricsServer
from barque.containerd.metrics.text import COUNTER, Family, Sample, render
from barque.containerd.version import API_VERSION, REVISION

Statistics = Callable[[], Awaitable[Sequence[tuple[Mapping[str, str], AnyMessage]]]]


@asynccontextmanager
async def counted(config: Config, statistics: Statistics) -> AsyncIterator[Watch]:
    """Serves the metrics of a server whose methods go through what this gives."""
    calls = Calls(histogram=config.metrics_histogram)
    build = Sample({"revision": REVISION, "version": API_VERSION}, 1)
    built = Family("containerd_build_info_total", COUNTER, "What was built.", (build,))

    async def page() -> str:
        found = await statistics()
        return render((built, *tasks.families(found), *calls.families(), *process.families()))

    server = MetricsServer(page)
    await server.start(config.metrics_address)
    try:
        yield calls.watch
    finally:
        await server.close()
