"""Want of memory: whom the kernel kills first, and noticing that it killed some of a container."""

from __future__ import annotations

import os
import select

from barque.linux import accounting
from barque.linux.cgroup import UNIFIED
from barque.linux.fs import read_bounded, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from barque.linux.cgroup import Cgroup
    from barque.shim.loop import Loop


RECHECK_S: Final = 0.1
SCORE: Final = "/proc/self/oom_score_adj"
SCORE_MAX: Final = 1000


def raise_score() -> None:
    """Have this process, and what it starts from here on, killed before the containerd that it
    has its score from: what serves all goes last. As containerd's own shims."""
    score = int(read_bounded(SCORE)) + 1
    if score <= SCORE_MAX:
        write_file(SCORE, str(score))


def directory_of(cgroup: Cgroup) -> str:
    """Raises FileNotFoundError when the group has no memory controller."""
    directory = cgroup.path(UNIFIED if cgroup.unified_only else "memory")
    if directory is None:
        raise FileNotFoundError("no memory controller")
    return directory


def has_killed(cgroup: Cgroup) -> bool:
    """Whether a process of the group was killed for want of memory. Raises OSError."""
    return accounting.oom_kills(directory_of(cgroup), cgroup.unified_only) > 0


class OomWatch:
    """Calls `told` once for each time the count of killed processes is found to have grown."""

    def __init__(
        self,
        loop: Loop,
        cgroup: Cgroup,
        told: Callable[[], None],
        saved: tuple[int, int] | None = None,
    ) -> None:
        """Raises OSError when the group has no memory controller. `saved`: as it was when `save`
        was called, by a worker that has left."""
        self._loop = loop
        self._told = told
        self._unified = cgroup.unified_only
        self._directory = directory_of(cgroup)
        self._seen = 0
        if saved is not None:
            self._fd, self._seen = saved
            if self._fd >= 0:
                self._watch()
            return
        self._fd = accounting.open_oom_events(self._directory, self._unified)
        if self._unified:
            os.read(self._fd, 4096)  # from here on it is ready only after a change
        self._watch()
        self.check()

    def save(self) -> tuple[int, int]:
        return self._fd, self._seen

    def _watch(self) -> None:
        events = select.EPOLLPRI if self._unified else select.EPOLLIN
        self._loop.watch(self._fd, events, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if self._unified:
                os.pread(self._fd, 4096, 0)
            else:
                os.read(self._fd, 8)
        except BlockingIOError:
            return
        except OSError:
            self.close()  # the group is gone
            return
        self.check()
        self._loop.after(RECHECK_S, self.check)  # version 1 tells before it kills

    def check(self) -> None:
        """Look now: at the exit of a process its event may not have come yet."""
        if self._fd < 0:
            return
        kills = accounting.oom_kills(self._directory, self._unified)
        if kills > self._seen:
            self._seen = kills
            self._told()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
