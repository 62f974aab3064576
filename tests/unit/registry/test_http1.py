"""Responses of HTTP/1.1: any split of the bytes gives the same, and lies are found out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.registry.http1 import MAX_HEAD_BYTES, ResponseParser, request_head

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
CLOSED = b"HTTP/1.0 200 OK\r\n\r\nhello"


def parsed(pieces: list[bytes], *, end: bool = True, head_only: bool = False) -> ResponseParser:
    parser = ResponseParser(head_only=head_only)
    for piece in pieces:
        if not parser.finished:
            parser.feed(piece)
    if end and not parser.finished:
        parser.feed(b"")
    return parser


@given(st.sampled_from([OK, CHUNKED, CLOSED]), st.lists(st.integers(1, 60), max_size=6))
def test_any_split_gives_the_same_body(raw: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    pieces = [raw[a:b] for a, b in pairwise(edges)]
    parser = parsed(pieces)
    assert parser.finished
    assert parser.head is not None
    assert parser.head.status == 200
    assert parser.take_body() == b"hello"


def test_repeated_headers_are_joined() -> None:
    head = parsed([OK]).head
    assert head is not None
    assert head.headers["x-a"] == "1, 2"


def test_interim_answers_are_skipped() -> None:
    parser = parsed([b"HTTP/1.1 100 Continue\r\n\r\n", OK])
    assert parser.head is not None
    assert parser.head.status == 200
    assert parser.take_body() == b"hello"


def test_the_answer_to_head_has_no_body() -> None:
    parser = parsed([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], head_only=True)
    assert parser.finished
    assert parser.take_body() == b""


@pytest.mark.parametrize("raw", [OK[:-1], CHUNKED[:-3], b"", b"HTTP/1.1 200"])
def test_an_answer_cut_short_is_an_error(raw: bytes) -> None:
    with pytest.raises(errors.DataLoss):
        parsed([raw] if raw else [])


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_an_error(raw: bytes) -> None:
    with pytest.raises(errors.DataLoss):
        parsed([raw])


def test_a_head_without_end_is_bounded() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 200 OK\r\n")
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"z" * 100) for number in range(1000))
    assert len(lines) > MAX_HEAD_BYTES
    with pytest.raises(errors.DataLoss, match="larger"):
        parser.feed(lines)


def test_a_request_with_a_line_break_in_it_is_never_sent() -> None:
    with pytest.raises(errors.InvalidArgument):
        request_head("GET", "/v2/a\r\nX-Evil: 1", {})
    with pytest.raises(errors.InvalidArgument):
        request_head("GET", "/", {"Authorization": "a\nb"})
    with pytest.raises(errors.InvalidArgument):
        request_head("GET", "/ü", {})
