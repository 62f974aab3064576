"""Signals as bytes on a pipe, so that one poll waits for them and for everything else."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# What a container is not told of: not to be caught, about this process alone, or a fault of our
# own, whose handler would return to the fault.
NOT_FORWARDED = frozenset(
    (
        *(_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG),
        *(_signal.SIGILL, _signal.SIGFPE, _signal.SIGSEGV, _signal.SIGBUS),
    )
)
FORWARDED = tuple(n for n in range(1, 32) if n not in NOT_FORWARDED)
# What ends us where nothing is forwarded: caught, so that the terminal is put right first.
ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM)
EXIT_BASE = 128  # plus the number is the exit code of a process that a signal has ended


def _ignore(number: int, frame: object) -> None:
    """The byte on the pipe is what counts."""


class Signals:
    """While it is open, `numbers` are caught; `take` gives those that came."""

    __slots__ = ("_before", "_read", "_write")

    def __init__(self, numbers: Iterable[int]) -> None:
        self._read, self._write = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
        _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: _signal.signal(number, _ignore) for number in numbers}

    def fileno(self) -> int:
        return self._read

    def take(self) -> list[int]:
        try:
            return list(posix.read(self._read, 512))
        except BlockingIOError:
            return []

    def close(self) -> None:
        for number, handler in self._before.items():
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)
        _signal.set_wakeup_fd(-1)
        posix.close(self._read)
        posix.close(self._write)
