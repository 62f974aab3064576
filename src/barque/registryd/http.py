"""HTTP/1.1 for the registry: streamed bodies in, answers or whole files out. RFC 9112.

One task a connection. What a client sends is bounded: the head in bytes, every wait in time; a
body is read as fast as it is written away, and no faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

import httptools

from barque.registryd.refusals import Refusal

MAX_HEAD_BYTES = 64 << 10
MAX_CHUNK_LINE_BYTES = 4 << 10
READ_BYTES = 1 << 20
DRAIN_BYTES = 1 << 20  # of a body that nobody read, to keep the connection
IDLE_TIMEOUT_S = 120.0
STALL_TIMEOUT_S = 120.0
REFUSAL_TIMEOUT_S = 5.0
LINGER_S = 10.0
MAX_REFUSED = 64  # connections that are told so at once; others are closed without a word
log = logging.getLogger(__name__)


class Malformed(Exception):
    """What came is not HTTP/1.1."""


class Body:
    """The body of one request, by its length or in chunks."""

    def __init__(
        self, reader: asyncio.StreamReader, length: int | None, chunked: bool, go_on: bool
    ) -> None:
        self._reader = reader
        self._left = 0 if length is None else length
        self._chunked = chunked
        self.length = None if chunked else self._left
        self.finished = not chunked and not self._left
        self.go_on = go_on  # the client waits for "100 Continue"
        self.begin: Callable[[], None] = lambda: None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Raises Malformed or ConnectionError when it breaks off."""
        if self.go_on and not self.finished:
            self.go_on = False
            self.begin()
        while not self.finished:
            if self._chunked and not self._left and not await self._next_chunk():
                return
            data = await self._read(min(self._left, READ_BYTES))
            if not data:
                raise ConnectionResetError("the client left before the end of its body")
            self._left -= len(data)
            if not self._left:
                if self._chunked:
                    await self._line()
                else:
                    self.finished = True
            yield data

    async def _next_chunk(self) -> bool:
        line = (await self._line()).partition(b";")[0].strip()
        try:
            size = int(line, 16) if line and line[:1] not in b"+-" else -1
        except ValueError:
            size = -1
        if size < 0:
            raise Malformed("invalid chunk")
        if size:
            self._left = size
            return True
        while (await self._line()).strip():
            pass  # trailers
        self.finished = True
        return False

    async def _line(self) -> bytes:
        async with asyncio.timeout(STALL_TIMEOUT_S):
            line = await self._reader.readline()
        if not line.endswith(b"\n") or len(line) > MAX_CHUNK_LINE_BYTES:
            raise Malformed("invalid chunk")
        return line

    async def _read(self, size: int) -> bytes:
        async with asyncio.timeout(STALL_TIMEOUT_S):
            return await self._reader.read(size)

    async def whole(self, limit: int) -> bytes | None:
        """All of it; None beyond `limit` bytes."""
        data = bytearray()
        async for chunk in self:
            data += chunk
            if len(data) > limit:
                return None
        return bytes(data)


@dataclass(slots=True)
class Request:
    method: str
    path: str  # decoded
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]  # names in lower case
    body: Body
    secure: bool = False  # it came through TLS
    user: str = ""

    def first(self, name: str) -> str:
        return self.query.get(name, [""])[0]


@dataclass(slots=True)
class Answer:
    """`file` is an open descriptor of which `count` bytes from `offset` are sent; it is closed."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: int = -1
    offset: int = 0
    count: int = 0
    chunks: AsyncIterator[bytes] | None = None  # `count` bytes of them


Handler = Callable[[Request], Awaitable[Answer]]


class _Head:
    """Called by httptools."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self.headers and key in {"content-length", "transfer-encoding", "host"}:
            raise ValueError(f"two headers {key}")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.complete = True


class Server:
    """`handler` gives the answer to each request; what it raises is a bug, and answers 500."""

    def __init__(self, handler: Handler, limit: int = 512) -> None:
        self._handler = handler
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._refused = 0
        self.bytes_out = 0

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Returns the port."""
        server = await asyncio.start_server(
            self._accepted, host, port, ssl=tls, limit=READ_BYTES, backlog=256
        )
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= self._limit:
            if self._refused < MAX_REFUSED:
                self._refused += 1
                try:
                    await _busy(reader, writer)
                finally:
                    self._refused -= 1
            writer.close()
            return
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, TimeoutError, Malformed, asyncio.IncompleteReadError):
            pass  # the client's
        except asyncio.CancelledError:
            pass  # we end
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            request, keep = await _read_request(reader)
        except EOFError:
            return False
        except (Malformed, ValueError) as error:
            log.debug("malformed request: %s", error)
            await _send_head(writer, 400, {"Content-Length": "0", "Connection": "close"})
            return False
        request.secure = writer.get_extra_info("ssl_object") is not None
        request.body.begin = lambda: writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            answer = await self._handler(request)
        except (ConnectionError, TimeoutError, Malformed):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = Answer(500)
        keep = keep and await _drained(request.body)
        await self._send(writer, request.method, answer, keep)
        if not keep and not request.body.finished:
            await _linger(reader, writer)
        return keep

    async def _send(
        self, writer: asyncio.StreamWriter, method: str, answer: Answer, keep: bool
    ) -> None:
        try:
            streamed = answer.file >= 0 or answer.chunks is not None
            size = answer.count if streamed else len(answer.body)
            headers = {**answer.headers}
            if answer.status not in {204, 304}:
                headers.setdefault("Content-Length", str(size))
            if not keep:
                headers["Connection"] = "close"
            await _send_head(writer, answer.status, headers)
            if method == "HEAD" or answer.status in {204, 304}:
                return
            if answer.file >= 0:
                await _send_file(writer, answer)
            elif answer.chunks is not None:
                async for chunk in answer.chunks:
                    writer.write(chunk)
                    async with asyncio.timeout(STALL_TIMEOUT_S):
                        await writer.drain()
            else:
                writer.write(answer.body)
                async with asyncio.timeout(STALL_TIMEOUT_S):
                    await writer.drain()
            self.bytes_out += size
        finally:
            if answer.file >= 0:
                os.close(answer.file)


async def _busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """There are as many connections as may be: this one is told to come again."""
    raw = Refusal("TOOMANYREQUESTS", "too many connections").body()
    headers = {"Content-Length": str(len(raw)), "Retry-After": "1", "Connection": "close"}
    try:
        async with asyncio.timeout(REFUSAL_TIMEOUT_S):  # what is not read resets the connection
            await reader.readuntil(b"\r\n\r\n")
        await _send_head(writer, 429, {"Content-Type": "application/json", **headers})
        writer.write(raw)
        async with asyncio.timeout(STALL_TIMEOUT_S):
            await writer.drain()
    except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass


async def _read_request(reader: asyncio.StreamReader) -> tuple[Request, bool]:
    """Raises EOFError where the client has gone between requests, Malformed."""
    try:
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            raw = await reader.readexactly(1)
            if not raw.isalpha():  # TLS, to a registry without it: say no at once
                raise Malformed("no HTTP")
            raw += await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise EOFError from None
        raise Malformed("head cut short") from None
    except asyncio.LimitOverrunError:
        raise Malformed("head too large") from None
    except TimeoutError:
        raise EOFError from None
    if len(raw) > MAX_HEAD_BYTES:
        raise Malformed("head too large")
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise Malformed(str(error)) from None
    if not head.complete:
        raise Malformed("head not whole")
    return _request(parser, head, reader)


def _request(
    parser: httptools.HttpRequestParser, head: _Head, reader: asyncio.StreamReader
) -> tuple[Request, bool]:
    headers = head.headers
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    if headers.get("transfer-encoding") and (not chunked or "content-length" in headers):
        raise Malformed("unknown transfer encoding")
    length = headers.get("content-length", "0").strip()
    if not length.isascii() or not length.isdigit() or len(length) > 18:
        raise Malformed("invalid content length")
    url = httptools.parse_url(head.target)
    path = unquote((url.path or b"/").decode("latin-1"), errors="strict")
    query = parse_qs((url.query or b"").decode("latin-1"), keep_blank_values=True)
    body = Body(reader, int(length), chunked, "100-continue" in headers.get("expect", "").lower())
    request = Request(parser.get_method().decode(), path, query, headers, body)
    return request, bool(parser.should_keep_alive())


async def _drained(body: Body) -> bool:
    """Whether a body that nobody read whole was short enough to be read away."""
    if body.finished:
        return True
    if body.go_on:
        return False
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > DRAIN_BYTES:
            return False
    return True


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The answer came before the end of the body, and the client sends on: to close now would
    reset the connection, and take the answer with it. RFC 9112, 9.6."""
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(LINGER_S):
        while await reader.read(READ_BYTES):
            pass


async def _send_head(writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str]) -> None:
    phrase = HTTPStatus(status).phrase
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    async with asyncio.timeout(STALL_TIMEOUT_S):
        await writer.drain()


async def _send_file(writer: asyncio.StreamWriter, answer: Answer) -> None:
    loop = asyncio.get_running_loop()
    left, offset = answer.count, answer.offset
    with open(answer.file, "rb", closefd=False) as file:
        while left:
            size = min(left, 64 << 20)
            async with asyncio.timeout(STALL_TIMEOUT_S):
                sent = await loop.sendfile(writer.transport, file, offset, size)
            if not sent:
                raise ConnectionResetError("the file is shorter than it was")
            left -= sent
            offset += sent
