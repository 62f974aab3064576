"""What a route sees of HTTP: a request in, a response out, or the raw connection taken over.

Routes parse with these, call one service and render with these; nothing below knows of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from barque import errors
from barque.daemon.http import json_words

MAX_JSON_BODY_BYTES = 16 << 20
_TRUE = frozenset({"1", "true", "True", "TRUE", "t", "T"})


class Query:
    """The query string, decoded. Repeated keys keep all values; flags are lenient, as Docker's."""

    def __init__(self, pairs: Mapping[str, list[str]]) -> None:
        self._pairs = pairs

    def __contains__(self, name: str) -> bool:
        return name in self._pairs

    def get(self, name: str, default: str = "") -> str:
        values = self._pairs.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        return list(self._pairs.get(name, ()))

    def flag(self, name: str, default: bool = False) -> bool:
        """Docker's boolean: "", 0, no, false, none are false; the rest is true."""
        values = self._pairs.get(name)
        if values is None:
            return default
        return values[0].strip().lower() not in {"", "0", "no", "false", "none"}

    def integer(self, name: str, default: int | None = None) -> int | None:
        text = self.get(name)
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise errors.InvalidArgument(f"invalid value for {name}: {text!r}") from None

    def filters(self, name: str = "filters") -> dict[str, list[str]]:
        """`{"key": ["value"]}` or the older `{"key": {"value": true}}`, as key -> values."""
        text = self.get(name)
        if not text:
            return {}
        try:
            decoded = json.loads(text)
        except ValueError:
            raise errors.InvalidArgument(f"invalid filter: {text[:200]!r} is not JSON") from None
        return {key: _filter_values(key, value) for key, value in _object(decoded).items()}


MAX_EXPLAINED_BYTES = 64 << 10  # larger ones would hold everybody up
_GO_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "bool"}


def _what_is_wrong(raw: bytes, error: Exception) -> str:
    """In dockerd's words, for a body that could not be decoded."""
    if len(raw) > MAX_EXPLAINED_BYTES:
        return f"invalid JSON: {error}"
    if words := json_words.fault(raw):
        return f"invalid JSON: {words}"
    if raw[json_words.ends(raw) :].strip():
        return "unexpected content after JSON"
    return f"invalid JSON: {error}"


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise errors.InvalidArgument("invalid filter: not an object")
    return value


def _filter_values(key: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [name for name, wanted in value.items() if wanted]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return list(value)
    raise errors.InvalidArgument(f"invalid filter {key!r}")


class Duplex(Protocol):
    """A connection taken over from HTTP: raw bytes both ways."""

    async def read(self) -> bytes:
        """The next bytes from the client; b"" once it has half-closed or gone."""

    async def write(self, data: bytes) -> None:
        """Send; returns when the buffer has room. Raises ConnectionError once the peer has gone."""

    async def write_eof(self) -> None:
        """Half-close our side, where the transport can."""

    def close(self) -> None: ...


class Source(Protocol):
    """The body of a request."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def pour(self, send: Callable[[bytes], Awaitable[None]], pipe: int) -> None:
        """The rest of it: through `send`, or straight into `pipe`, where `send` writes to."""


Hijack = Callable[[str, bytes], Awaitable[Duplex]]


@dataclass(slots=True)
class Request:
    """One request, its head parsed, its body still on the wire."""

    method: str
    path: str  # without the /vN.N prefix, percent-decoded
    query: Query
    headers: Mapping[str, str]  # names in lower case
    version: tuple[int, int]  # of the API, as asked for or the newest
    source: Source
    _hijack: Hijack
    params: Mapping[str, str] = field(default_factory=dict)  # from the route's {name} parts

    @property
    def body_chunks(self) -> AsyncIterator[bytes]:
        return aiter(self.source)

    async def body(self, limit: int = MAX_JSON_BODY_BYTES) -> bytes:
        chunks, size = [], 0
        async for chunk in self.body_chunks:
            size += len(chunk)
            if size > limit:
                raise errors.InvalidArgument(f"request body is larger than {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    async def json_body(self) -> bytes:
        """The body without the space around it; one that is there has to be called JSON.

        Browsers ask nobody before they send a form or a text to any address: a page could make
        containers so.
        """
        raw = (await self.body()).strip()
        if not raw:
            return raw
        kind = self.headers.get("content-type", "")
        said = kind.partition(";")[0].strip().lower()
        if not said:
            raise errors.InvalidArgument(f"malformed Content-Type header ({kind})")
        if said != "application/json":
            raise errors.InvalidArgument(
                f"unsupported Content-Type header ({kind}): must be 'application/json'"
            )
        return raw

    async def json(self, *, optional: bool = False) -> dict[str, Any]:
        """The body as a JSON object; {} for `null`, and for an empty body when `optional`."""
        raw = await self.json_body()
        if not raw:
            if optional:
                return {}
            raise errors.InvalidArgument("invalid JSON: got EOF while reading request body")
        try:
            decoded = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise errors.InvalidArgument(_what_is_wrong(raw, error)) from None
        if decoded is None:  # as docker's own client says that there is nothing
            return {}
        if not isinstance(decoded, dict):
            kind = _GO_KINDS[type(decoded)]
            raise errors.InvalidArgument(
                f"invalid JSON: json: cannot unmarshal {kind} into an object"
            )
        return decoded

    async def hijack(
        self, content_type: str = "application/vnd.docker.raw-stream", start: bytes = b""
    ) -> Duplex:
        """Take the connection over: answers 101 (or 200 to a client that did not ask to upgrade).

        `start` is another status line with its own headers.
        Bytes that came right behind the request are the first that `read` returns. After this the
        handler returns None.
        """
        return await self._hijack(content_type, start)


@dataclass(slots=True)
class Response:
    """`body` is sent whole with a length, or as chunks while they come."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: Any, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value) + b"\n")


def no_content() -> Response:
    return Response(204)


Handler = Callable[[Request], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has `{name}` for one segment and `{name:path}` for a rest with slashes."""

    method: str
    path: str
    handler: Handler
