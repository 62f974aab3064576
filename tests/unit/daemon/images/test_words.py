"""Words of a Dockerfile's instructions, by the examples of its reference and the edges of them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.daemon.images.words import expanded, split

VARIABLES = {"foo": "/bar", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$foo", "/bar"),
        ("${foo}x", "/barx"),
        ("$foox", ""),
        (r"\$foo \${foo}", "$foo ${foo}"),
        ("'$foo'", "$foo"),
        ('"$foo"', "/bar"),
        (r'"\$foo \" \x"', r'$foo " \x'),
        ("${none:-word}${none-word}", "wordword"),
        ("${empty:-word}${empty-word}", "word"),
        ("${foo:+word}${foo+word}${none+word}${empty:+word}${empty+word}", "wordwordword"),
        ("${none:-${foo}/$foo}", "/bar//bar"),
        ("${foo:?why}", "/bar"),
        ("$", "$"),
        ("$ x", "$ x"),
        ("$1x", "x"),
        ("a\\", "a"),
        ("", ""),
    ],
)
def test_what_words_mean(text: str, expected: str) -> None:
    assert expanded(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("'x", "single-quote"),
        ('"x', "double-quote"),
        ("${foo", "missing"),
        ("${}", "bad substitution"),
        ("${none:?why}", "none: why"),
        ("${foo:=x}", "unsupported modifier"),
        ("${a-" * 100, "nested too deeply"),
    ],
)
def test_what_means_nothing(text: str, words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=words):
        expanded(text, VARIABLES)


def test_words_are_split_where_nothing_quotes() -> None:
    assert split(r"""a 'b c'  "d e"f g\ h """) == ["a", "'b c'", '"d e"f', r"g\ h"]
    assert split("  ") == []


@given(st.text(alphabet="a$ {}:-+?'\"\\", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    for word in split(text):
        with suppress(errors.InvalidArgument):
            expanded(word, VARIABLES)
