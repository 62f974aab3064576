"""What the engine counts of its own work, for `/metrics`. The names and bounds are dockerd's."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

ACTIONS = ("changes", "commit", "create", "delete", "start")
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """How many took how long."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Each bound, and how many took at most so long."""
        below = 0
        for bound, count in zip((*BOUNDS_S, None), self._counts, strict=True):
            below += count
            yield "+Inf" if bound is None else f"{bound:g}", below


class Measures:
    def __init__(self) -> None:
        self.actions = {name: Histogram() for name in ACTIONS}
        self.health_checks = 0
        self.health_checks_failed = 0
        """Those that could not be run; what an unhealthy container answers is not among them."""

    @contextmanager
    def timed(self, action: str) -> Iterator[None]:
        """Counts what the block does, unless it fails."""
        before = time.perf_counter()
        yield
        self.actions[action].observe(time.perf_counter() - before)
