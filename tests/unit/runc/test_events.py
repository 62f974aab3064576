"""Durations as Go writes them."""

import pytest

from barque.errors import InvalidArgument
from barque.runc.commands.events import duration_ns


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5s", 5 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5s", 1_500_000_000),
        ("200ms", 200_000_000),
        ("3us", 3000),
        ("1h", 3600 * 10**9),
        ("0", 0),
        ("+7ns", 7),
    ],
)
def test_a_duration(text: str, nanoseconds: int) -> None:
    assert duration_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "1..5s", "5x", "5s5", "9" * 30 + "h", ".s"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidArgument):
        duration_ns(text)
