"""Authorization plugins: each request, and each answer, is shown to them before it goes on.

    request -> AuthZReq of every plugin, in order -> handler -> AuthZRes of every one, in reverse
                    `- denied: 403, and no later one is asked

Source: Docker's documentation, "Access authorization plugin". A plugin is found by its name, and
speaks HTTP on a unix socket or where a file of that name says, by TLS too. One that does not answer
denies. A body that is too large to be shown is refused and never passed unseen (CVE-2024-41110).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from barque import errors
from barque.daemon.config import Config
from barque.daemon.http.messages import Request, Response
from barque.volume.plugin_places import NAME, Address, locate

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
MAX_BODY_BYTES = 1 << 20
MAX_ANSWER_BYTES = 4 << 20
TIMEOUT_S = 30.0
HIDDEN_HEADERS = frozenset({"x-registry-auth", "x-registry-config", "authorization"})


class Authorization:
    """`plugins` are names. Without any, `guarded` only passes on."""

    def __init__(self, plugins: Sequence[str]) -> None:
        self._plugins = list(plugins)

    def reload(self, config: Config) -> None:
        for name in config.authorization_plugins:
            address_of(name)
        self._plugins = list(config.authorization_plugins)

    @property
    def active(self) -> bool:
        return bool(self._plugins)

    async def guarded(
        self,
        request: Request,
        target: str,
        handler: Callable[[Request], Awaitable[Response | None]],
    ) -> Response | None:
        """Raises Forbidden where a plugin denies; the handler is not called then."""
        plugins = list(self._plugins)
        facts = await _facts(request, target)
        for name in plugins:
            await _ask(name, "AuthZReq", facts)
        response = await handler(request)
        if response is None:
            return None
        facts["ResponseStatusCode"] = response.status
        if isinstance(response.body, bytes) and len(response.body) <= MAX_BODY_BYTES:
            facts["ResponseBody"] = base64.b64encode(response.body).decode()
        facts["ResponseHeaders"] = {"Content-Type": response.content_type, **response.headers}
        for name in reversed(plugins):
            await _ask(name, "AuthZRes", facts)
        return response


async def _facts(request: Request, target: str) -> dict[str, Any]:
    """What a plugin is told of a request: its body only where it is JSON."""
    facts: dict[str, Any] = {
        "User": "",
        "UserAuthNMethod": "",
        "RequestMethod": request.method,
        "RequestUri": target,
        "RequestHeaders": {
            name.title(): value
            for name, value in request.headers.items()
            if name not in HIDDEN_HEADERS
        },
    }
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body = await request.body(MAX_BODY_BYTES)
        except errors.InvalidArgument:
            raise errors.Forbidden(
                f"authorization denied: the body is larger than {MAX_BODY_BYTES} bytes, too large "
                "to be shown to the authorization plugins"
            ) from None
        request.source = _Seen(body)
        facts["RequestBody"] = base64.b64encode(body).decode()
    return facts


class _Seen:
    """A body that was read already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, self._body = self._body, b""
        if body:
            yield body

    async def pour(self, send: Callable[[bytes], Awaitable[None]], pipe: int) -> None:
        async for chunk in self:
            await send(chunk)


async def _ask(name: str, method: str, facts: Mapping[str, Any]) -> None:
    """Raises Forbidden unless the plugin allows."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status, answer = await _call(address_of(name), f"/AuthZPlugin.{method}", facts)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
        raise errors.Forbidden(
            f"authorization denied: plugin {name} does not answer: {error or type(error).__name__}"
        ) from error
    if status != b"200":
        raise _failed(
            name, method, answer.get("Err") or f"status {status.decode(errors='replace')}"
        )
    if answer.get("Allow") is not True:
        raise errors.Forbidden(f"authorization denied by plugin {name}: {answer.get('Msg', '')}")
    if answer.get("Err"):
        raise _failed(name, method, answer["Err"])


def _failed(name: str, method: str, why: object) -> errors.BarqueError:
    return errors.BarqueError(f"plugin {name} failed with error: AuthZPlugin.{method}: {why}")


def address_of(name: str) -> Address:
    """Raises NotFound, InvalidArgument for a name that is a path, Unsupported for another way."""
    if not NAME.match(name):
        raise errors.InvalidArgument(f"invalid plugin name {name!r}")
    found = locate(name)
    if found is None:
        raise errors.NotFound(f"plugin {name} not found")
    return found


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError, ValueError for what is no port."""
    if address.scheme == "unix":
        return await asyncio.open_unix_connection(address.rest, limit=MAX_ANSWER_BYTES)
    parts = urlsplit(f"//{address.rest}")
    context = address.tls.context() if address.tls is not None else None
    port = parts.port or (443 if context else 80)
    return await asyncio.open_connection(parts.hostname, port, limit=MAX_ANSWER_BYTES, ssl=context)


async def _call(
    address: Address, target: str, document: Mapping[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    """The status and the document of the answer."""
    body = msgspec.json.encode(document)
    head = (
        f"POST {target} HTTP/1.0\r\nHost: plugin\r\nAccept: {CONTENT_TYPE}\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await _connect(address)
    try:
        writer.write(head.encode() + body)
        await writer.drain()
        start = await reader.readuntil(b"\r\n\r\n")
        raw = await reader.read(MAX_ANSWER_BYTES)
        while chunk := await reader.read(MAX_ANSWER_BYTES):
            raw += chunk
            if len(raw) > MAX_ANSWER_BYTES:
                raise ValueError("its answer is too large")
    finally:
        writer.close()
    status, answer = start.partition(b" ")[2][:3], json.loads(raw)
    if not isinstance(answer, dict):
        raise ValueError(f"it answered {start[:60]!r}")
    return status, answer
