"""Following containerd: its events as they come, and everything compared when some were missed."""

from __future__ import annotations

import logging

from barque import errors
from barque.daemon.containers import execs
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.exits import clean_up, exited
from barque.daemon.containers.recover import end_stray, sweep
from barque.daemon.containers.remove import erase
from barque.daemon.containers.state import Move, Status
from barque.daemon.containers.supervise import Ended, Task, TaskEvent

log = logging.getLogger(__name__)


async def watch(engine: Engine) -> None:
    """Follow containerd's events for as long as the daemon runs."""
    async for event in engine.supervisor.events():
        _dispatch(engine, event)


def _dispatch(engine: Engine, event: TaskEvent) -> None:
    if event.kind == "lost":
        engine.spawn(reconcile(engine))
        return
    container = engine.catalogue.get(event.id)
    if container is None:
        return
    if event.kind == "oom":
        container.state.oom_killed = True
        engine.publish(container, "oom")
    elif event.kind == "exit" and event.process in {"", event.id}:
        engine.spawn(exited(engine, container, event.pid, Ended(event.code, event.at)))
    elif event.kind == "exit":
        engine.spawn(execs.exited(engine, event.process, event.code))


async def reconcile(engine: Engine) -> None:
    """containerd is there, again or for the first time: events may have been missed, and what was
    to be undone while it was away could not be."""
    ran = {item.id: item.state.pid for item in engine.catalogue if item.state.running}
    for item in engine.catalogue:
        item.rootfs = None  # images of erofs layers are mounted when they are asked for
    try:
        tasks = {task.id: task for task in await engine.supervisor.tasks()}
        for container in tuple(engine.catalogue):
            task = tasks.pop(container.id, None)
            if container.id in ran:
                await _settle_running(engine, container, ran[container.id], task)
            elif task is not None:
                await _settle_stopped(engine, container)
        for stray in tasks.keys() - engine.creating:
            await end_stray(engine, stray)
        for removed in tuple(engine.unerased):
            engine.spawn(erase(engine, removed))
        await sweep(engine)
    except errors.Unavailable as error:
        log.warning("containers not compared with containerd's, which is away again: %s", error)


async def _settle_running(
    engine: Engine, container: Container, pid: int, task: Task | None
) -> None:
    """Of one that ran as `pid` before its task was asked for; what has begun since is not told."""
    if task is None or task.status not in {"running", "paused"}:
        stopped = task is not None and task.status == "stopped"
        ended = Ended(task.code, task.at) if task is not None and stopped else None
        await exited(engine, container, pid, ended)
        return
    await execs.settle(engine, container)
    if (task.status == "paused") is not (container.state.status is Status.PAUSED):
        await _settle_pause(engine, container)


async def _settle_pause(engine: Engine, container: Container) -> None:
    """It was paused, or let go on, and the answer was lost: the task knows."""
    state = container.state
    async with container.lock:
        tasks = await engine.supervisor.tasks()  # again: a pause may have come meanwhile
        status = next((t.status for t in tasks if t.id == container.id and t.pid == state.pid), "")
        if status == "paused" and state.held:  # by an operation that has failed
            await engine.supervisor.resume(container.id)
            state.held, status = False, "running"
        move = {"paused": Move.PAUSE, "running": Move.UNPAUSE}.get(status)
        if move is None or (status == "paused") is (state.status is Status.PAUSED):
            return
        state.move(move, container.id)
        state.held = False
        engine.catalogue.save_state(container)
        engine.publish(container, "pause" if status == "paused" else "unpause")


async def _settle_stopped(engine: Engine, container: Container) -> None:
    """One that did not run has a task: a start is under way, or was not undone."""
    async with container.lock:  # which a start holds
        if not container.state.running and container.id in engine.catalogue:
            await clean_up(engine, container)
