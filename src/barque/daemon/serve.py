"""The daemon's life: listen, load and compose the services, serve, leave.

The sockets are open before the services are: `/_ping` is answered at once, as a client that looks
for the daemon wants it, and every other request waits until the services are there.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from barque.api.versions import MIN_API_VERSION
from barque.daemon.config import Config
from barque.daemon.containerd_process import ContainerdProcess
from barque.daemon.http.messages import Route
from barque.daemon.http.router import Router
from barque.daemon.http.server import Server
from barque.daemon.listen import listen, listen_plain
from barque.daemon.paths import Paths
from barque.daemon.routes import ping
from barque.daemon.supervisor import Supervisor
from barque.linux import allocator

if TYPE_CHECKING:
    from barque.daemon.remapping import Remap

IDLE_CHECK_S = 1.0
SETTLE_S = 2.0  # until who waited for the start has been answered
log = logging.getLogger(__name__)


def run(
    config: Config,
    paths: Paths,
    process: ContainerdProcess | None,
    arguments: Sequence[str],
    remap: Remap | None,
) -> int:
    """Serve until SIGTERM, SIGINT, or an idle end. Raises what kept it from starting."""
    gc.disable()  # what is loaded now stays
    allocator.keep_freed()  # for the pieces of archives and images that pass through
    asyncio.run(_run(config, paths, Supervisor(process) if process else None, arguments, remap))
    return 0


async def _run(
    config: Config,
    paths: Paths,
    supervisor: Supervisor | None,
    arguments: Sequence[str],
    remap: Remap | None,
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # nothing is there yet to be changed
    async with AsyncExitStack() as stack:
        if supervisor is not None:
            stack.push_async_callback(supervisor.stop)
        server = Server(
            Router(ping.routes()),
            config.min_api_version or MIN_API_VERSION,
            experimental=config.experimental,
        )
        await _listen(stack, config, server)
        # A thread loads them, so that the loop answers pings meanwhile.
        compose = await asyncio.to_thread(importlib.import_module, "barque.daemon.compose")
        async with compose.composed(config, paths, supervisor, arguments, remap) as engine:
            await _serve_metrics(stack, config, engine.metrics)
            server.gate = engine.authorization
            server.open(engine.router)
            loop.add_signal_handler(signal.SIGHUP, engine.reloader.reload)
            loop.call_later(SETTLE_S, settle)
            log.info("API listen on %s", ", ".join(config.listen))
            if config.on_demand:
                await _stopped_or_idle(
                    stopped,
                    lambda: engine.idle() and not server.open_connections,
                    config.idle_timeout,
                )
            else:
                await stopped.wait()
            await server.close()
    log.info("daemon stopped")


def settle() -> None:
    """What was made at start stays: the search for garbage need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


async def _stopped_or_idle(
    stopped: asyncio.Event, idle: Callable[[], bool], timeout_s: float
) -> None:
    """Return when told to stop, or once nothing was asked and nothing ran for `timeout_s`."""
    busy_at = time.monotonic()
    while time.monotonic() - busy_at < timeout_s:
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), IDLE_CHECK_S)
            return
        if not idle():
            busy_at = time.monotonic()
    log.info("idle for %s s: leaving, the next command starts a daemon", timeout_s)


async def _listen(stack: AsyncExitStack, config: Config, server: Server) -> None:
    stack.push_async_callback(server.close)
    for address in config.listen:
        if address.startswith("unix://"):
            stack.callback(_unlink, address.removeprefix("unix://"))
    for listener in await listen(config, server.protocol):
        server.listeners.append(listener)


async def _serve_metrics(stack: AsyncExitStack, config: Config, routes: list[Route]) -> None:
    """On an address of its own, as dockerd has it: without TLS, for who may reach that address."""
    if not config.metrics_addr:
        return
    server = Server(Router(routes))
    server.open(Router(()))
    stack.push_async_callback(server.close)
    server.listeners += await listen_plain(config.metrics_addr, server.protocol)


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
