"""protobuf's numbers, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.oci.varint import U64, read_varint, varint


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (0, b"\0"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (U64, b"\xff" * 9 + b"\1"),
    ],
)
def test_known_numbers(value: int, raw: bytes) -> None:
    assert varint(value) == raw
    assert read_varint(b"x" + raw + b"x", 1, 1 + len(raw)) == (value, 1 + len(raw))


@given(st.integers(0, U64))
def test_any_number(value: int) -> None:
    raw = varint(value)
    assert read_varint(raw, 0, len(raw)) == (value, len(raw))
    with pytest.raises(ValueError, match="truncated"):
        read_varint(raw, 0, len(raw) - 1)


def test_a_number_without_end() -> None:
    with pytest.raises(ValueError, match="over-long"):
        read_varint(b"\x80" * 10 + b"\1", 0, 11)
