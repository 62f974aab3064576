"""Points in time and durations, as Go writes and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.daemon import moments

NS = 1_000_000_000


def test_seconds_of_a_document() -> None:
    assert moments.unix_seconds("1970-01-01T00:01:00Z") == 60
    assert moments.unix_seconds("1970-01-01T00:01:00.123456789Z") == 60
    assert moments.unix_seconds("1970-01-01T01:01:00+01:00") == 60
    assert moments.unix_seconds("nonsense") == 0
    assert moments.unix_seconds(None) == 0
    assert moments.unix_seconds(moments.ZERO) < 0


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (60 * NS + 1, "1970-01-01T00:01:00.000000001Z"),
        (60 * NS + 120_000_000, "1970-01-01T00:01:00.12Z"),
        (60 * NS, "1970-01-01T00:01:00Z"),
    ],
)
def test_no_trailing_zeros(time_ns: int, text: str) -> None:
    assert moments.rfc3339(time_ns) == text


@given(st.integers(min_value=0, max_value=4_000_000_000 * NS))
def test_what_is_written_is_read_again(time_ns: int) -> None:
    assert moments.parse_rfc3339(moments.rfc3339(time_ns)) == time_ns


def test_the_zero_time() -> None:
    assert moments.parse_rfc3339(moments.ZERO) == 0


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [("1h30m", 5400 * NS), ("1.5s", 1_500_000_000), ("10ms", 10_000_000), ("5µs", 5000)],
)
def test_durations(text: str, time_ns: int) -> None:
    assert moments.duration_ns(text) == time_ns


@pytest.mark.parametrize("text", ["", "h", "1", "1h 3m", "1x", "-1h"])
def test_no_duration(text: str) -> None:
    assert moments.duration_ns(text) is None


def test_until() -> None:
    assert moments.until("1h30m", 10_000.0) == 4600.0
    assert moments.until("1700000000", 0.0) == 1_700_000_000.0
    assert moments.until("1970-01-01T00:01:00Z", 0.0) == 60.0
    with pytest.raises(errors.InvalidArgument, match="until=yesterday"):
        moments.until("yesterday", 0.0)


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (50_000_000, "50ms"),
        (1_500_000_000, "1.5s"),
        (30_000_000_000, "30s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
        (5_400_000_000_001, "1h30m0.000000001s"),
        (-2_500_000, "-2.5ms"),
        (-60_000_000_000, "-1m0s"),
    ],
)
def test_a_duration_as_go_prints_it(value_ns: int, text: str) -> None:
    assert moments.duration_text(value_ns) == text
