"""The head of a request, parsed by llhttp."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import httptools

from barque import errors

MAX_QUERY_FIELDS = 1000


@dataclass(slots=True)
class Head:
    method: str = ""
    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    http_version: str = "1.1"
    keep_alive: bool = True

    @property
    def path(self) -> str:
        raw = self.target.split(b"?", 1)[0].decode("latin-1")
        return unquote(raw, errors="strict")

    @property
    def query(self) -> dict[str, list[str]]:
        _, _, raw = self.target.partition(b"?")
        return parse_qs(
            raw.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS
        )

    @property
    def upgrades(self) -> bool:
        return "upgrade" in self.headers


class _Collector:
    def __init__(self, head: Head) -> None:
        self._head = head

    def on_url(self, url: bytes) -> None:
        self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        if key in self._head.headers and key in {"content-length", "transfer-encoding", "host"}:
            raise errors.InvalidArgument(f"more than one header {key}")
        self._head.headers[key] = value.decode("latin-1")


def parse_head(raw: bytes) -> Head:
    """Parse one head that ends with its empty line. Raises InvalidArgument."""
    head = Head()
    parser = httptools.HttpRequestParser(_Collector(head))
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # the connection stays ours until a handler takes it over
    except httptools.HttpParserCallbackError as error:
        cause = error.__context__
        raise (
            cause
            if isinstance(cause, errors.BarqueError)
            else errors.InvalidArgument("malformed request")
        ) from error
    except httptools.HttpParserError as error:
        raise errors.InvalidArgument(f"malformed request: {error}") from error
    if not head.target.startswith(b"/") and head.target != b"*":
        raise errors.InvalidArgument("malformed request: the target is not a path")
    head.method = parser.get_method().decode("ascii")
    head.http_version = parser.get_http_version()
    head.keep_alive = _keep_alive(head)
    return head


def _keep_alive(head: Head) -> bool:
    connection = head.headers.get("connection", "").lower()
    if head.http_version == "1.1":
        return "close" not in connection
    return "keep-alive" in connection
