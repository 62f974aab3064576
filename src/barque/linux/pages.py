"""Pages of this process: which are its own alone, and making them so. proc(5), madvise(2)."""

from __future__ import annotations

import os

from barque.linux import bare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    Span = tuple[int, int]  # from an address, bytes

SIZE = os.sysconf("SC_PAGESIZE")
ENTRY_BYTES: Final = 8  # of a page in pagemap
PRESENT: Final = 1 << 63
SHARED: Final = 1 << 61  # of a file, or shared on purpose
ALONE: Final = 1 << 56
MADV_POPULATE_WRITE: Final = 23  # Linux 5.14


def written() -> list[Span]:
    """The mappings that it may write to and shares with nobody on purpose, without its stack."""
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            place, letters, *rest = line.split()
            if letters.startswith("rw") and letters.endswith("p") and rest[-1] != "[stack]":
                first, end = (int(text, 16) for text in place.split("-"))
                found.append((first, end - first))
    return found


def alone(spans: Iterable[Span]) -> list[Span]:
    """The parts of `spans` whose pages no other process has: neither parent nor child."""
    found: list[Span] = []
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for first, length in spans:
            raw = os.pread(pagemap, length // SIZE * ENTRY_BYTES, first // SIZE * ENTRY_BYTES)
            for number, entry in enumerate(memoryview(raw).cast("Q")):
                if entry & (PRESENT | SHARED | ALONE) == PRESENT | ALONE:
                    at = first + number * SIZE
                    if found and sum(found[-1]) == at:
                        found[-1] = (found[-1][0], found[-1][1] + SIZE)
                    else:
                        found.append((at, SIZE))
    finally:
        os.close(pagemap)
    return found


def make_own(address: int, length: int) -> None:
    """What a write to each of these pages would do; nothing on a kernel that does not know it."""
    bare.call(bare.MADVISE, address, length, MADV_POPULATE_WRITE, 0, 0, 0)
