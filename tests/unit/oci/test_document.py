"""JSON without `json`, with `json` as the oracle."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.oci.document import dump, dump_indented, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
)


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    if "\\ud" in json.dumps(value):
        return
    assert parse(dump(value)) == value
    assert json.loads(dump(value)) == value
    assert json.loads(dump_indented(value)) == value


@given(st.text(max_size=30))
def test_text_is_taken_as_json_takes_it(text: str) -> None:
    try:
        raw = text.encode()
        expected = json.loads(raw, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(ValueError):
            parse(text.encode(errors="surrogatepass"))
    else:
        assert parse(raw) == expected


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{", b'{"a":}', b"[1,]", b"1 2", b"NaN", b"\xff", b"[" * 10**6]
)
def test_what_is_no_document(raw: bytes) -> None:
    with pytest.raises(ValueError):
        parse(raw)


def test_indented_as_go_does() -> None:
    expected = '{\n  "a": [\n    1\n  ],\n  "b": {},\n  "c": []\n}'
    assert dump_indented({"a": [1], "b": {}, "c": []}) == expected


def test_a_value_without_a_json_form() -> None:
    with pytest.raises(TypeError):
        dump({"a": object()})


def test_json_itself_is_not_loaded() -> None:
    source = Path(__file__).resolve().parents[3] / "src"
    script = (
        f"import sys; sys.path.insert(0, {str(source)!r})\n"
        "from barque.oci.document import parse, dump\n"
        "dump(parse(b'{}')); print('json' in sys.modules or 're' in sys.modules)"
    )
    argv = [sys.executable, "-I", "-S", "-c", script]
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b"False\n"
