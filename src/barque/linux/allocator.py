"""The C library's allocator: whether what a program lets go of goes back to the kernel at once.

Source: mallopt(3), malloc_trim(3). A program that passes large buffers on otherwise gives each one
back and has its pages cleared for the next: more than half of the time of such a program. A C
library without these calls keeps its own ways.
"""

from __future__ import annotations

from barque.linux.libc import libc

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEPT_BYTES = 8 << 20
MAPPED_BYTES = 4 << 20
USUAL_BYTES = 128 << 10

_mallopt = getattr(libc, "mallopt", None)
_malloc_trim = getattr(libc, "malloc_trim", None)


def keep_freed() -> None:
    """Keep up to `KEPT_BYTES` that were let go of for the next use."""
    _set(KEPT_BYTES, MAPPED_BYTES)


def give_back() -> None:
    """Give what is not used to the kernel, now and from here on."""
    _set(USUAL_BYTES, USUAL_BYTES)
    trim()


def trim() -> None:
    """Give what is not used to the kernel, now."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def _set(trim: int, mapped: int) -> None:
    if _mallopt is not None:
        _mallopt(M_TRIM_THRESHOLD, trim)
        _mallopt(M_MMAP_THRESHOLD, mapped)
