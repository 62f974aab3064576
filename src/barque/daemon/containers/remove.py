"""Removing a container: nothing of it is left, whatever it takes, and it may be tried twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from barque import errors
from barque.daemon.containers import execs, files, image_mounts
from barque.daemon.containers.attach import abandon_pending
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.signal_process import end_by_force
from barque.daemon.containers.state import Move, Status

Step = Callable[[str], Awaitable[object]]


async def remove(engine: Engine, container: Container, *, force: bool, volumes: bool) -> None:
    """Raises Conflict for one that runs, unless `force`; `volumes`: its anonymous ones too."""
    if container.state.status is Status.REMOVING:
        raise errors.Conflict(f"removal of container {container.id} is already in progress")
    while True:
        if container.state.running or container.state.status is Status.RESTARTING:
            if not force:
                raise _runs(container)
            await _kill(engine, container)
        async with container.lock:
            if container.id not in engine.catalogue:
                return  # someone else, or its own --rm, was faster
            if not container.state.running:
                await remove_locked(engine, container, volumes=volumes)
                return
        # Its restart, or someone else, was starting it while we waited for the lock.


def _runs(container: Container) -> errors.Conflict:
    status = container.state.status
    hint = "stop the container before removing or force remove"
    if status is Status.PAUSED:
        hint = "unpause and then stop the container before removing or force remove"
    return errors.Conflict(
        f'cannot remove container "/{container.name}": container is {status}: {hint}'
    )


async def _kill(engine: Engine, container: Container) -> None:
    """End it without regard for its restart policy, and wait for its end."""
    container.state.stopped_by_hand = True
    if container.restart is not None:
        container.restart.cancel()
        container.restart = None
    if not container.state.running:
        return
    await end_by_force(engine, container, container.next_exit())


async def remove_locked(engine: Engine, container: Container, *, volumes: bool) -> None:
    """`remove` of a container that does not run, with its lock held.

    It is told to be gone once its name, its network and its volumes are free; its snapshot and its
    directory go in the background, and recovery finishes what a crash leaves.
    """
    if container.restart is not None:
        container.restart.cancel()
        container.restart = None
    container.state.move(Move.REMOVE, container.id)
    engine.catalogue.hide(container)
    engine.labels.release(container.record)
    abandon_pending(container)
    await engine.stop_forwarding(container)
    await execs.forget_all(engine, container)
    await engine.undo("network", engine.networks.detach, container.id)
    await engine.undo("volumes", _release_volumes, engine, container, volumes)
    engine.publish(container, "destroy")
    container.tell_removal()
    engine.creating.add(container.id)
    views = image_mounts.view_keys(container.record)
    engine.spawn(erase(engine, container.id, has_task=container.has_task, views=views))


async def _release_volumes(engine: Engine, container: Container, anonymous: bool) -> None:
    await engine.volumes.release(container.id)
    if anonymous:
        for point in container.record.mounts:
            if point.anonymous:
                with suppress(errors.NotFound, errors.Conflict):
                    await engine.volumes.remove(point.name)


async def erase(
    engine: Engine, container_id: str, *, has_task: bool = True, views: Iterable[str] = ()
) -> None:
    """The last of it: containerd's record and snapshots, our files, the row. Idempotent.

    `views` of images that a crash leaves are swept at the next start.
    """
    engine.unerased.add(container_id)  # containerd may die and be back while a later step waits
    steps: list[Step] = [engine.supervisor.delete] if has_task else []
    steps += [
        engine.supervisor.remove_snapshot,
        lambda wanted: asyncio.to_thread(files.remove_files, engine.paths, wanted),
    ]
    work = [(step, container_id) for step in steps]
    work += [(engine.supervisor.remove_snapshot, key) for key in views]
    failures: list[Exception] = []
    for step, name in work:
        try:
            await step(name)
        except Exception as error:
            error.add_note(f"erasing container {container_id}")
            failures.append(error)
    engine.creating.discard(container_id)
    if failures:
        raise ExceptionGroup(
            f"container {container_id} is not erased: tried again when containerd is back", failures
        )
    engine.unerased.discard(container_id)
    engine.catalogue.forget(container_id)
