from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.errors import InvalidArgument
from barque.shim import hello


def test_a_hello_in_pieces_and_what_follows_it() -> None:
    opening = hello.Opening()
    assert opening.feed(b'{"stdin": true, ') is None
    opened = opening.feed(b'"stdout": true}\nrest\n')
    assert opened is not None
    said, rest = opened
    assert rest == b"rest\n"
    assert (said.stdin, said.stdout, said.stderr, said.lossy) == (True, True, False, False)
    assert said.wants(1)
    assert not said.wants(2)


@pytest.mark.parametrize("line", [b"", b"x", b"[]", b'{"stdin": 1}', b'{"x": true}', b"\xff"])
def test_bad_lines(line: bytes) -> None:
    with pytest.raises(InvalidArgument):
        hello.Opening().feed(line + b"\n")


def test_an_endless_line() -> None:
    with pytest.raises(InvalidArgument, match="too long"):
        hello.Opening().feed(b"x" * (hello.HELLO_BYTES_MAX + 1))


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(InvalidArgument):
        hello.Opening().feed(data)


def test_frames() -> None:
    assert hello.frame(2, b"abc") == b"\2\0\0\0\0\0\0\3abc"
    assert hello.accepted(True) == b'{"ok": true, "tty": true}\n'
    assert hello.refused('a "b"') == b'{"error":"a \\"b\\""}\n'
