from __future__ import annotations

import random

import pytest

from barque import errors
from barque.daemon.containers.names import MOODS, VESSELS, check_name, random_name


def test_random_names_are_names() -> None:
    source = random.Random(1)
    found = {random_name(source) for _ in range(200)}
    assert len(found) > 150
    assert all(check_name(name) == name for name in found)


def test_the_lists_have_no_word_twice() -> None:
    assert len(set(MOODS)) == len(MOODS)
    assert len(set(VESSELS)) == len(VESSELS)


def test_a_slash_may_lead() -> None:
    assert check_name("/web.1_a-b") == "web.1_a-b"


@pytest.mark.parametrize("name", ["a", "", "-ab", "a b", "a/b", "é1", "ab\n", "//ab", "../x"])
def test_refused_in_dockers_words(name: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=r"only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are"):
        check_name(name)
