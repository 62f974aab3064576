"""Knows when much passes through a process: then its memory is kept for what comes next."""

from __future__ import annotations

from barque.linux import allocator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from barque.shim.loop import Loop

FULL_READS: Final = 8
QUIET_S: Final = 1.0


class Flood:
    """One of a loop. In a flood from `FULL_READS` reads of the largest size within `QUIET_S` to the
    first such time with none."""

    __slots__ = ("_loop", "_reads", "_timed", "high")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._reads = 0
        self._timed = False
        self.high = False

    def full_read(self) -> None:
        """A read has brought as much as it could."""
        self._reads += 1
        if not self._timed:
            self._timed = True
            self._loop.after(QUIET_S, self._look)
        if not self.high and self._reads >= FULL_READS:
            self.high = True
            allocator.keep_freed()

    def _look(self) -> None:
        self._timed = self._reads > 0
        if self._timed:
            self._reads = 0
            self._loop.after(QUIET_S, self._look)
        elif self.high:
            self.high = False
            allocator.give_back()
