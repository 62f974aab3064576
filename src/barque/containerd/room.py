"""Space on a disk, asked for before it is used: a disk that is full harms everybody on it.

What a layer or a blob may take ends a little before the disk does, so that to give it up, and what
others do meanwhile, still works.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from barque.errors import ResourceExhausted

KEPT_BYTES = 32 << 20  # left over, where the disk is a hundred times as large
Room = Callable[[int | str, int, str], None]


def check_room(place: int | str, wanted: int, what: str) -> None:
    """Raises ResourceExhausted where `wanted` more bytes have no room on the disk of `place`."""
    found = os.statvfs(place)
    kept = min(KEPT_BYTES, found.f_blocks * found.f_frsize // 100)
    free = found.f_bavail * found.f_frsize
    if found.f_blocks and wanted > free - kept:
        raise ResourceExhausted(
            f"no space left on device for {what}: {wanted} bytes more, {free} are free"
        )
