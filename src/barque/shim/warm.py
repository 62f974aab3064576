"""The pages that shims write to, made a spare one's own before it is needed.

A process forked from a warm one copies each page that it writes to, and in Python that is each page
with an object whose references it counts: some 600 of 1500, 2 ms of a start. They are the same
for every shim, because all have the same memory at the same addresses: the first few that leave
note them where the next ones look.
"""

from __future__ import annotations

import mmap

from barque.linux import pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

TRIES: Final = 4  # one may have had little to do
MOST_SPANS: Final = 510
TRIED, COUNT, FIRST = range(3)  # of the note: then address and length of each span


class Warm:
    """Made in the process that shims are forked from; all of them see one note."""

    def __init__(self) -> None:
        self._mappings = pages.written()
        self._note = memoryview(mmap.mmap(-1, (FIRST + 2 * MOST_SPANS) * 8)).cast("Q")

    def note(self) -> None:
        """Write down what this shim has made its own, where the ones before it did less."""
        note = self._note
        if note[TRIED] == TRIES:
            return
        note[TRIED] += 1
        spans = pages.alone(self._mappings)[:MOST_SPANS]
        if sum(length for _, length in spans) > sum(length for _, length in self.noted()):
            for at, span in enumerate(spans):
                note[FIRST + 2 * at], note[FIRST + 2 * at + 1] = span
            note[COUNT] = len(spans)

    def noted(self) -> list[pages.Span]:
        end = FIRST + 2 * self._note[COUNT]
        return [(self._note[at], self._note[at + 1]) for at in range(FIRST, end, 2)]

    def up(self) -> None:
        """Make what is noted this process's own, which takes as long as copying it."""
        for address, length in self.noted():
            pages.make_own(address, length)
