"""The supervisor half of the server: zygote, shims, and the services over them."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from barque import program
from barque.containerd.checkpoints import Checkpoints
from barque.containerd.event_service import EventService
from barque.containerd.events import Exchange
from barque.containerd.grpc import Service
from barque.containerd.paths import Paths
from barque.containerd.pod_sandboxes import PodSandboxes
from barque.containerd.sandbox_controller import Controller, Sandboxer
from barque.containerd.sandboxes import Sandboxes
from barque.containerd.shim_sandboxes import ShimSandboxes
from barque.containerd.shims.launch import Launcher
from barque.containerd.shims.sandboxes import SandboxShims
from barque.containerd.shims.tasks import Shims
from barque.containerd.shims.zygote import Zygote
from barque.containerd.tasks import Containers, Tasks
from barque.containerd.ttrpc import Server
from barque.errors import BarqueError

log = logging.getLogger(__name__)


class Supervised(NamedTuple):
    services: list[Service]
    tasks: Tasks


@asynccontextmanager
async def supervision(
    paths: Paths,
    address: str,
    exchange: Exchange,
    containers: Containers,
    checkpoints: Checkpoints,
    sandboxes: Sandboxes,
    *,
    debug: bool,
    descriptors: tuple[int, int] | None = None,
) -> AsyncIterator[Supervised]:
    """The Tasks, Events and sandbox Controller services of the server at `address`.

    Zygote and the shims of an earlier run are looked after in the background: calls about tasks
    wait for them, others do not. Leaving disturbs no shim.
    """
    command = program.command("containerd-shim-barque-v2", "zygote")
    zygote = Zygote(str(paths.zygote), command, descriptors)
    launcher = Launcher(zygote, address, publish_binary(), debug, descriptors)
    shims = Shims(paths.tasks, launcher, exchange)
    held = SandboxShims(paths.sandboxes, launcher, exchange)
    events = EventService(exchange)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(zygote.close)
        stack.push_async_callback(shims.close)
        stack.push_async_callback(held.close)
        server = Server(events.ttrpc_methods())
        await server.listen(f"{address}.ttrpc")
        stack.push_async_callback(server.close)
        background = asyncio.create_task(_prepare(zygote, shims, held, checkpoints))
        stack.push_async_callback(_end, background)
        tasks = Tasks(shims, held, sandboxes, containers, checkpoints)
        sandboxers: dict[str, Sandboxer] = {
            "podsandbox": PodSandboxes(shims, exchange, os.uname().machine),
            "shim": ShimSandboxes(held, shims),
        }
        controller = Controller(sandboxers, sandboxes, exchange)
        yield Supervised([tasks.service(), events.service(), controller.service()], tasks)


async def _prepare(
    zygote: Zygote, shims: Shims, held: SandboxShims, checkpoints: Checkpoints
) -> None:
    """Find the shims first: their events wait."""
    warm = asyncio.create_task(zygote.start())
    await asyncio.gather(shims.load(), held.load())
    if removed := checkpoints.sweep(shims.knows):
        log.info("removed %d checkpoints that nobody waits for", removed)
    try:
        await warm
    except BarqueError as error:
        log.error("no zygote, shims will start slower: %s", error)


async def _end(background: asyncio.Task[None]) -> None:
    background.cancel()
    with suppress(asyncio.CancelledError):
        await background


def publish_binary() -> str:
    """Our own program's path, where one is installed: a fallback of foreign shims for events."""
    return os.path.join(os.path.dirname(sys.executable), "barque-containerd")
