"""The keeper: the process that is the shim to everyone, and does next to nothing.

    keeper   parent and reaper of the container's processes, there from beginning to end
      |        fork with a shared table of descriptors, when something is to be done
      `----- worker   what a shim does (`barque.shim.shim`), with the state that the last one left
               after some quiet: leaves its state, ends; the keeper waits for the next event

A process that runs Python makes pages its own by counting references on them: 3 MB in a worker, 0.2
in a keeper, which makes bare system calls only (`barque.linux.bare`) and waits on what the worker
watched. A worker that ends in any other way than by leaving its state ends the shim, as a killed
shim always did: containerd cleans up after it. The two end together: a worker gets SIGKILL when its
keeper dies.

Statuses of the dead go through a pipe, which the worker watches: they wait there while there is no
worker, and wake one.
"""

from __future__ import annotations

import os
import time

from barque.linux import bare
from barque.linux.process import CLONE_FILES, CLONE_FS, set_parent_death_signal
from barque.shim.ground import HANDLED, REPORT, Ground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, NoReturn

    Work = Callable[[Ground], int]

NAME: Final = "barque-shim"
PARKED: Final = 75  # a worker's exit code: its state is left, wait for the next event
FAILED: Final = 1
SIGKILL: Final = 9
SIGCHLD: Final = 17
AGAIN_S: Final = 0.1
FORK: Final = SIGCHLD | CLONE_FS | CLONE_FILES
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36
SIG_BLOCK: Final = 0
WNOHANG: Final = 1
ONE_EVENT_BYTES: Final = 16


class Keeper:
    """`first` and `later` are workers' whole lives, to their exit codes; only a `later` one finds
    the state of another. Made in the process that keepers are forked from, for all of them."""

    def __init__(self, ground: Ground, first: Work, later: Work) -> None:
        self._ground = ground
        self._first = first
        self._later = later
        self._name = bare.Memory(f"{NAME}\0".encode())
        self._actions = [(number, bare.handled_by_nothing(number)) for number in HANDLED]
        self._blocked = bare.signal_set(SIGCHLD)
        self._none = bare.signal_set()
        self._event = bare.Memory(bytes(ONE_EVENT_BYTES))
        self._report = bare.Numbers(2)  # as REPORT has it

    def keep(self) -> NoReturn:
        """Be the keeper from here on. The caller has one thread.

        Each object that is touched here may be a page of every shim's own: hence the straight line,
        and no names but local ones.
        """
        call, ground = bare.call, self._ground
        wait4, report = bare.WAIT4, self._report.cells
        status_at = self._report.address + bare.INT_SIZE
        call(bare.SETSID, 0, 0, 0, 0, 0, 0)
        call(bare.PRCTL, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0)
        call(bare.PRCTL, PR_SET_NAME, self._name.address, 0, 0, 0, 0)
        call(bare.RT_SIGPROCMASK, SIG_BLOCK, self._blocked.address, 0, bare.SIGSET_SIZE, 0, 0)
        for number, action in self._actions:
            call(bare.RT_SIGACTION, number, action.address, 0, bare.SIGSET_SIZE, 0, 0)
        me = call(bare.GETPID, 0, 0, 0, 0, 0, 0)
        work = self._first
        while True:
            worker = call(bare.CLONE, FORK, 0, 0, 0, 0, 0)
            if worker == 0:
                self._work(work, me)
            if worker < 0:  # no process or no memory: what is to be done stays to be done
                time.sleep(AGAIN_S)
                continue
            # its end, and before that of whoever else has fallen to us
            while (ended := call(wait4, -1, status_at, 0, 0, 0, 0)) != worker:
                if ended > 0:
                    self._tell(ended)
            if report[1] != PARKED << 8:
                os._exit(report[1] >> 8 or (FAILED if report[1] else 0))
            # the next event: a signal cannot come between the look and the wait, but in it
            while (ended := call(wait4, -1, status_at, WNOHANG, 0, 0, 0)) <= 0:
                event = self._event.address
                epoll, empty = ground.epoll_fd, self._none.address
                if call(bare.EPOLL_PWAIT, epoll, event, 1, -1, empty, bare.SIGSET_SIZE) > 0:
                    break
            if ended > 0:
                self._tell(ended)
            work = self._later

    def _tell(self, pid: int) -> None:
        """The worker: `pid` has ended, with the status that was last taken."""
        self._report.cells[0] = pid
        call, size = bare.call, REPORT.size
        call(bare.WRITE, self._ground.told, self._report.address, size, 0, 0, 0)

    def _work(self, work: Work, keeper: int) -> NoReturn:
        code = FAILED
        try:
            set_parent_death_signal(SIGKILL)
            if os.getppid() == keeper:  # else it died before it was asked for
                self._ground.take(keeper, first=work == self._first)
                code = work(self._ground)
        finally:
            os._exit(code)
