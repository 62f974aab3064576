"""What is done with a container whose checks keep failing: podman's `--health-on-failure`.

kill: it is killed, and its restart policy takes it for a failure. stop: it is asked to end, as by
`stop`, and stays so. restart: it is asked to end and started again whatever its policy says, with
the policies' growing delay; that it is due is kept, so that it holds across the daemon's end.
Whatever does not work is tried again after the next check that fails.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from barque import errors
from barque.daemon.containers import health, signal_process
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine

log = logging.getLogger(__name__)


async def treat(engine: Engine, container: Container) -> None:
    """Returns when it has ended. A failure is logged."""
    action = health.action(container)
    log.warning("container %s is unhealthy: %s", container.id, action)
    try:
        with suppress(errors.NotModified):  # it has ended meanwhile
            if action == "kill":
                await _kill(engine, container)
            elif action == "stop":
                await signal_process.stop(engine, container)
            elif action == "restart":
                await _restart(engine, container)
    except errors.BarqueError as error:
        log.error("unhealthy container %s: %s: %s", container.id, action, error)


async def _kill(engine: Engine, container: Container) -> None:
    if container.state.running:
        await signal_process.end_by_force(engine, container, container.next_exit())


async def _restart(engine: Engine, container: Container) -> None:
    async with container.lock:
        if not container.state.running:
            return
        container.state.restart_due = True
        engine.catalogue.save_state(container)
    await signal_process.stop(engine, container, by_hand=False)
