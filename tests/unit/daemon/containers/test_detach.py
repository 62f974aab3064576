from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.daemon.containers.detach import DetachParser, parse_keys

KEYS = parse_keys("")


def test_keys() -> None:
    assert KEYS == b"\x10\x11"
    assert parse_keys("a,ctrl-@,ctrl-z,ctrl-_,ctrl-[,DEL") == b"a\x00\x1a\x1f\x1b\x7f"


@pytest.mark.parametrize(
    "text", ["ctrl-", "ctrl-1", "ab", "a,,b", "é", "ctrl-P-Q", "ctrl-A", "CTRL-z"]
)
def test_wrong_keys(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="Invalid detach keys"):
        parse_keys(text)


def test_detach_across_pieces() -> None:
    parser = DetachParser(KEYS)
    assert parser.feed(b"ab\x10") == (b"ab", False)
    assert parser.feed(b"\x11rest") == (b"", True)


def test_a_false_start_is_passed_on() -> None:
    parser = DetachParser(KEYS)
    assert parser.feed(b"\x10") == (b"", False)
    assert parser.feed(b"x") == (b"\x10x", False)
    assert parser.feed(b"\x10\x10\x11") == (b"\x10", True)


def test_a_sequence_that_overlaps_itself() -> None:
    assert DetachParser(b"aab").feed(b"aaab") == (b"a", True)


@given(st.lists(st.binary(max_size=6)), st.sampled_from([b"\x10\x11", b"aab", b"a", b"abab"]))
def test_nothing_is_lost_before_the_sequence(pieces: list[bytes], keys: bytes) -> None:
    whole, out, detached = b"".join(pieces), b"", False
    parser = DetachParser(keys)
    for piece in pieces:
        data, detached = parser.feed(piece)
        out += data
        if detached:
            break
    at = whole.find(keys)
    assert detached == (at >= 0)
    assert out == whole[:at] if detached else whole.startswith(out)
    if not detached:
        assert len(whole) - len(out) < len(keys)
