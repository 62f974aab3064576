"""The shim's one loop: file descriptors, deadlines, dead children, and routines that wait for them.

    epoll ---- callback(events) of a watched descriptor
      |------- the wake-up pipe of SIGCHLD: every dead child is reaped, its callback gets the status
      `------- the nearest deadline

A *routine* is a generator that yields `Pending` values and is resumed with their results; it is
how a call to the runtime is written as a straight line. Everything runs in one thread, one thing
at a time.
"""

from __future__ import annotations

import errno
import os
import select
import time

from barque.linux.process import parent_of
from barque.shim.flood import Flood
from barque.shim.ground import NOBODY, REPORT, Ground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, Final

    Routine = Generator["Pending", Any, Any]

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
HANG_UP: Final = select.EPOLLHUP
ERROR: Final = select.EPOLLERR
# Of a call that may be made again: the descriptor is as it was.
PASSING: Final = (errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS)
REPORTS_MAX: Final = 512
# Statuses of children nobody watches yet are kept, for a pid that a pid-file will name.
UNCLAIMED_MAX: Final = 4096
AGAIN_S: Final = 0.05
FAILURES_MAX: Final = 100  # one after the other


class Pending:
    """A result that will be there later: a value or an error, once."""

    __slots__ = ("_callbacks", "done", "error", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._callbacks: list[Callable[[Pending], None]] = []

    def then(self, callback: Callable[[Pending], None]) -> None:
        """Call `callback` when it is there, at once if it is there already."""
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def set(self, value: Any = None) -> None:
        self._finish(value, None)

    def fail(self, error: BaseException) -> None:
        self._finish(None, error)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        assert not self.done
        self.done = True
        self.value = value
        self.error = error
        for callback in self._callbacks:
            callback(self)
        self._callbacks = []


class Deadline:
    """One timer; `cancel` it when it is not needed any more."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """See the module. Made in the process that runs it: it owns SIGCHLD.

    `quiet`, if there is one, is called when nothing has happened for `quiet_s`, once each time.
    """

    def __init__(self, ground: Ground | None = None) -> None:
        self.ground = ground or Ground()
        self._epoll = self.ground.epoll
        self.quiet: Callable[[], None] | None = None
        self.quiet_s = 0.0
        self._rested = False  # `quiet` was called for this time of quiet
        self.failed: Callable[[str, BaseException], None] | None = None
        self._watched: dict[int, Callable[[int], None]] = {}
        self._deadlines: list[Deadline] = []
        self._yields = False
        self._children: dict[int, Callable[[int], None]] = {}
        self._unclaimed: dict[int, int] = {}
        self._expecting = 0
        self._running = False
        self.flood = Flood(self)
        self._lingering: set[object] = set()
        self._idle: Callable[[], None] | None = None
        self.watch(self.ground.wake, READ, self._reap)
        if self.ground.reports != NOBODY:
            self.watch(self.ground.reports, READ, self._read_reports)

    # descriptors

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever `fd` is ready, again and again; 0: only its end."""
        try:
            self._epoll.register(fd, events)
        except FileExistsError:  # who stood here before watched it
            self._epoll.modify(fd, events)
        self._watched[fd] = callback

    def watch_owned(self, fd: int, callback: Callable[[int], None]) -> None:
        """As `watch`, to read from a descriptor of the caller alone: closed where that fails."""
        try:
            self.watch(fd, READ, callback)
        except BaseException:
            os.close(fd)
            raise

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`, before it is closed. Nothing happens when it is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def readable(self, fd: int) -> Pending:
        """Done when `fd`, which nobody watches, has something to read, or has ended."""
        pending = Pending()

        def ready(events: int) -> None:
            self.unwatch(fd)
            pending.set()

        self.watch(fd, READ, ready)
        return pending

    # time

    def after(self, seconds: float, callback: Callable[[], None]) -> Deadline:
        deadline = Deadline(time.monotonic() + seconds, callback)
        self._deadlines.append(deadline)
        return deadline

    def afterwards(self, callback: Callable[[], None]) -> None:
        """Call `callback` when all that has happened is handled, and before anything else is: what
        is answered until then is not to wait for it."""
        self._deadlines.append(Deadline(0.0, callback))
        self._yields = True

    def sleep(self, seconds: float) -> Pending:
        pending = Pending()
        self.after(seconds, pending.set)
        return pending

    def _fire(self) -> float:
        """Call what is due; the seconds until the next deadline, -1 for never."""
        now = time.monotonic()
        due = [deadline for deadline in self._deadlines if deadline.when <= now]
        for deadline in due:
            self._deadlines.remove(deadline)
            if deadline.callback is not None:
                deadline.callback()
        self._deadlines = [deadline for deadline in self._deadlines if deadline.callback]
        if not self._deadlines:
            return -1
        return max(0.0, min(deadline.when for deadline in self._deadlines) - time.monotonic())

    # children

    def on_exit(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call `callback(status)`, as waitpid(2) gives it, when the child `pid` has been reaped."""
        status = self._unclaimed.pop(pid, None)
        if (
            status is None or is_child(pid) or self._is_keepers(pid)
        ):  # what had the pid before was another
            self._children[pid] = callback
        else:
            callback(status)

    def _is_keepers(self, pid: int) -> bool:
        return self.ground.keeper != 0 and parent_of(pid) == self.ground.keeper

    def exited(self, pid: int) -> Pending:
        pending = Pending()
        self.on_exit(pid, pending.set)
        return pending

    def expect_pid(self) -> None:
        """A pid-file is waited for: keep the statuses of children nobody asked for yet."""
        self._expecting += 1

    def expect_no_more(self) -> None:
        """That pid-file is here or never comes; with the last one the statuses are dropped."""
        self._expecting -= 1
        if not self._expecting:
            self._unclaimed.clear()

    def _reap(self, events: int) -> None:
        self.ground.drain()
        self.reap()

    def reap(self) -> None:
        """Reap every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, status)

    def _read_reports(self, events: int) -> None:
        """Of the keeper. Each was written whole."""
        for pid, status in REPORT.iter_unpack(os.read(self.ground.reports, REPORTS_MAX)):
            self._ended(pid, status)

    def _ended(self, pid: int, status: int) -> None:
        callback = self._children.pop(pid, None)
        if callback is not None:
            callback(status)
        elif self._expecting:
            self._unclaimed[pid] = status
            if len(self._unclaimed) > UNCLAIMED_MAX:
                del self._unclaimed[next(iter(self._unclaimed))]

    # routines

    def spawn(self, routine: Routine) -> Pending:
        """Run `routine` until it waits, and on from there; what it returns or raises."""
        result = Pending()
        self._step(routine, result, None)
        return result

    def _step(self, routine: Routine, result: Pending, waited: Pending | None) -> None:
        while True:
            try:
                if waited is None:
                    waited = next(routine)
                elif waited.error is not None:
                    waited = routine.throw(waited.error)
                else:
                    waited = routine.send(waited.value)
            except StopIteration as stop:
                result.set(stop.value)
                return
            except Exception as error:
                result.fail(error)
                return
            if not waited.done:
                waited.then(lambda done: self._step(routine, result, done))
                return

    # life

    def run(self) -> None:
        """Until `stop`. What fails is told to `failed`, and the rest goes on: a callback that
        could not have its memory is called again. Raises what fails without end."""
        self._running = True
        failures = 0
        while self._running:
            try:
                self._turn()
                failures = 0
            except Exception as error:
                failures += 1
                if self.failed is None or failures == FAILURES_MAX:
                    raise
                self.failed("event not handled", error)
                time.sleep(AGAIN_S)

    def _turn(self) -> None:
        """Wait for what happens, and handle it."""
        if self._yields:  # who was answered runs first, on this processor as it may be
            self._yields = False
            os.sched_yield()
        timeout = self._fire()
        if not self._running:
            return
        resting = timeout < 0 and self.quiet is not None and not self._rested
        happened = self._epoll.poll(self.quiet_s if resting else timeout)
        self._rested = resting and not happened
        if self._rested and self.quiet is not None:
            self.quiet()
        for fd, events in happened:
            callback = self._watched.get(fd)
            if callback is not None:
                callback(events)

    def at_rest(self) -> bool:
        """Whether nothing is under way that would be lost with this loop: what is watched, and the
        dead who are waited for, may be watched and waited for by another."""
        under_way = self._deadlines or self._lingering or self._idle or self._expecting
        return not under_way and not has_children()

    def linger(self, what: object) -> None:
        """`what` still has output to deliver: `when_idle` waits for it."""
        self._lingering.add(what)

    def linger_no_more(self, what: object) -> None:
        self._lingering.discard(what)
        if not self._lingering and self._idle is not None:
            self._idle()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call `callback` once nothing lingers."""
        self._idle = callback
        if not self._lingering:
            callback()

    def stop(self) -> None:
        self._running = False

    def close(self) -> None:
        """Give SIGCHLD back and close what the loop opened."""
        self.ground.close()


def is_child(pid: int) -> bool:
    """Whether `pid` is a child of this process that has not been reaped."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def has_children() -> bool:
    """Whether this process has a child, alive or not reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
