"""HTTP/1.1 for the Engine API: one task a connection, handlers one after the other.

    bytes -> Stream -> parse_head -> Router -> handler -> Response -> bytes
                                                 `------> hijack: the Stream itself

A streamed response is cancelled when its client goes; anything else runs to its end, so that no
half of a change is lost with a connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

import msgspec

from barque import __version__, errors
from barque.api.versions import API_VERSION, MIN_API_VERSION, version_tuple
from barque.daemon.http.body import Body
from barque.daemon.http.head import Head, parse_head
from barque.daemon.http.messages import Duplex, Handler, Hijack, Query, Request, Response
from barque.daemon.http.router import Router, http_status
from barque.daemon.http.stream import Stream

MAX_HEAD_BYTES = 64 << 10
MAX_DRAIN_BYTES = 1 << 20
DRAIN_LIMIT_S = 1.0
MAX_VERSION = version_tuple(API_VERSION)
_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
log = logging.getLogger(__name__)


def _own_headers(experimental: bool) -> str:
    """What every answer has."""
    return (
        f"Api-Version: {API_VERSION}\r\n"
        f"Docker-Experimental: {str(experimental).lower()}\r\n"
        "Ostype: linux\r\n"
        f"Server: Barque/{__version__} (linux)\r\n"
    )


class Gate(Protocol):
    """What may deny a request before its handler, and an answer after it."""

    @property
    def active(self) -> bool: ...

    async def guarded(self, request: Request, target: str, handler: Handler) -> Response | None: ...


class Server:
    """Serves routes on any number of listeners.

    `early` is answered from the first connection on; requests for anything else wait for `open`.
    """

    def __init__(
        self, early: Router, min_version: str = MIN_API_VERSION, *, experimental: bool = False
    ) -> None:
        self._early = early
        self._own = _own_headers(experimental)
        self._min_version = min_version
        self._router: Router | None = None
        self._opened = asyncio.Event()
        self.gate: Gate | None = None
        """Sees every request first, once there is one."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.listeners: list[asyncio.Server] = []

    def open(self, router: Router) -> None:
        """Serve everything."""
        self._router = router
        self._opened.set()

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    def protocol(self) -> Stream:
        """The protocol factory for `create_server` and `create_unix_server`."""
        return Stream(self._connected)

    def _connected(self, stream: Stream) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the listeners and every connection; their handlers are cancelled."""
        for listener in self.listeners:
            listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, stream: Stream) -> None:
        try:
            while await self._exchange(stream):
                pass
        except ConnectionError:
            pass
        except Exception:
            log.exception("connection failed")
        finally:
            stream.close()

    async def _exchange(self, stream: Stream) -> bool:
        """One request and its response; True when another may follow."""
        try:
            raw = await stream.read_head(MAX_HEAD_BYTES)
            if not raw:
                return False
            head = parse_head(raw)
            body = Body(stream, head.headers)
        except errors.InvalidArgument as error:
            await _send(stream, Head(), error_response(error), self._own, keep=False)
            return False
        return await self._answer(stream, head, body)

    async def _answer(self, stream: Stream, head: Head, body: Body) -> bool:
        hijacked: list[Stream] = []

        async def hijack(content_type: str, start: bytes) -> Duplex:
            if not body.chunked:  # dockerode says again in a body what it wants: that is no input
                await _finish(body)
            hijacked.append(stream)
            start = start or _hijack_head(head, content_type)
            await stream.write(start + f"{self._own}\r\n".encode())
            stream.hold_back()
            return stream

        try:
            response = await self._dispatch(head, body, hijack)
        except ConnectionError:
            return False
        except Exception as error:
            if hijacked:
                log.exception("%s %s failed", head.method, head.target.decode("latin-1"))
                return False
            response = error_response(error, f"{head.method} {head.target.decode('latin-1')}")
        if response is None or hijacked:
            return False
        if isinstance(response.body, bytes):
            keep = await _finish(body) and head.keep_alive
        else:  # whoever makes the response may still be reading the request
            keep = head.keep_alive and body.finished
        await _send(stream, head, response, self._own, keep=keep)
        return keep

    async def _dispatch(self, head: Head, body: Body, hijack: Hijack) -> Response | None:
        try:
            path, query = head.path, Query(head.query)
        except (ValueError, UnicodeDecodeError):
            raise errors.InvalidArgument("malformed request target") from None
        version, path = split_version(path, self._min_version)
        handler, params = await self._find("GET" if head.method == "HEAD" else head.method, path)
        request = Request(
            head.method,
            path,
            query,
            head.headers,
            version,
            body,
            hijack,
            params,
        )
        if self.gate is not None and self.gate.active:
            return await self.gate.guarded(request, head.target.decode("latin-1"), handler)
        return await handler(request)

    async def _find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        if method == "OPTIONS":
            return _nothing, {}
        with suppress(errors.NotFound):
            return self._early.find(method, path)
        await self._opened.wait()
        assert self._router is not None
        return self._router.find(method, path)


async def _nothing(_: Request) -> Response:
    """To OPTIONS of any path. Docker: the answer is 200, and empty."""
    return Response(200)


async def _finish(body: Body) -> bool:
    """Read what the handler left of the body; False when the connection is of no more use.

    A client that sends no more before it has its answer gets it, and the connection ends.
    """
    if body.finished:
        return True
    try:
        async with asyncio.timeout(DRAIN_LIMIT_S):
            return await body.drain(MAX_DRAIN_BYTES)
    except (errors.InvalidArgument, TimeoutError):
        return False


def split_version(path: str, oldest: str = MIN_API_VERSION) -> tuple[tuple[int, int], str]:
    """`/v1.41/info` as ((1, 41), "/info"). Raises InvalidArgument outside what is served."""
    if not path.startswith("/v") or not path[2:3].isdigit():
        return MAX_VERSION, path
    text, slash, rest = path[2:].partition("/")
    if not _VERSION.fullmatch(text):
        return MAX_VERSION, path
    version = version_tuple(text)
    if version < version_tuple(oldest):
        raise errors.InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is "
            f"{oldest}, please upgrade your client to a newer version"
        )
    if version > MAX_VERSION:
        raise errors.InvalidArgument(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )
    return version, slash + rest


def error_response(error: BaseException, request: str = "") -> Response:
    """`{"message": ...}` with the kind's status; what is not one of our kinds is a bug: logged."""
    status = http_status(error)
    if not isinstance(error, errors.BarqueError):
        log.error("%s failed", request, exc_info=error)
        return Response(status, msgspec.json.encode({"message": f"internal error: {error!r}"}))
    if status == 304:
        return Response(304)
    return Response(status, msgspec.json.encode({"message": str(error)}) + b"\n")


def _hijack_head(head: Head, content_type: str) -> bytes:
    if head.upgrades:
        start = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    else:
        start = "HTTP/1.1 200 OK\r\n"
    return f"{start}Content-Type: {content_type}\r\n".encode()


async def _send(stream: Stream, head: Head, response: Response, own: str, *, keep: bool) -> None:
    streamed = not isinstance(response.body, bytes)
    no_body = head.method == "HEAD" or response.status in {204, 304}
    framing = _framing(head, response, streamed=streamed)
    start = _head_bytes(response, own, framing, keep=keep and framing != "")
    if isinstance(response.body, bytes):
        await stream.write(start + (b"" if no_body else response.body))
        return
    if no_body:
        await stream.write(start)
        return
    await _send_chunks(stream, start, response.body, chunked=framing.startswith("Transfer"))


def _framing(head: Head, response: Response, *, streamed: bool) -> str:
    if response.status in {204, 304}:
        return "\r\n"
    if not streamed:
        return f"Content-Length: {len(response.body)}\r\n"  # type: ignore[arg-type]
    return "Transfer-Encoding: chunked\r\n" if head.http_version == "1.1" else ""


def _head_bytes(response: Response, own: str, framing: str, *, keep: bool) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    lines = [f"HTTP/1.1 {response.status} {phrase}\r\n", own]
    if response.status not in {204, 304}:
        lines.append(f"Content-Type: {response.content_type}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in _safe(response.headers).items()]
    if framing != "\r\n":
        lines.append(framing)
    if not keep:
        lines.append("Connection: close\r\n")
    return "".join([*lines, "\r\n"]).encode("latin-1", "replace")


def _safe(headers: Mapping[str, str]) -> dict[str, str]:
    return {k: v.replace("\r", " ").replace("\n", " ") for k, v in headers.items()}


async def _send_chunks(
    stream: Stream, start: bytes, body: AsyncIterator[bytes], *, chunked: bool
) -> None:
    """Send while the client is there; when it goes, the producer is cancelled where it waits."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    def cancel() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    try:
        await stream.write(start)
        stream.on_gone = cancel
        async for chunk in body:
            if chunk:
                await stream.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
        stream.on_gone = None
        if chunked:
            await stream.write(b"0\r\n\r\n")
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ConnectionResetError("the client has gone") from None
    finally:
        stream.on_gone = None
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
