"""The shim's one loop: file descriptors, deadlines, dead children, and routines that wait for them.

    epoll ---- callback(events) of a watched descriptor
      |------- the wake-up pipe of SIGCHLD: every dead child is reaped, its callback gets the status
      `------- the nearest deadline

A *routine* is a generator that yields `Pending` values and is resumed with their results; it is
how a call to the runtime is written as a straight line. Everything runs in one thread, one thing
at a time.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import os
import select
import time

from barque.shim.flood import Flood

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, Final

    Routine = Generator["Pending", Any, Any]

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
HANG_UP: Final = select.EPOLLHUP
ERROR: Final = select.EPOLLERR
WAKE_BYTES: Final = 4096
# Whoever stops containerd and all it started must not stop the containers. A handler that does
# nothing, and not SIG_IGN, which programs would inherit.
IGNORED_SIGNALS: Final = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)
# Statuses of children nobody watches yet are kept, for a pid that a pid-file will name.
UNCLAIMED_MAX: Final = 4096


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
    """See the module. Made in the process that runs it: it owns SIGCHLD."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._deadlines: list[Deadline] = []
        self._children: dict[int, Callable[[int], None]] = {}
        self._unclaimed: dict[int, int] = {}
        self._expecting = 0
        self._running = False
        self.flood = Flood(self)
        self._lingering: set[object] = set()
        self._idle: Callable[[], None] | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (_signal.SIGCHLD, *IGNORED_SIGNALS):
            _signal.signal(number, _ignore)
        _signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self.watch(self._wake_read, READ, self._reap)

    # descriptors

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever `fd` is ready, again and again; 0: only its end."""
        self._watched[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching `fd`, before it is closed. Nothing happens when it is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    # time

    def after(self, seconds: float, callback: Callable[[], None]) -> Deadline:
        deadline = Deadline(time.monotonic() + seconds, callback)
        self._deadlines.append(deadline)
        return deadline

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
        for deadline in due:
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
        if status is None or is_child(pid):  # what had the pid before was another
            self._children[pid] = callback
        else:
            callback(status)

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
        try:
            os.read(self._wake_read, WAKE_BYTES)
        except BlockingIOError:
            pass
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
        """Until `stop`."""
        self._running = True
        while self._running:
            timeout = self._fire()
            if not self._running:
                break
            for fd, events in self._epoll.poll(timeout):
                callback = self._watched.get(fd)
                if callback is not None:
                    callback(events)

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
        _signal.set_wakeup_fd(-1)
        for number in (_signal.SIGCHLD, *IGNORED_SIGNALS):
            _signal.signal(number, _signal.SIG_DFL)
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


def is_child(pid: int) -> bool:
    """Whether `pid` is a child of this process that has not been reaped."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _ignore(number: int, frame: object) -> None:
    """A handler must be there for the wake-up pipe to be written to."""
