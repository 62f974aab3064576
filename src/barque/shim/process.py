"""One process that the shim is the parent of: a container's first process, or an exec.

created --start--> running --exit--> stopped         (an exec is created by Exec, without a pid)
   |                |    ^
   `----exit---->   pause resume                      (the first process: its container is paused)
"""

from __future__ import annotations

import os
import time

from barque.errors import Conflict, InvalidArgument, NotFound
from barque.linux.process import pidfd_send_signal
from barque.oci import document
from barque.shim.loop import Pending
from barque.shim.messages import CREATED, PAUSED, RUNNING, STOPPED, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from barque.shim.stdio import Stdio

NAMES: Final = {CREATED: "created", RUNNING: "running", PAUSED: "paused", STOPPED: "stopped"}
START: Final = "start"
PAUSE: Final = "pause"
RESUME: Final = "resume"
EXIT: Final = "exit"
NEXT: Final = {
    (CREATED, START): RUNNING,
    (CREATED, EXIT): STOPPED,
    (RUNNING, PAUSE): PAUSED,
    (RUNNING, EXIT): STOPPED,
    (PAUSED, RESUME): RUNNING,
    (PAUSED, EXIT): STOPPED,
}
SIGNAL_MAX: Final = 64
SIGKILL: Final = 9
KEPT: Final = (  # attributes that a worker leaves for the next
    "pid",
    "pidfd",
    "status",
    "exit_status",
    "exited_ns",
    "watched",
    "reaped",
)
PID_FILE_BYTES: Final = 32


class Turn:
    """First come, first served: one routine at a time between `take` and `give`."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[Pending] = []

    def take(self) -> Pending:
        pending = Pending()
        if self._taken:
            self._waiting.append(pending)
        else:
            self._taken = True
            pending.set()
        return pending

    @property
    def taken(self) -> bool:
        return self._taken

    def give(self) -> None:
        if self._waiting:
            self._waiting.pop(0).set()
        else:
            self._taken = False


class Process:
    """See the module. `ended` is done once the exit has been announced."""

    def __init__(self, container: str, exec_id: str, io: dict[str, Any], stdio: Stdio) -> None:
        self.container = container
        self.exec_id = exec_id
        self.io = {key: io[key] for key in ("stdin", "stdout", "stderr", "terminal")}
        self.stdio = stdio
        self.pid = 0
        self.pidfd = -1
        self.status = CREATED
        self.exit_status = 0
        self.exited_ns = 0
        self.watched = False
        self.reaped = False
        self.turn = Turn()
        self.starting: Pending | None = None
        self.ended = Pending()

    def know(self, pid: int) -> None:
        """The runtime has made it. It may have ended, and been reaped by the keeper."""
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pass
        except OSError:  # whom nobody can signal must not run
            os.kill(pid, SIGKILL)
            raise

    def save(self) -> dict[str, Any] | None:
        """What `restore` wants, and its stdio; None: not now."""
        stdio = self.stdio.save()
        if stdio is None or self.turn.taken or self.starting is not None:
            return None
        if self.reaped != self.ended.done:
            return None  # its exit is about to be told
        return {"stdio": stdio, "kept": [getattr(self, name) for name in KEPT]}

    def restore(self, saved: dict[str, Any]) -> None:
        for name, value in zip(KEPT, saved["kept"], strict=True):
            setattr(self, name, value)
        if self.reaped:
            self.ended.set()

    def close(self) -> None:
        """Let go of its streams."""
        self.stdio.close()
        self._forget_pidfd()

    def _forget_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def check(self, event: str) -> None:
        """Raises Conflict when the state does not allow `event`."""
        if (self.status, event) not in NEXT:
            raise Conflict(f"cannot {event} a {NAMES[self.status]} process")

    def advance(self, event: str) -> None:
        self.check(event)
        self.status = NEXT[self.status, event]

    def note_exit(self, status: int) -> None:
        """It has been reaped: from here on its pid means nothing."""
        code = os.waitstatus_to_exitcode(status)
        self.reaped = True
        self.exit_status = code if code >= 0 else 128 - code
        self.exited_ns = time.time_ns()
        self._forget_pidfd()

    def check_signal(self, signal: int) -> None:
        """Raises when it cannot be signalled."""
        if not 0 < signal <= SIGNAL_MAX:
            raise InvalidArgument(f"signal {signal} is out of range")
        if self.reaped:
            raise NotFound("process already finished")
        if not self.pid:
            raise Conflict("process not created")

    def signal(self, signal: int) -> None:
        """Send a signal: to itself, also where its pid is another's by now."""
        self.check_signal(signal)
        if self.pidfd < 0:
            raise NotFound("process already finished")
        try:
            pidfd_send_signal(self.pidfd, signal)
        except ProcessLookupError as error:
            raise NotFound("process already finished") from error

    def exit_values(self) -> dict[str, Any]:
        """Fields `exit_status` and `exited_at` of many messages."""
        at = timestamp(self.exited_ns) if self.exited_ns else None
        return {"exit_status": self.exit_status, "exited_at": at}


def is_first_of_namespace(pid: int) -> bool:
    """Whether `pid` is the first process of a pid namespace: then the others die with it.

    False when it is gone already.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    numbers = line.split()[1:]
                    return len(numbers) > 1 and numbers[-1] == b"1"
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


def with_terminal(spec: bytes, terminal: bool) -> bytes:
    """The process that `spec` describes, with a terminal where its request has one.

    The request decides, as with runc's shim: clients take the container's own process for an exec.
    """
    if not terminal and b'"terminal"' not in spec:
        return spec
    try:
        process = document.parse(spec)
    except ValueError as error:
        raise InvalidArgument(f"the process spec is no JSON: {error}") from error
    if not isinstance(process, dict) or process.get("terminal", False) is terminal:
        return spec
    return document.dump({**process, "terminal": terminal})


def read_pid(path: str) -> int:
    """The pid in a pid-file. Raises NotFound or InvalidArgument."""
    try:
        with open(path, "rb") as file:
            text = file.read(PID_FILE_BYTES).strip()
    except FileNotFoundError as error:
        raise NotFound(f"the runtime wrote no pid-file {path}") from error
    if not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise InvalidArgument(f"pid-file {path} has no pid: {text!r}")
    return int(text)
