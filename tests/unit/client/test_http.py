from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.client.http import Answer, query_string, quote, request_head


def fed(wire: bytes, size: int = 0, method: str = "GET") -> Answer:
    """An answer fed with `wire`, in pieces of `size` bytes where that is given."""
    answer = Answer(method)
    for at in range(0, len(wire), size or len(wire)):
        answer.feed(wire[at : at + (size or len(wire))])
    return answer


def test_a_body_of_known_length() -> None:
    answer = fed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\nhelloHTTP")
    assert (answer.status, answer.headers["x-y"], answer.take()) == (200, "z", b"hello")
    assert answer.done
    assert answer.reusable
    assert answer.rest == b"HTTP"


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.integers(1, 11))
def test_chunks_come_out_however_they_are_cut(chunks: list[bytes], size: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    answer = fed(head + body + b"0\r\nTrailer: x\r\n\r\n", size)
    assert answer.take() == b"".join(chunks)
    assert answer.done
    assert not answer.rest


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status: int) -> None:
    assert fed(b"HTTP/1.1 %d x\r\nContent-Length: 9\r\n\r\n" % status).done


def test_the_answer_of_head_has_no_body() -> None:
    assert fed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", method="HEAD").done


def test_an_interim_answer_is_skipped() -> None:
    answer = fed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n")
    assert answer.status == 201
    assert answer.done


def test_a_body_until_the_connection_closes() -> None:
    answer = fed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert not answer.done
    answer.feed(b"def")
    answer.feed(b"")
    assert answer.done
    assert not answer.reusable
    assert answer.take() == b"abcdef"


@pytest.mark.parametrize("line", [b"HTTP/1.1 101 UPGRADED", b"HTTP/1.1 200 OK"])
def test_a_hijacked_connection_gives_its_first_bytes(line: bytes) -> None:
    answer = fed(line + b"\r\nContent-Type: application/x\r\n\r\nearly", 4)
    assert answer.hijack() == b"early"
    answer.feed(b"later")
    assert answer.take() == b"later"


@pytest.mark.parametrize(
    "wire",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"x" * ((1 << 20) + 1),
    ],
)
def test_what_is_not_http_is_refused(wire: bytes) -> None:
    with pytest.raises(errors.DataLoss):
        fed(wire)


@pytest.mark.parametrize(
    "wire", [b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"]
)
def test_an_answer_that_breaks_off_is_told(wire: bytes) -> None:
    answer = fed(wire)
    with pytest.raises(errors.Unavailable):
        answer.feed(b"")


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer_or_a_kind_of_error(wire: bytes) -> None:
    answer = Answer("GET")
    try:
        answer.feed(b"HTTP/1.1 " + wire)
        answer.feed(b"")
    except errors.BarqueError:
        pass


def test_queries_are_percent_encoded() -> None:
    assert query_string([("a", "b c&d"), ("é", "=")]) == "?a=b%20c%26d&%C3%A9=%3D"
    assert query_string([]) == ""
    assert quote("a/b:c", safe=b"/:") == "a/b:c"


def test_a_header_cannot_smuggle_another() -> None:
    with pytest.raises(errors.InvalidArgument):
        request_head("GET", "/", "docker", [("X", "a\r\nY: b")])
    assert request_head("GET", "/x", "h", [("A", "b")]) == (
        b"GET /x HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"
    )
