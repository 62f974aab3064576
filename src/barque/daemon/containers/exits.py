"""What happens when a container's process has ended: the state, the waiters, then the clean-up.

The exit is written and told first; freeing what the container held comes after, under its lock, so
that whoever acts on the container next finds it clean. Restart policies (API: RestartPolicy) decide
here; the delay doubles from 100 ms to a minute and starts again once it ran for ten seconds, or
as the policy says.
"""

from __future__ import annotations

import asyncio
import logging

from barque import errors
from barque.daemon.containers import execs, health, streams
from barque.daemon.containers.attach import abandon_pending
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.remove import remove_locked
from barque.daemon.containers.shm import unmount_shm
from barque.daemon.containers.start import start_locked
from barque.daemon.containers.state import Move, Status
from barque.daemon.containers.supervise import Ended
from barque.daemon.moments import parse_rfc3339

log = logging.getLogger(__name__)


async def exited(engine: Engine, container: Container, pid: int, ended: Ended | None) -> None:
    """The process `pid` of the container is no more. Runs once for each process."""
    await streams.drained(engine.paths.stdio_socket(container.id))
    async with container.lock:
        if not container.state.running or container.state.pid != pid:
            return
        if ended is None:  # nobody saw it: its task is gone
            ended = Ended(255, engine.now())
        container.state.finished_at = ended.at or engine.now()
        container.has_run(run_time_s(container))
        restart = not engine.ending_all and should_restart(container, ended.code)
        remove = container.record.host.auto_remove and not (restart or container.kept)
        _settle(engine, container, ended, restart=restart, keep=not remove)
        if remove:
            await remove_locked(engine, container, volumes=True)
            return
        await clean_up(engine, container)
        if restart:
            _restart_later(engine, container)


def _settle(
    engine: Engine, container: Container, ended: Ended, *, restart: bool, keep: bool
) -> None:
    state = container.state
    state.move(Move.AWAIT_RESTART if restart else Move.EXIT, container.id)
    state.pid, state.exit_code, state.error = 0, ended.code, ""
    state.restart_due = False
    if restart:
        state.restart_count += 1
        state.restart_streak += 1
    container.task_ready = False
    health.end(container)
    if keep:
        try:
            engine.catalogue.save_state(container)
        except errors.BarqueError as error:  # whoever waits is told all the same
            log.error("keeping the exit of container %s: %s", container.id, error)
    container.tell_exit()
    ran_s = run_time_s(container)
    engine.publish(container, "die", exitCode=str(ended.code), execDuration=str(max(0, int(ran_s))))


def run_time_s(container: Container) -> float:
    state = container.state
    return (parse_rfc3339(state.finished_at) - parse_rfc3339(state.started_at)) / 1e9


async def clean_up(engine: Engine, container: Container) -> None:
    """Free what a run held: task, network, sockets. Every step is tried; failures are logged."""
    abandon_pending(container)
    unmount_shm(engine.paths, container.id)
    results = await asyncio.gather(
        engine.supervisor.delete(container.id),
        engine.networks.detach(container.id),
        engine.volumes.unmount(container.id),
        execs.forget_all(engine, container),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, errors.Unavailable):  # `watch.reconcile` comes back to it
            log.warning("cleaning up after container %s: %s", container.id, result)
        elif isinstance(result, BaseException):
            log.error("cleaning up after container %s", container.id, exc_info=result)
    container.has_task = isinstance(results[0], BaseException)
    streams.remove(engine.paths.stdio_socket(container.id))


def should_restart(container: Container, code: int) -> bool:
    """Docker's rule, once the process has ended with `code`; and ours for unhealthy ones."""
    policy, state = container.record.host.restart_policy, container.state
    if state.stopped_by_hand:
        return False
    if state.restart_due or policy.name in {"always", "unless-stopped"}:
        return True
    if policy.name == "on-failure" and code != 0:
        limit = policy.maximum_retry_count
        return not limit or (state.restart_streak if policy.window else state.restart_count) < limit
    return False


def _restart_later(engine: Engine, container: Container) -> None:
    delay_s = container.grow_backoff()
    container.restart = engine.spawn(_restart(engine, container, delay_s), lasting=True)


async def _restart(engine: Engine, container: Container, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    await engine.ready.wait()
    async with container.lock:
        container.restart = None
        if container.state.status is not Status.RESTARTING:
            return
        try:
            await start_locked(engine, container)
        except errors.BarqueError as error:
            log.warning("container %s not restarted: %s", container.id, error)
