"""What a shim's loop stands on: an epoll, and a pipe that every signal writes to.

The loops of a shim's workers (`barque.shim.keeper`) stand on one ground, one after the other: what
one of them watched is still watched when the next one comes. The numbers of its descriptors are
the zygote's, so that a keeper knows them without having made any: its first worker puts others in
their places (`take`).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import os
import select
import struct

from barque.linux import memfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

# Whoever stops containerd and all it started must not stop the containers. A handler that does
# nothing, and not SIG_IGN, which programs would inherit.
IGNORED_SIGNALS: Final = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)
HANDLED: Final = (_signal.SIGCHLD, *IGNORED_SIGNALS)
WAKE_BYTES: Final = 4096
REPORT: Final = struct.Struct("ii")  # of the keeper to the worker: a pid, its wait status
NOBODY: Final = -1


class Ground:
    """Descriptors, and the process's handlers of signals."""

    __slots__ = (
        *("epoll", "epoll_fd", "forked", "keeper", "network", "new_network", "reports", "state"),
        *("told", "wake", "woken"),
    )

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.epoll_fd = self.epoll.fileno()
        self.wake, self.woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.keeper = 0  # the process that orphans fall to, where that is not who runs the loop
        self.reports = self.told = NOBODY  # a pipe: of whom the keeper has reaped
        self.state = NOBODY  # a file in memory: what the last worker left for the next
        self.network = NOBODY  # a network namespace made ahead, which nobody has yet
        self.new_network = False  # whether a container wanted one
        self.forked: Callable[[], None] = nothing  # called when a container's process has our pages
        self._hear()

    def _hear(self) -> None:
        for number in HANDLED:
            _signal.signal(number, _ignore)
        _signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)

    def share(self) -> None:
        """Have what a keeper and its workers need too."""
        self.reports, self.told = os.pipe2(os.O_CLOEXEC)
        self.state = memfd.create("barque-shim")

    def descriptors(self) -> tuple[int, ...]:
        return self.epoll_fd, self.wake, self.woken, self.reports, self.told, self.state

    def take(self, keeper: int, *, first: bool) -> None:
        """Stand on it, as a worker of `keeper`, who shares its descriptors. The first one sees to
        it that none of them is the zygote's."""
        self.keeper = keeper
        if first:
            fresh = Ground()
            fresh.share()
            for ours, theirs in zip(self.descriptors(), fresh.descriptors(), strict=True):
                os.dup2(theirs, ours, inheritable=False)
                if theirs != fresh.epoll_fd:
                    os.close(theirs)
            fresh.epoll.close()
        self._hear()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())

    def take_network(self) -> int:
        """The network namespace that was made ahead, the caller's to close, or `NOBODY`."""
        network, self.network = self.network, NOBODY
        return network

    def drain(self) -> None:
        """Take notice of the signals that came."""
        try:
            os.read(self.wake, WAKE_BYTES)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give the signals back and close the descriptors."""
        _signal.set_wakeup_fd(-1)
        for number in HANDLED:
            _signal.signal(number, _signal.SIG_DFL)
        self.epoll.close()
        os.close(self.wake)
        os.close(self.woken)


def _ignore(number: int, frame: object) -> None:
    """A handler must be there for the wake-up pipe to be written to."""


def nothing() -> None:
    """Nobody has made pages ahead."""


def write_state(ground: Ground, state: bytes) -> None:
    """Leave `state` for the next worker."""
    os.ftruncate(ground.state, 0)
    os.lseek(ground.state, 0, os.SEEK_SET)
    while state:
        state = state[os.write(ground.state, state) :]


def read_state(ground: Ground) -> bytes:
    os.lseek(ground.state, 0, os.SEEK_SET)
    return os.read(ground.state, os.fstat(ground.state).st_size)
