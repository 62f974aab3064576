"""HTTP/1.1 responses: bytes in, one head and a body out. No I/O; RFC 9112.

parser = ResponseParser(head_only=method == "HEAD")
while parser.head is None:        parser.feed(await read())      # b"" is the end of the stream
while not parser.finished:        parser.feed(await read())
body = parser.take_body()         # at any time: what has come since the last call
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httptools

from barque import errors

MAX_HEAD_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: Mapping[str, str]  # names in lower case; values of repeated names joined with ", "


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request's head. A control character in any part is refused, never sent."""
    lines = [
        f"{method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if any(ord(character) < 32 or ord(character) == 127 for line in lines for character in line):
        raise errors.InvalidArgument(f"request for {target!r} has a control character in it")
    try:
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    except UnicodeEncodeError:
        raise errors.InvalidArgument(f"request for {target!r} is not plain ASCII") from None


class ResponseParser:
    """One response of a connection. Raises DataLoss for what is not HTTP or ends too early."""

    def __init__(self, *, head_only: bool = False) -> None:
        self.head: Head | None = None
        self.finished = False
        self.reusable = False
        self._head_only = head_only
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._framed = False

    def feed(self, data: bytes) -> None:
        if self.finished:
            self.reusable = False  # bytes that nobody asked for
            return
        if not data:
            self._end_of_stream()
            return
        if self.head is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise errors.DataLoss("the server switched protocols unasked") from None
        except httptools.HttpParserError as error:
            raise errors.DataLoss(f"malformed HTTP response: {error}") from None
        if self.head is None and self._head_bytes > MAX_HEAD_BYTES:
            raise errors.DataLoss(f"HTTP response head is larger than {MAX_HEAD_BYTES} bytes")

    def take_body(self) -> bytes:
        chunks, self._body = self._body, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _end_of_stream(self) -> None:
        if self.head is None:
            raise errors.DataLoss("the server closed the connection without an answer")
        if self._framed:
            raise errors.DataLoss("the server closed the connection before the end of the body")
        self.finished = True  # a body that ends with the connection

    # Called by httptools.
    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key == "content-length" and key in self._headers:
            raise ValueError("two content-length headers")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:  # interim: the real head follows
            self._headers = {}
            return
        self.head = Head(status, self._headers)
        self._framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        self.reusable = self._parser.should_keep_alive()
        if self._head_only:
            self.finished = True

    def on_body(self, body: bytes) -> None:
        if not self._head_only:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self.head is not None:
            self.finished = True
