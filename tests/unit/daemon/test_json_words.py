"""Words for bodies that are no JSON; those of dockerd itself are compared in the interop tests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.daemon.http import json_words

ANY = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY)
def test_what_is_json_has_no_fault(value: Any) -> None:
    raw = json.dumps(value).encode()
    assert json_words.fault(raw + b" ") == ""
    assert json_words.ends(raw + b" x") == len(raw)


@given(st.binary())
def test_whatever_it_is_there_are_words_or_it_is_json(raw: bytes) -> None:
    if not json_words.fault(raw):
        json.loads(raw[: json_words.ends(raw)].decode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "unexpected EOF"),
        (b"-", "unexpected EOF"),
        (b"[" * 100_000, "unexpected EOF"),
        (b"[1}", "invalid character '}' after array element"),
        (b"\\", "invalid character '\\\\' looking for beginning of value"),
        (b"1 2", ""),
    ],
)
def test_some_that_are_none(raw: bytes, words: str) -> None:
    assert json_words.fault(raw) == words
