"""What a spare shim makes before it is needed: its pages, and a network namespace.

A process forked from a warm one copies each page that it writes to, and in Python that is each page
with an object whose references it counts: some 600 of 1500, 2 ms of a start. They are the same
for every shim, because all have the same memory at the same addresses: the first few that leave
note them where the next ones look. So does the last one whether its container wanted a network
namespace of its own, which takes the kernel 0.7 ms.

When a shim has forked its container's process, each has to copy again what it writes to. The shim
does it all at once, while it would wait for that process.
"""

from __future__ import annotations

import mmap
import os

from barque.linux import pages
from barque.linux.namespaces import CLONE_NEWNET, setns, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

TRIES: Final = 4  # one may have had little to do
MOST_SPANS: Final = 510
NETWORK, TRIED, COUNT, FIRST = range(4)  # of the note: then address and length of each span
OWN_NETWORK: Final = "/proc/self/ns/net"


class Warm:
    """Made in the process that shims are forked from; all of them see one note."""

    def __init__(self) -> None:
        self._mappings = pages.written()
        self._note = memoryview(mmap.mmap(-1, (FIRST + 2 * MOST_SPANS) * 8)).cast("Q")

    def note(self, *, network: bool) -> None:
        """Write down what this shim has made its own, where the ones before it did less, and
        whether it had use for a `network` namespace."""
        note = self._note
        note[NETWORK] = network
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

    def network(self) -> int:
        """A new network namespace, if the last shim had use for one; -1: none."""
        if not self._note[NETWORK]:
            return -1
        own = os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWNET)
            made = os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
            setns(own, CLONE_NEWNET)
        except PermissionError:
            return -1
        finally:
            os.close(own)
        return made
