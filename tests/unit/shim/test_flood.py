"""A flood begins with many full reads and ends with a time without one."""

from collections.abc import Callable

import pytest

from barque.linux import allocator
from barque.shim.flood import FULL_READS, QUIET_S, Flood


class Clock:
    """The loop's deadlines, run by the test."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        assert seconds == QUIET_S
        self.due.append(callback)

    def pass_time(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(allocator, "keep_freed", lambda: calls.append("keep"))
    monkeypatch.setattr(allocator, "give_back", lambda: calls.append("give back"))
    return calls


def test_a_flood(said: list[str]) -> None:
    clock = Clock()
    flood = Flood(clock)  # type: ignore[arg-type]
    for _ in range(3 * FULL_READS):
        flood.full_read()
    assert said == ["keep"]
    clock.pass_time()
    flood.full_read()
    clock.pass_time()
    assert said == ["keep"]
    clock.pass_time()
    assert said == ["keep", "give back"]
    assert clock.due == []


def test_a_few_full_reads_are_none(said: list[str]) -> None:
    clock = Clock()
    flood = Flood(clock)  # type: ignore[arg-type]
    for _ in range(3):
        for _ in range(FULL_READS - 1):
            flood.full_read()
        clock.pass_time()
    clock.pass_time()
    assert said == []
    assert clock.due == []
