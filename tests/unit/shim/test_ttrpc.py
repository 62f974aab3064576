from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.shim import ttrpc


def one(data: bytes) -> ttrpc.Frame:
    (frame,) = ttrpc.Parser().feed(data)
    return frame


def test_a_request_on_the_wire() -> None:
    raw = ttrpc.request(3, "s", "m", b"pp", timeout_ns=5, metadata=(("k", "v"),))
    body = b"\x0a\x01s\x12\x01m\x1a\x02pp\x20\x05\x2a\x06\x0a\x01k\x12\x01v"
    assert raw == len(body).to_bytes(4, "big") + b"\0\0\0\3\1\0" + body
    frame = one(raw)
    assert (frame.stream, frame.kind, frame.flags) == (3, ttrpc.REQUEST, 0)
    assert ttrpc.parse_request(frame.data) == {
        "service": "s",
        "method": "m",
        "payload": b"pp",
        "timeout_nano": 5,
        "metadata": [{"key": "k", "value": "v"}],
    }


def test_a_response() -> None:
    frame = one(ttrpc.response(7, b"answer"))
    assert (frame.stream, frame.kind) == (7, ttrpc.RESPONSE)
    assert ttrpc.parse_response(frame.data) == b"answer"


@pytest.mark.parametrize("kind", ttrpc.CODES)
def test_kinds_of_error_cross_the_wire(kind: type[errors.BarqueError]) -> None:
    frame = one(ttrpc.failure(1, kind("what failed")))
    with pytest.raises(kind, match="what failed"):
        ttrpc.parse_response(frame.data)


def test_other_errors_become_unknown() -> None:
    assert ttrpc.code_of(KeyError("x")) == ttrpc.UNKNOWN
    assert ttrpc.code_of(errors.AlreadyExists("x")) == 6
    frame = one(ttrpc.failure(1, ValueError()))
    with pytest.raises(errors.BarqueError, match="ValueError"):
        ttrpc.parse_response(frame.data)


@given(st.lists(st.binary(max_size=50), max_size=5), st.data())
def test_frames_survive_any_cutting(payloads: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(ttrpc.frame(2 * n + 1, ttrpc.REQUEST, p) for n, p in enumerate(payloads))
    parser = ttrpc.Parser()
    got: list[bytes] = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        got += [frame.data for frame in parser.feed(raw[:size])]
        raw = raw[size:]
    assert got == payloads


def test_a_frame_that_is_too_long_is_refused_on_both_sides() -> None:
    header = ttrpc.HEADER.pack(ttrpc.DATA_LENGTH_MAX + 1, 1, ttrpc.REQUEST, 0)
    with pytest.raises(errors.ResourceExhausted):
        ttrpc.Parser().feed(header)
    with pytest.raises(errors.ResourceExhausted):
        ttrpc.frame(1, ttrpc.REQUEST, bytes(ttrpc.DATA_LENGTH_MAX + 1))
