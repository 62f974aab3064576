from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.api.frames import STDERR, STDOUT, FrameReader, frame


def joined(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """What a reader gives for `pieces`, neighbours of one stream together."""
    reader = FrameReader()
    found: list[tuple[int, bytes]] = []
    for piece in pieces:
        for stream, payload in reader.feed(piece):
            if found and found[-1][0] == stream:
                found[-1] = (stream, found[-1][1] + bytes(payload))
            else:
                found.append((stream, bytes(payload)))
    assert reader.whole
    return found


def test_a_frame_has_eight_bytes_of_header() -> None:
    assert frame(STDERR, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=40))),
    st.integers(1, 9),
)
def test_frames_come_out_however_they_are_cut(frames: list[tuple[int, bytes]], size: int) -> None:
    wire = b"".join(frame(stream, payload) for stream, payload in frames)
    cut = [wire[at : at + size] for at in range(0, len(wire), size)]
    assert joined(cut) == joined([wire])
    for stream in (STDOUT, STDERR):
        wanted = b"".join(payload for number, payload in frames if number == stream)
        assert b"".join(payload for number, payload in joined(cut) if number == stream) == wanted


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40))),
    st.integers(1, 90),
)
def test_runs_are_what_pieces_are(frames: list[tuple[int, bytes]], size: int) -> None:
    wire = b"".join(frame(stream, payload) for stream, payload in frames)
    cut = [wire[at : at + size] for at in range(0, len(wire), size)]
    reader = FrameReader()
    found = [run for piece in cut for run in reader.runs(piece)]
    assert reader.whole
    assert all(payload for _, payload in found)
    for stream in (STDOUT, STDERR):
        wanted = b"".join(payload for number, payload in joined(cut) if number == stream)
        assert b"".join(payload for number, payload in found if number == stream) == wanted


def test_an_empty_frame_gives_nothing() -> None:
    assert joined([frame(STDOUT, b"") + frame(STDERR, b"x")]) == [(STDERR, b"x")]


def test_what_is_not_a_header_is_refused() -> None:
    with pytest.raises(errors.DataLoss):
        list(FrameReader().feed(b"plain text without frames"))
    runs = FrameReader().runs(frame(STDERR, b"said") + b"plain text without frames")
    assert next(runs) == (STDERR, b"said")
    with pytest.raises(errors.DataLoss):
        next(runs)


def test_a_cut_stream_is_not_whole() -> None:
    reader = FrameReader()
    list(reader.feed(frame(STDOUT, b"abc")[:-1]))
    assert not reader.whole


def test_neighbours_of_one_stream_come_together() -> None:
    lines = [(STDOUT, b"a\n"), (STDOUT, b"b\n"), (STDERR, b"c\n"), (STDOUT, b"d\n")]
    wire = b"".join(frame(stream, line) for stream, line in lines)
    assert list(FrameReader().runs(wire)) == [(1, b"a\nb\n"), (2, b"c\n"), (1, b"d\n")]


def test_what_comes_before_a_damaged_header_is_given() -> None:
    runs = FrameReader().runs(frame(STDERR, b"a\n") + b"plain text")
    assert next(runs) == (STDERR, b"a\n")
    with pytest.raises(errors.DataLoss):
        next(runs)
