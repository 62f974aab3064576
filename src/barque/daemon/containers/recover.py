"""The daemon's start: what its database says, what containerd has, and the difference repaired.

The daemon may have been killed at any instant; containers went on without it. Every row is taken as
what was last known: running ones are compared with their tasks, exits that happened meanwhile get
their codes, half-made starts and half-done removals are finished, then restart policies apply.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from barque import errors
from barque.daemon.containers import health, image_mounts
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.exits import clean_up, exited
from barque.daemon.containers.remove import erase, remove_locked
from barque.daemon.containers.start import start_locked
from barque.daemon.containers.state import Status
from barque.daemon.containers.supervise import Ended, Task
from barque.daemon.storage import driver_of

log = logging.getLogger(__name__)


async def recover(engine: Engine) -> list[str]:
    """Bring memory, containerd and processes into agreement. Returns the ids of what runs.

    To be called once, before the API is served and after the catalogue was loaded.
    """
    tasks = {task.id: task for task in await engine.supervisor.tasks()}
    _refuse_hidden(engine, tasks)
    for container in tuple(engine.catalogue):
        try:
            await _settle(engine, container, tasks.pop(container.id, None))
        except errors.BarqueError as error:
            log.error("container %s not recovered: %s", container.id, error)
    for stray in tasks:
        await end_stray(engine, stray)
    return [container.id for container in engine.catalogue if container.state.running]


def _refuse_hidden(engine: Engine, tasks: Mapping[str, Task]) -> None:
    """What runs must be seen. Raises Conflict."""
    for container_id, hidden in engine.catalogue.hidden.items():
        if container_id in tasks and tasks[container_id].status in {"running", "paused"}:
            driver = driver_of(hidden.record.driver)
            raise errors.Conflict(
                f"container {hidden.name} of storage driver {driver} is running: "
                f"stop it before the storage driver is changed to "
                f"{driver_of(engine.catalogue.driver)}"
            )


async def _settle(engine: Engine, container: Container, task: Task | None) -> None:
    state = container.state
    if state.status is Status.REMOVING:
        engine.catalogue.hide(container)
        engine.spawn(_finish_removal(engine, container.id))
    elif task is not None and task.status in {"running", "paused"}:
        await _adopt(engine, container, task)
    elif state.running:
        ended = Ended(task.code, task.at) if task and task.status == "stopped" else None
        await exited(engine, container, state.pid, ended)
    else:
        await _settle_stopped(engine, container, task)


async def _settle_stopped(engine: Engine, container: Container, task: Task | None) -> None:
    """It does not run. A task of it is a start, or an end, that was not finished."""
    async with container.lock:
        if container.record.host.auto_remove and container.state.status is not Status.RESTARTING:
            await remove_locked(engine, container, volumes=True)
        elif task is not None:
            await clean_up(engine, container)


async def _adopt(engine: Engine, container: Container, task: Task) -> None:
    """It runs. The daemon may have died before it wrote so, or while it held it still."""
    state = container.state
    container.task_ready = True
    health.begin(engine, container)
    status = Status.PAUSED if task.status == "paused" else Status.RUNNING
    if state.held:
        if status is Status.PAUSED:
            await engine.supervisor.resume(container.id)
        status = Status.RUNNING
    if state.status is status and state.pid == task.pid and not state.held:
        return
    state.held = False
    if not state.running:
        state.started_at = engine.now()
        state.exit_code, state.error = 0, ""
    state.status, state.pid = status, task.pid
    engine.catalogue.save_state(container)


async def _finish_removal(engine: Engine, container_id: str) -> None:
    await engine.networks.detach(container_id)
    await engine.volumes.release(container_id)
    await erase(engine, container_id)


async def end_stray(engine: Engine, container_id: str) -> None:
    """A task of ours without a row: its creation was never finished."""
    try:
        await engine.supervisor.delete(container_id)
        await engine.supervisor.remove_snapshot(container_id)
    except errors.BarqueError as error:
        log.error("stray task %s not removed: %s", container_id, error)


async def apply_restart_policies(engine: Engine) -> None:
    """Start what should run. Docker's rule at daemon start; networks must be restored before."""
    for container in tuple(engine.catalogue):
        state, policy = container.state, container.record.host.restart_policy.name
        if state.running or state.status is Status.REMOVING or state.status is Status.CREATED:
            continue
        wanted = (
            state.status is Status.RESTARTING
            or policy == "always"
            or (policy == "unless-stopped" and not state.stopped_by_hand)
            or (policy == "on-failure" and state.exit_code and not state.stopped_by_hand)
        )
        if wanted:
            engine.spawn(_start_again(engine, container))


async def _start_again(engine: Engine, container: Container) -> None:
    async with container.lock:
        if container.state.running or container.id not in engine.catalogue:
            return
        try:
            await start_locked(engine, container)
        except errors.BarqueError as error:
            log.warning("container %s not restarted: %s", container.id, error)


async def sweep(engine: Engine) -> None:
    """Remove snapshots of containers that were never finished: in the background."""
    for key in await engine.supervisor.snapshot_owners():
        owner = image_mounts.owner_of(key)
        if owner not in engine.catalogue and owner not in engine.creating:
            await engine.supervisor.remove_snapshot(key)
