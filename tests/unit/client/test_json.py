from __future__ import annotations

import json as standard
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import barque
from barque.client import json

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(documents.filter(lambda value: "inf" not in repr(value)))
def test_it_agrees_with_the_standard_library(value: Any) -> None:
    assert standard.loads(json.dumps(value)) == value
    assert json.loads(standard.dumps(value)) == value
    assert json.loads(" \n" + standard.dumps(value, indent=2) + "\n") == value


def test_documents_one_after_the_other() -> None:
    assert json.first(b'{"a": 1} {"b": 2}') == ({"a": 1}, ' {"b": 2}')


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "[1,]", "{} x", "NaN", '"a', "tru"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json.loads(text)


def test_what_json_has_not_is_refused() -> None:
    with pytest.raises(TypeError):
        json.dumps({"a": {1, 2}})
    with pytest.raises(ValueError):
        json.dumps(float("nan"))


@pytest.mark.parametrize("text", ["{", "[1,", '{"a" 1}', '"\\x"', "[" * 100_000])
def test_what_breaks_off_is_refused_without_the_json_package(text: str) -> None:
    """The C scanner cannot raise json's own error where nobody has loaded it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from barque.client.json import first\n"
        "assert 'json' not in sys.modules\n"
        "try: first(sys.stdin.read())\n"
        "except ValueError as error: print('refused', error)\n"
    )
    source = str(Path(barque.__file__).parents[1])
    argv = [sys.executable, "-I", "-S", "-c", code, source]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused ")
