from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from barque.cli.json_text import compact, escaped, indented

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(documents)
def test_indented_is_what_the_standard_library_makes(value: Any) -> None:
    wanted = json.dumps(value, indent=4)
    assert indented(json.dumps(value)) == wanted
    assert indented(wanted) == wanted


@given(documents)
def test_compact_is_the_same_document(value: Any) -> None:
    assert json.loads(compact(value)) == value
    assert json.loads(escaped(compact(value))) == value


def test_texts_and_numbers_stay_as_they_are() -> None:
    assert indented('{"a":"\\u003c","b":1.50,"c":"x\\\\","d":{}}') == (
        '{\n    "a": "\\u003c",\n    "b": 1.50,\n    "c": "x\\\\",\n    "d": {}\n}'
    )
