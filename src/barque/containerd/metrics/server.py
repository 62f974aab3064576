"""The address where metrics are read: `GET /v1/metrics`, one request a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from barque.containerd.metrics.text import CONTENT_TYPE
from barque.errors import Conflict

PATH = "/v1/metrics"
REQUEST_BYTES = 16 << 10
REQUEST_S = 10.0
MOST_AT_ONCE = 32

log = logging.getLogger(__name__)

Page = Callable[[], Awaitable[str]]


class MetricsServer:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    async def start(self, address: str) -> None:
        """Listen at `host:port`. Raises Conflict when the address cannot be had."""
        host, _, port = address.rpartition(":")
        try:
            self._server = await asyncio.start_server(
                self._connected, host.strip("[]") or None, int(port), limit=REQUEST_BYTES
            )
        except OSError as error:
            raise Conflict(f"metrics address {address}: {error.strerror or error}") from error

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._busy) >= MOST_AT_ONCE:
            writer.close()
            return
        self._busy.add(task)
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            pass  # whoever it was did not ask for anything
        finally:
            self._busy.discard(task)
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", "malformed request\n")
        if words[1].split(b"?")[0] != PATH.encode():
            return _response("404 Not Found", "404 page not found\n")
        if words[0] not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", "only GET and HEAD\n")
        try:
            text = await self._page()
        except Exception:
            log.exception("metrics cannot be gathered")
            return _response("500 Internal Server Error", "metrics cannot be gathered\n")
        return _response("200 OK", text, CONTENT_TYPE, body=words[0] == b"GET")


def _response(
    status: str, text: str, kind: str = "text/plain; charset=utf-8", *, body: bool = True
) -> bytes:
    data = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (data if body else b"")
