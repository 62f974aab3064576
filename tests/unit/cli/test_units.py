from __future__ import annotations

import pytest

from barque.cli import units


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1982617, "1.98MB"), (10**9, "1GB"), (123456, "123kB")],
)
def test_sizes(count: int, text: str) -> None:
    assert units.size(count) == text


def test_binary_sizes() -> None:
    assert units.binary_size(64 << 20) == "64MiB"
    assert units.binary_size(25276502016) == "23.54GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (5 * 3600, "5 hours"),
        (3 * 86400, "3 days"),
        (15 * 86400, "2 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_identifiers_and_cells() -> None:
    assert units.short_id("sha256:" + "ab" * 32) == "abababababab"
    assert units.short_id("0123456789abcdef") == "0123456789ab"
    assert units.ellipsis("abcdef", 4) == "abc…"
    assert units.ellipsis("abcd", 4) == "abcd"
    assert units.quoted('a"b\n\\é\x01') == '"a\\"b\\n\\\\é\\x01"'
