"""Stay with a container process: signals and the terminal go through, its exit code comes back."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select
import termios

from barque.linux import tty
from barque.linux.fs import write_all
from barque.linux.process import pidfd_send_signal, set_child_subreaper, wait_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGCHLD, SIGPIPE, SIGURG, SIGWINCH = 17, 13, 23, 28
NOT_FORWARDED = (9, 19, SIGCHLD, SIGPIPE, SIGURG, SIGWINCH, 32, 33)
LAST_SIGNAL = 64
CHUNK = 65536  # bytes


class Foreground:
    """Made before the process, so that no signal is lost between. A subreaper gets the container's
    orphans, where it has no first process of its own that does."""

    def __init__(self, *, subreaper: bool = False) -> None:
        self.wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in range(1, LAST_SIGNAL + 1):
            if number not in NOT_FORWARDED:
                _signal.signal(number, _noted)
        _signal.signal(SIGWINCH, _noted)
        if subreaper:
            _signal.signal(SIGCHLD, _noted)
            set_child_subreaper()
        self.saved: list[Any] | None = None

    def wait(self, pid: int, master: int = -1) -> int:
        """Return the exit code (128 + signal) of `pid`, which is a child of this process."""
        pidfd = os.pidfd_open(pid)
        try:
            self.begin_raw(master)
            self.relay(pid, pidfd, master)
            code = wait_pidfd(pidfd)
            assert code is not None
            return code
        finally:
            self.end_raw()
            os.close(pidfd)

    def relay(self, pid: int, pidfd: int, master: int) -> None:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(self.wakeup, select.POLLIN)
        if master >= 0:
            poller.register(master, select.POLLIN)
            poller.register(0, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self.wakeup in ready:
                self.forward(pid, pidfd, master)
            if master >= 0 and 0 in ready and not copy(0, master):
                poller.unregister(0)
            if master in ready and not copy(master, 1):
                poller.unregister(master)
            if pidfd in ready:
                if master >= 0:
                    os.set_blocking(master, False)
                    while copy(master, 1):
                        pass
                return

    def forward(self, pid: int, pidfd: int, master: int) -> None:
        for number in os.read(self.wakeup, CHUNK):
            if number == SIGWINCH:
                if master >= 0 and self.saved is not None:
                    tty.set_window_size(master, *tty.window_size(0))
                continue
            if number == SIGCHLD:
                reap_others(pid)
                continue
            try:
                pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                pass

    def begin_raw(self, master: int) -> None:
        """What is typed goes to the container's terminal, which does what terminals do with it."""
        if master < 0 or not os.isatty(0):
            return
        self.saved = termios.tcgetattr(0)
        raw = termios.tcgetattr(0)
        raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        termios.tcsetattr(0, termios.TCSANOW, raw)  # what is typed already counts
        tty.set_window_size(master, *tty.window_size(0))

    def end_raw(self) -> None:
        if self.saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            self.saved = None


def _noted(*_: object) -> None:
    """The number is in the wakeup pipe."""


def reap_others(pid: int) -> None:
    """Take note of the ends of all children but `pid`."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == pid:  # the last that there is to wait for
            return
        os.waitpid(ended.si_pid, 0)


def copy(source: int, target: int) -> bool:
    """Pass on what is there; False at the end. A terminal without users says EIO."""
    try:
        data = os.read(source, CHUNK)
    except OSError:
        return False
    if data:
        write_all(target, data)
    return bool(data)
