"""One container in the daemon's memory: its record, its state, and who waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from barque import errors
from barque.daemon.containers.record import Record
from barque.daemon.containers.state import State, Status

if TYPE_CHECKING:
    from barque.daemon.containers.attach import Attachment
    from barque.daemon.containers.supervise import RootfsMount

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 60.0
STEADY_AFTER_S = 10.0
EXIT_KNOWN_S = 2.0  # from a process's end to our knowing of it
_NOT_RUNNING = frozenset({Status.CREATED, Status.EXITED, Status.REMOVING})


class Exit(NamedTuple):
    """What `wait` answers; `error` is why a removal failed."""

    code: int
    error: str = ""


class Container:
    """`lock` is held through start, exit handling and removal; everything else is instantaneous."""

    __slots__ = (
        "attachments",
        "backoff_s",
        "ending",
        "execs",
        "exits",
        "filling",
        "has_task",
        "health",
        "kept",
        "lock",
        "pristine",
        "record",
        "removals",
        "restart",
        "rootfs",
        "state",
        "task_ready",
    )

    def __init__(self, record: Record, state: State) -> None:
        self.record = record
        self.state = state
        self.lock = asyncio.Lock()
        self.filling = asyncio.Lock()
        """Held while an archive is unpacked in it as it runs: one at a time, as in Docker."""
        self.rootfs: list[RootfsMount] | None = None
        """The snapshot's mounts, once asked for."""
        self.pristine = False
        """Nothing was written into the snapshot yet: it is the image's content."""
        self.execs: set[str] = set()
        self.attachments: set[Attachment] = set()
        self.has_task = True
        """containerd may have a record or a task of it; False once both were deleted."""
        self.ending = False
        """It was sent what it cannot survive: it is not to be paused."""
        self.kept = False
        """Its next exit is a part of a restart: `--rm` does not remove it then."""
        self.task_ready = False
        self.restart: asyncio.Task[None] | None = None
        self.health: asyncio.Task[None] | None = None
        self.backoff_s = 0.0
        """What its next restart waits; 0 for the first of its policy's."""
        self.exits: list[asyncio.Future[Exit]] = []
        self.removals: list[asyncio.Future[Exit]] = []

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    def next_exit(self) -> asyncio.Future[Exit]:
        return _waiter(self.exits)

    def removal(self) -> asyncio.Future[Exit]:
        return _waiter(self.removals)

    async def has_ended(self, pid: int) -> bool:
        """Whether its process `pid` is no more; waits for a moment to be told of it.

        After a failure: the end may be the cause, and not be known here yet.
        """
        if self.state.running and self.state.pid == pid:
            await asyncio.wait([self.next_exit()], timeout=EXIT_KNOWN_S)
        return not self.state.running or self.state.pid != pid or _is_dead(pid)

    def last_exit(self) -> Exit:
        return Exit(self.state.exit_code)

    def tell_exit(self) -> None:
        _tell(self.exits, self.last_exit())

    def tell_removal(self) -> None:
        self.tell_exit()
        _tell(self.removals, self.last_exit())

    def waiting(self, condition: str) -> asyncio.Future[Exit] | None:
        """The future of a wait condition, None when it holds already. API: ContainerWait."""
        if condition in {"", "not-running"}:
            return None if self.state.status in _NOT_RUNNING else self.next_exit()
        if condition == "next-exit":
            return self.next_exit()
        if condition == "removed":
            return self.removal()
        raise errors.InvalidArgument(f'invalid condition: "{condition}"')

    def attributes(self, **more: str) -> dict[str, str]:
        """Of this container's events: labels, image, name and `more`."""
        record = self.record
        return {**record.config.labels, **more, "image": record.config.image, "name": record.name}

    def refuse_when_gone(self) -> None:
        if self.state.status is Status.REMOVING:
            raise errors.Conflict(
                f"container {self.id} is marked for removal and cannot be used any more"
            )

    def not_running(self) -> errors.Conflict:
        return errors.Conflict(f"container {self.id} is not running")

    def forget_restarts(self) -> None:
        """Who starts it by hand begins anew: the policy's count, and its patience."""
        self.state.restart_count = self.state.restart_streak = 0
        self.backoff_s = 0.0

    def has_run(self, time_s: float) -> None:
        """After a steady run the delay is the first one again."""
        window_s = self.record.host.restart_policy.window / 1e9
        if time_s < (window_s or STEADY_AFTER_S):
            return
        self.backoff_s = 0.0
        if window_s:
            self.state.restart_streak = 0

    def grow_backoff(self) -> float:
        """How long to wait before the next restart; doubles until the container runs steadily."""
        policy = self.record.host.restart_policy
        first = policy.delay / 1e9 or FIRST_BACKOFF_S
        most = policy.maximum_delay / 1e9 or max(first, MAX_BACKOFF_S)
        delay = min(self.backoff_s or first, most)
        self.backoff_s = delay * 2
        return delay


Waiters = list[asyncio.Future[Exit]]


def _is_dead(pid: int) -> bool:
    """Whether no process has this number, or only the remains of one. See proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    except OSError:
        return True


def _waiter(waiters: Waiters) -> asyncio.Future[Exit]:
    future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    waiters.append(future)
    future.add_done_callback(lambda done: waiters.remove(done) if done in waiters else None)
    return future


def _tell(waiters: Waiters, value: Exit) -> None:
    told, waiters[:] = list(waiters), []
    for future in told:
        if not future.done():
            future.set_result(value)
