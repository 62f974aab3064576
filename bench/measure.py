"""Timing in turns: every contender once a round, so that noise falls on all alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report. `ratio` is ours over the peer's; `bound` what it must stay under."""

    name: str
    ours: float
    peer: float
    unit: str
    bound: float | None = None
    at_least: bool = False  # the ratio must be over the bound instead

    @property
    def ratio(self) -> float:
        return self.ours / self.peer if self.peer else float("inf")

    @property
    def good(self) -> bool:
        if self.bound is None:
            return True
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound

    def line(self) -> str:
        sign = "at least" if self.at_least else "at most"
        bound = "" if self.bound is None else f"{sign} {self.bound:g}"
        verdict = "" if self.bound is None else ("ok" if self.good else "MISSED")
        return (
            f"{self.name:44} {self.ours:10.2f} {self.peer:10.2f} {self.unit:6} "
            f"{self.ratio:7.2f}  {bound:14} {verdict}"
        )


def heading() -> str:
    return f"{'':44} {'barque':>10} {'peer':>10} {'':6} {'ratio':>7}"


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2
) -> dict[str, float]:
    """Median milliseconds of each contender over `rounds`, after `warm_up` rounds not counted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + rounds):
        for name, call in contenders.items():
            before = time.perf_counter()
            call()
            if turn >= warm_up:
                times[name].append((time.perf_counter() - before) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def pss_kib(pids: Iterable[int]) -> int:
    """The proportional set size of these processes together."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def workers(shim: int) -> list[int]:
    """The children of a shim that are parts of it: ours has one while there is something to do."""
    name = Path(f"/proc/{shim}/comm").read_text()
    children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == name]


def processes_naming(text: str) -> list[int]:
    """The pids whose command line contains `text`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]
