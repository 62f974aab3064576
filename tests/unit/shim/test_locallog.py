"""Records of Docker's `local` driver, against records that dockerd wrote, and read back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.daemon.containers.log_local import LocalFormat
from barque.shim.framing import Newlines, Sizes
from barque.shim.jsonlines import LINE_BYTES_MAX
from barque.shim.locallog import Records

# dockerd 20.10.24, `echo one; echo; printf 'no end' >&2`
ONE = bytes.fromhex("0a067374646f75741096e2d59ba0e4fff4181a036f6e65")
EMPTY = bytes.fromhex("0a067374646f757410e3b6db9ba0e4fff418")


def framed(entry: bytes) -> bytes:
    size = len(entry).to_bytes(4, "big")
    return size + entry + size


def number(entry: bytes) -> int:
    """time_nano of an entry of standard output."""
    return sum((byte & 0x7F) << 7 * index for index, byte in enumerate(entry[9:18]))


def test_lines_as_dockerd_writes_them() -> None:
    assert Records(1).feed(b"one\n", number(ONE)) == framed(ONE)
    assert Records(1).feed(b"\n", number(EMPTY)) == framed(EMPTY)


def test_parts_as_dockerd_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"\xab" * size)
    identity = b"\x12@" + b"ab" * 32
    records = Records(2)
    text = b"x" * 20000
    out = records.feed(text[:9000], 5) + records.feed(text[9000:] + b"\nend", 5) + records.end(5)
    head = b"\x0a\x06stderr\x10\x05\x1a"
    assert out == b"".join(
        (
            framed(head + b"\x80\x80\x01" + text[:16384] + b" \x01*D" + identity + b"\x18\x01"),
            framed(head + b"\xa0\x1c" + text[16384:] + b" \x01*F\x08\x01" + identity + b"\x18\x02"),
            framed(head + b"\x03end" + b" \x01*D" + identity + b"\x18\x01"),
        )
    )


pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\n", b"a\nb\n", b"x" * LINE_BYTES_MAX, b"y" * (LINE_BYTES_MAX + 1)]),
    ),
    max_size=12,
)


@given(pieces)
def test_what_is_written_is_read(parts: list[bytes]) -> None:
    records = Records(1)
    out = b"".join([records.feed(part, 1_700_000_000_123_456_789) for part in parts])
    lines = LocalFormat().decode(out + records.end(1_700_000_000_123_456_789))
    text = "".join(line.log for line in lines).encode("utf-8", "surrogateescape")
    assert text == b"".join(parts)
    assert {line.stream for line in lines} <= {"stdout"}
    assert {line.time for line in lines} <= {"2023-11-14T22:13:20.123456789Z"}


@given(pieces, st.integers(min_value=0, max_value=70000))
def test_records_are_cut_where_they_end(parts: list[bytes], room: int) -> None:
    records = Records(1)
    out = b"".join([records.feed(part, 7) for part in parts])
    ends = [0]
    while ends[-1] < len(out):
        ends.append(ends[-1] + 8 + int.from_bytes(out[ends[-1] : ends[-1] + 4], "big"))
    within, until = Sizes().within(out, room), Sizes().until(out, room)
    assert within == max(end for end in ends if end <= room)
    later = [end for end in ends if end >= room and end]
    assert until == (later[0] if later else ends[-1])
    assert Sizes().count(out, within) == len([end for end in ends if end > within])


@given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=9),
       st.integers(min_value=0, max_value=99))  # fmt: skip
def test_lines_are_cut_where_they_end(lines: list[bytes], room: int) -> None:
    out = b"".join([line + b"\n" for line in lines])
    ends = [0]
    for line in lines:
        ends.append(ends[-1] + len(line) + 1)
    assert Newlines().within(out, room) == max(end for end in ends if end <= room)
    later = [end for end in ends if end >= room and end]
    assert Newlines().until(out, room) == (later[0] if later else ends[-1])


@given(st.binary(max_size=200))
def test_damaged_records_end_the_reading(data: bytes) -> None:
    good = Records(1).feed(b"good\n", 9)
    lines = LocalFormat().decode(good + data)
    assert lines[0].log == "good\n"
