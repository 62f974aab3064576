from __future__ import annotations

import pytest

from barque import errors
from barque.cli import values


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", 1024),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("1 g", 1 << 30),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert values.size(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x", "-1", "1kbb", "1bb", "1.2.3", "1kib5", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        values.size(text)


@pytest.mark.parametrize(
    ("text", "nano"),
    [("1.5", 1_500_000_000), (".5", 500_000_000), ("2", 2_000_000_000), ("-1", -1_000_000_000)],
)
def test_decimals(text: str, nano: int) -> None:
    assert values.decimal_nano(text) == nano


@pytest.mark.parametrize("text", ["", "a", "1.0000000001", "1e5", "."])
def test_what_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        values.decimal_nano(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("300ms", 300_000_000),
        ("1m30s", 90_000_000_000),
        ("1.5h", 5_400_000_000_000),
        ("-2s", -2_000_000_000),
        ("1us2ns", 1002),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert values.duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
    ],
)
def test_what_is_no_duration_is_refused(text: str, message: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=message):
        values.duration_ns(text)


def test_integers_have_their_bounds() -> None:
    assert values.int64("-5") == -5
    assert values.uint16("65535") == 65535
    for parser, text in ((values.uint16, "65536"), (values.int64, "9" * 30)):
        with pytest.raises(errors.InvalidArgument, match="value out of range"):
            parser(text)
    for parser, text in ((values.uint64, "-1"), (values.int64, "1.5"), (values.int64, "")):
        with pytest.raises(errors.InvalidArgument, match="invalid syntax"):
            parser(text)


def test_unlimited_swap() -> None:
    assert values.size_or_unlimited("-1") == -1
    assert values.size_or_unlimited("1k") == 1024
