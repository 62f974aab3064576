"""Signals to an exec: to its process, and to what that started. Docker has no word for it.

The runtime makes an exec's first process the leader of a session; what it starts is in there, but
for what makes a session of its own, as a daemon does. A session's number is not given to another
process before its last member has gone, so it says who belongs to the exec for sure.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from barque import errors
from barque.daemon.containers import execs, signals
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.execs import Exec

KILL_TIMEOUT_S = 30.0
ROUNDS = 100
"""Looks at the session for who was started since the last one, until SIGKILL has ended all."""


def find(engine: Engine, reference: str) -> Exec:
    """By its id or the beginning of it. Raises NotFound, InvalidArgument where several have it."""
    if reference in engine.execs:
        return engine.execs[reference]
    found = [name for name in engine.execs if reference and name.startswith(reference)]
    if len(found) > 1:
        raise errors.InvalidArgument(f"multiple execs found with provided prefix: {reference}")
    return execs.find(engine, found[0] if found else reference)


async def kill(engine: Engine, process: Exec, text: str) -> None:
    """Send a signal, SIGKILL where none is named; after that one all of the exec have ended.

    Raises InvalidArgument for what is no signal, Conflict unless it runs in a running container.
    """
    number = signals.parse(text or "SIGKILL")
    execs.check_running(process.container)
    if not process.running or not process.pid:
        raise errors.Conflict(f"exec {process.id} is not running")
    everybody = not engine.runtime_of(process.container).foreign  # whose numbers may be a machine's
    members = await _others(engine, process) if everybody else []
    with suppress(errors.NotFound):  # it has ended meanwhile
        await engine.supervisor.kill(process.container.id, number, process.id)
    for pid in members:
        _send(pid, process.pid, number)
    if number == signal.SIGKILL:
        if everybody:
            await _end_session(engine, process)
        await _ended(process)


async def _others(engine: Engine, process: Exec) -> list[int]:
    """The members of its session but its first process."""
    try:
        pids = await engine.supervisor.pids(process.container.id)
    except (errors.NotFound, errors.Conflict):  # the container has ended
        return []
    return [pid for pid in pids if pid != process.pid and _session(pid) == process.pid]


async def _end_session(engine: Engine, process: Exec) -> None:
    for _ in range(ROUNDS):
        members = await _others(engine, process)
        if not members:
            return
        for pid in members:
            _send(pid, process.pid, signal.SIGKILL)
        await asyncio.sleep(0.01)
    raise errors.Timeout(f"exec {process.id} still has processes after SIGKILL")


async def _ended(process: Exec) -> None:
    try:
        await asyncio.wait_for(asyncio.shield(process.ended), KILL_TIMEOUT_S)
    except TimeoutError:
        raise errors.Timeout(
            f"exec {process.id} did not end within {KILL_TIMEOUT_S:g} s after SIGKILL"
        ) from None


def _session(pid: int) -> int:
    """0 for a process that is no more, or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[3])


@contextmanager
def _held(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _send(pid: int, session: int, number: int) -> None:
    """To a member of the session, never to who has its number by now."""
    with suppress(OSError), _held(pid) as pidfd:
        if _session(pid) == session:
            signal.pidfd_send_signal(pidfd, number)
