"""The HTTP server against raw sockets: framing, hijack, half-close, hostile input."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from barque import errors
from barque.daemon.http.messages import Request, Response, Route, json_response
from barque.daemon.http.router import Router
from barque.daemon.http.server import Server

Client = Callable[[bytes], Awaitable[bytes]]


async def echo(request: Request) -> Response:
    body = await request.body()
    return json_response({"body": body.decode(), "params": dict(request.params)})


async def missing(request: Request) -> Response:
    raise errors.NotFound("No such container: x")


async def bug(request: Request) -> Response:
    raise RuntimeError("boom")


async def upper(request: Request) -> None:
    duplex = await request.hijack()
    while data := await duplex.read():
        await duplex.write(data.upper())
    await duplex.write(b"<end>")


async def stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one\n"
        yield b"two\n"

    return Response(200, chunks())


cancelled: list[str] = []


async def forever(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"{}\n"
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append("forever")
            raise

    return Response(200, chunks())


ROUTES = [
    Route("POST", "/echo", echo),
    Route("GET", "/images/{name:path}/json", echo),
    Route("GET", "/missing", missing),
    Route("GET", "/bug", bug),
    Route("POST", "/upper", upper),
    Route("GET", "/stream", stream),
    Route("GET", "/forever", forever),
]


def exchange(tmp_path: Path, *writes: bytes, half_close: bool = True, pause_s: float = 0) -> bytes:
    """What a server with ROUTES answers to these writes, up to the end of the connection."""

    async def run() -> bytes:
        server = Server(Router([]))
        server.open(Router(ROUTES))
        path = str(tmp_path / "s")
        listener = await asyncio.get_running_loop().create_unix_server(server.protocol, path)
        reader, writer = await asyncio.open_unix_connection(path)
        for data in writes:
            writer.write(data)
            await asyncio.sleep(pause_s)
        if half_close:
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        listener.close()
        await server.close()
        return answer

    return asyncio.run(run())


def message(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["message"]


def test_a_body_with_a_length(tmp_path: Path) -> None:
    answer = exchange(
        tmp_path, b"POST /v1.41/echo HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nApi-Version: ")
    assert b'{"body":"abc","params":{}}' in answer


def test_a_refusal_before_the_body_waits_for_it(tmp_path: Path) -> None:
    """Else the client meets a broken pipe, and never reads why."""
    head = b"POST /v1.23/echo HTTP/1.1\r\nConnection: close\r\nContent-Length: 6\r\n\r\n"
    answer = exchange(tmp_path, head, b"abc", b"def", half_close=False, pause_s=0.05)
    assert message(answer)[0] == 400


@pytest.mark.parametrize("path", [b"/", b"/containers/json", b"/no/such"])
def test_options_of_anything_are_answered(tmp_path: Path, path: bytes) -> None:
    answer = exchange(tmp_path, b"OPTIONS " + path + b" HTTP/1.1\r\nHost: d\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_chunked_body_cut_anywhere_is_the_same(tmp_path: Path) -> None:
    raw = (
        b"POST /echo HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n"
    )
    for cut in range(1, len(raw), 7):
        answer = exchange(tmp_path, raw[:cut], raw[cut:], pause_s=0.001)
        assert b'"body":"abcdefg"' in answer, cut


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    one = b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\n\r\n"
    answer = exchange(tmp_path, one + b"a" + one + b"b")
    assert answer.index(b'"body":"a"') < answer.index(b'"body":"b"')


def test_a_path_parameter_may_hold_slashes(tmp_path: Path) -> None:
    answer = exchange(tmp_path, b"GET /images/localhost:5000/a/b:c/json HTTP/1.0\r\n\r\n")
    assert b'{"name":"localhost:5000/a/b:c"}' in answer


def test_kinds_of_error_become_statuses(tmp_path: Path) -> None:
    answer = exchange(tmp_path, b"GET /missing HTTP/1.1\r\nHost: d\r\n\r\n")
    assert message(answer) == (404, "No such container: x")
    assert message(exchange(tmp_path, b"GET /nowhere HTTP/1.1\r\n\r\n")) == (404, "page not found")
    status, text = message(exchange(tmp_path, b"GET /bug HTTP/1.1\r\n\r\n"))
    assert status == 500
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("version", "status"), [("1.23", 400), ("1.24", 404), ("1.55", 404), ("1.99", 400)]
)
def test_versions_outside_the_range_are_refused(tmp_path: Path, version: str, status: int) -> None:
    raw = f"GET /v{version}/missing HTTP/1.1\r\n\r\n".encode()
    assert message(exchange(tmp_path, raw))[0] == status


@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: tcp\r\n"])
@pytest.mark.parametrize("early", [True, False])
def test_hijack_keeps_early_bytes_and_half_close(
    tmp_path: Path, upgrade: bytes, early: bool
) -> None:
    """Bytes in the request's own segment are the first that are read, with and without Upgrade."""
    head = b"POST /upper HTTP/1.1\r\nHost: d\r\n" + upgrade + b"\r\n"
    writes = [head + b"abc", b"def"] if early else [head, b"abcdef"]
    answer = exchange(tmp_path, *writes, pause_s=0.01)
    assert answer.startswith(b"HTTP/1.1 101 UPGRADED" if upgrade else b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\nABCDEF<end>")


def test_hijack_after_an_immediate_half_close(tmp_path: Path) -> None:
    raw = b"POST /upper HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
    assert exchange(tmp_path, raw).endswith(b"\r\n\r\n<end>")


def test_a_streamed_body_is_chunked(tmp_path: Path) -> None:
    answer = exchange(tmp_path, b"GET /stream HTTP/1.1\r\nHost: d\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n")


def test_a_streamed_body_ends_when_its_client_goes(tmp_path: Path) -> None:
    cancelled.clear()
    exchange(tmp_path, b"GET /forever HTTP/1.1\r\nHost: d\r\n\r\n", pause_s=0.05)
    assert cancelled == ["forever"]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /echo%ff HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x00\r\n\r\n",
    ],
)
def test_malformed_requests_get_one_clear_answer(tmp_path: Path, raw: bytes) -> None:
    status, text = message(exchange(tmp_path, raw))
    assert status == 400
    assert "\n" not in text


def test_head_has_no_body(tmp_path: Path) -> None:
    answer = exchange(tmp_path, b"HEAD /missing HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"\r\n\r\n")
