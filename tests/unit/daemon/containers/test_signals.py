from __future__ import annotations

import pytest

from barque import errors
from barque.daemon.containers.signals import parse


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigkill", 9),
        ("9", 9),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("64", 64),
        ("CLD", 17),
    ],
)
def test_names_and_numbers(text: str, number: int) -> None:
    assert parse(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-9", "FOO", "RTMIN+99", "RTMAX-40", "9999999999", "SIGSIGKILL", "9.0"]
)
def test_anything_else(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="Invalid signal"):
        parse(text)
