"""Stopping, killing, pausing: what is done to a container that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress

from barque import errors
from barque.daemon.containers import signals
from barque.daemon.containers.container import Container, Exit
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.start import start
from barque.daemon.containers.state import Move, Status

KILL_TIMEOUT_S = 30.0
GRACE_S = 5  # beside a container's own stop timeout, when all are ended
SIGKILL = 9
log = logging.getLogger(__name__)


async def stop(
    engine: Engine,
    container: Container,
    signal: str = "",
    timeout_s: int | None = None,
    *,
    by_hand: bool = True,
) -> None:
    """Ask it to end, then end it. Raises NotModified when it does not run. -1: wait for ever.

    Only what is stopped `by_hand` stays so when the daemon starts again.
    """
    if container.state.status is Status.RESTARTING and await _stop_restarting(engine, container):
        return
    if not container.state.running:
        raise errors.NotModified(f"container {container.id} does not run")
    config = container.record.config
    number = signals.parse(signal or config.stop_signal or "SIGTERM")
    if timeout_s is None:
        timeout_s = patience_s(engine, container)
    container.state.stopped_by_hand = by_hand
    ended = container.next_exit()
    await send(engine, container, number, thaw=True, final=True)
    if not await _ends(ended, None if timeout_s < 0 else float(timeout_s)):
        await end_by_force(engine, container, ended)
    async with container.lock:  # until its clean-up is done
        engine.publish(container, "stop")


def patience_s(engine: Engine, container: Container) -> int:
    """How long its process may take to end when it is asked to; -1: for ever."""
    own = container.record.config.stop_timeout
    return engine.defaults.stop_timeout_s if own is None else own


async def stop_all(engine: Engine) -> None:
    """End what runs, as Docker does at the daemon's end without live-restore.

    Each has its own stop timeout; all together have the shutdown timeout, or five seconds more than
    the longest of theirs. What runs after that goes on, and is ended at the next start.
    """
    engine.ending_all = True
    try:
        running = [container for container in engine.catalogue if container.state.running]
        if not running:
            return
        limits = [
            engine.defaults.shutdown_timeout_s,
            *(
                patience if (patience := patience_s(engine, c)) < 0 else patience + GRACE_S
                for c in running
            ),
        ]
        ends = [asyncio.ensure_future(_end(engine, container)) for container in running]
        await asyncio.wait(ends, timeout=None if min(limits) < 0 else max(limits))
    finally:
        engine.ending_all = False


async def _end(engine: Engine, container: Container) -> None:
    try:
        await stop(engine, container, by_hand=False)
    except errors.NotModified:
        pass
    except errors.BarqueError as error:
        log.error("ending container %s: %s", container.id, error)


async def _stop_restarting(engine: Engine, container: Container) -> bool:
    """It has no process: take the restart back. False when it has been started by then."""
    async with container.lock:
        if container.state.status is not Status.RESTARTING:
            return not container.state.running
        if container.restart is not None:
            container.restart.cancel()
            container.restart = None
        container.state.stopped_by_hand = True
        container.state.move(Move.EXIT, container.id)
        engine.catalogue.save_state(container)
        container.tell_exit()
        engine.publish(container, "stop")
        return True


async def end_by_force(engine: Engine, container: Container, ended: asyncio.Future[Exit]) -> None:
    """SIGKILL, and its end. Raises Timeout when the kernel does not let go of it."""
    await send(engine, container, SIGKILL, thaw=True, final=True)
    if not await _ends(ended, KILL_TIMEOUT_S):
        raise errors.Timeout(
            f"could not kill container {container.id}: it did not end within {KILL_TIMEOUT_S:g} s "
            "after SIGKILL"
        )


async def _ends(ended: asyncio.Future[Exit], timeout_s: float | None) -> bool:
    try:
        await asyncio.wait_for(asyncio.shield(ended), timeout_s)
    except TimeoutError:
        return False
    return True


async def send(
    engine: Engine, container: Container, signal: int, *, thaw: bool, final: bool
) -> bool:
    """Send a signal to the first process; False when it has none any more.

    Under the lock, so that no pause comes in between: a frozen process does not even die of
    SIGKILL. `thaw` resumes it first; after a `final` one it cannot be paused again.
    """
    async with container.lock:
        if not container.state.running:
            return False
        container.ending = container.ending or final
        if thaw and container.state.status is Status.PAUSED:
            with suppress(errors.BarqueError):  # it is gone: what was wanted
                await engine.supervisor.resume(container.id)
            container.state.move(Move.UNPAUSE, container.id)
            container.state.held = False
            engine.catalogue.save_state(container)
        try:
            await engine.supervisor.kill(container.id, signal)
        except errors.NotFound:
            return False
    engine.publish(container, "kill", signal=str(signal))
    return True


async def kill(engine: Engine, container: Container, signal: str = "") -> None:
    """Send a signal; SIGKILL returns when the container has ended. API: ContainerKill."""
    number = signals.parse(signal or "SIGKILL")
    if not container.state.running:
        raise _not_running(container)
    stop_signal = signals.parse(container.record.config.stop_signal or "SIGTERM")
    if number in {SIGKILL, stop_signal}:
        container.state.stopped_by_hand = True
    ended = container.next_exit()
    if number == SIGKILL:
        await end_by_force(engine, container, ended)
    elif not await send(engine, container, number, thaw=number == stop_signal, final=False):
        raise _not_running(container)


def _not_running(container: Container) -> errors.Conflict:
    return errors.Conflict(
        f"cannot kill container: {container.name}: container {container.id} is not running"
    )


async def restart(
    engine: Engine, container: Container, signal: str = "", timeout_s: int | None = None
) -> None:
    """Stop it if it runs, then start it; `--rm` does not remove it in between."""
    if container.state.running or container.state.status is Status.RESTARTING:
        container.kept = True
        try:
            await stop(engine, container, signal, timeout_s)
        finally:
            container.kept = False
    with suppress(errors.NotModified):
        await start(engine, container)
    engine.publish(container, "restart")


async def pause(engine: Engine, container: Container, *, held: bool = False) -> None:
    """`held`: for an operation of ours, which no client will end when this daemon dies."""
    async with container.lock:
        if container.state.status is Status.PAUSED:
            raise errors.Conflict(f"container {container.id} is already paused")
        if container.state.status is Status.RESTARTING:
            raise errors.Conflict(
                f"container {container.id} is restarting, wait until the container is running"
            )
        if not container.state.running or container.ending:
            raise container.not_running()
        if container.state.held is not held:
            container.state.held = held
            engine.catalogue.save_state(container)
        await _freeze(container, "pause", engine.supervisor.pause(container.id))
        container.state.move(Move.PAUSE, container.id)
        engine.catalogue.save_state(container)
        engine.publish(container, "pause")


async def unpause(engine: Engine, container: Container) -> None:
    async with container.lock:
        if container.state.status is not Status.PAUSED:
            raise errors.Conflict(f"container {container.id} is not paused")
        await _freeze(container, "unpause", engine.supervisor.resume(container.id))
        container.state.move(Move.UNPAUSE, container.id)
        container.state.held = False
        engine.catalogue.save_state(container)
        engine.publish(container, "unpause")


async def _freeze(container: Container, verb: str, work: Awaitable[None]) -> None:
    """It may have ended a moment ago, with its end not told yet."""
    try:
        await work
    except errors.BarqueError as error:
        raise errors.Conflict(f"cannot {verb} container {container.id}: {error}") from error
