"""The life cycle of a container, as a table, and what is remembered of where it stands.

    created --start--> running --exit--> exited --start--> running
       |                 |  ^              |
       |             pause  unpause      restarting (a restart policy waits) --start--> running
       |                 v  |              |
       |               paused              |
       `--------------remove--> removing --> (gone)

A new state is written to the database before anyone is told of it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from msgspec import Struct

from barque import errors

NEVER = "0001-01-01T00:00:00Z"


class Status(enum.StrEnum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"


class Move(enum.StrEnum):
    START = "start"
    FAIL = "fail"
    EXIT = "exit"
    AWAIT_RESTART = "await-restart"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    REMOVE = "remove"


_STOPPED = (Status.CREATED, Status.EXITED, Status.RESTARTING)
NEXT: Mapping[tuple[Status, Move], Status] = {
    **{(status, Move.START): Status.RUNNING for status in _STOPPED},
    (Status.CREATED, Move.FAIL): Status.CREATED,
    (Status.EXITED, Move.FAIL): Status.EXITED,
    (Status.RESTARTING, Move.FAIL): Status.EXITED,
    (Status.RUNNING, Move.FAIL): Status.EXITED,  # it could not be remembered that it runs
    (Status.RUNNING, Move.EXIT): Status.EXITED,
    (Status.PAUSED, Move.EXIT): Status.EXITED,
    (Status.RESTARTING, Move.EXIT): Status.EXITED,
    (Status.RUNNING, Move.AWAIT_RESTART): Status.RESTARTING,
    (Status.PAUSED, Move.AWAIT_RESTART): Status.RESTARTING,
    (Status.RESTARTING, Move.AWAIT_RESTART): Status.RESTARTING,
    (Status.EXITED, Move.AWAIT_RESTART): Status.RESTARTING,
    (Status.RUNNING, Move.PAUSE): Status.PAUSED,
    (Status.PAUSED, Move.UNPAUSE): Status.RUNNING,
    **{(status, Move.REMOVE): Status.REMOVING for status in _STOPPED},
    (Status.REMOVING, Move.REMOVE): Status.REMOVING,
}


class HealthResult(Struct, kw_only=True):
    """One run of a health check."""

    start: str
    end: str
    exit_code: int
    output: str


class HealthState(Struct, kw_only=True):
    status: str = "starting"
    failing_streak: int = 0
    log: list[HealthResult] = []


class State(Struct, kw_only=True, omit_defaults=True):
    """What is so now of one container; a row's `state`."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = NEVER
    finished_at: str = NEVER
    restart_count: int = 0
    restart_streak: int = 0
    """Those of them since it last ran for its policy's window."""
    stopped_by_hand: bool = False
    restart_due: bool = False
    """It is being ended to be started again, whatever its policy says."""
    held: bool = False
    """Paused for an operation of the daemon's: a daemon that finds it so lets it go on."""
    health: HealthState | None = None

    @property
    def running(self) -> bool:
        """Has processes: running or paused (Docker calls both running)."""
        return self.status in {Status.RUNNING, Status.PAUSED}

    def move(self, move: Move, container: str) -> None:
        """Go to the next status. Raises Conflict when the table has no such move."""
        try:
            self.status = NEXT[self.status, move]
        except KeyError:
            raise errors.Conflict(
                f"cannot {move} container {container}: it is {self.status}"
            ) from None
