"""A registry in the test's own event loop that answers exactly what the test says, well or badly.

    async with scripted_registry(answer) as registry:      # answer(Asked) -> bytes or Answer
        registry.address, registry.asked

An answer is the whole of the response's bytes, b"" for none; the connection is closed after it.
Bodies of requests are read as far as `takes` says.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from barque.oci import image as oci


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(slots=True)
class ScriptedRegistry:
    address: str
    asked: list[Asked] = field(default_factory=list)

    def targets(self) -> list[str]:
        return [asked.target for asked in self.asked]


Answer = Callable[[Asked], bytes]


def response(
    status: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
) -> bytes:
    """A response with its length, or with the false `length`."""
    lines = [
        f"HTTP/1.1 {status} Whatever",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def failure(status: int, code: str, message: str = "") -> bytes:
    document = {"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}
    return response(status, json.dumps(document).encode())


@dataclass(frozen=True, slots=True)
class ScriptedImage:
    """One image of one layer as a registry has it."""

    manifest: bytes
    config: bytes
    layer: bytes

    def answer(self, asked: Asked) -> bytes:
        blobs = {sha256(self.config): self.config, sha256(self.layer): self.layer}
        _, _, last = asked.path.rpartition("/")
        if asked.path == "/v2/":
            return response(200, b"{}")
        if "/manifests/" in asked.path:
            return response(200, self.manifest, {"Content-Type": oci.OCI_MANIFEST})
        if last in blobs:
            return response(200, blobs[last])
        return failure(404, "BLOB_UNKNOWN")


def scripted_image(
    layer: bytes, *, diff_id: str = "", architecture: str = "amd64", **defaults: object
) -> ScriptedImage:
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": defaults,
            "rootfs": {"type": "layers", "diff_ids": [diff_id or sha256(layer)]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": {"mediaType": oci.OCI_CONFIG, "digest": sha256(config), "size": len(config)},
            "layers": [{"mediaType": oci.OCI_LAYER, "digest": sha256(layer), "size": len(layer)}],
        }
    ).encode()
    return ScriptedImage(manifest, config, layer)


Takes = Callable[[Asked], int]
"""How many bytes of a request's body are read before it is answered."""


async def _read(reader: asyncio.StreamReader, takes: Takes | None) -> Asked | None:
    asked = await _head(reader)
    if asked is None or takes is None:
        return asked
    size = min(takes(asked), int(asked.headers.get("content-length", "0")))
    body = bytearray()
    while len(body) < size and (data := await reader.read(size - len(body))):
        body += data
    return replace(asked, body=bytes(body))


async def _head(reader: asyncio.StreamReader) -> Asked | None:
    try:
        raw = await reader.readexactly(1)
        if raw == b"\x16":  # a TLS handshake: not for us
            return None
        raw += await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    try:
        method, target, _ = first.split(" ")
    except ValueError:
        return None
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    return Asked(method, target, headers)


@asynccontextmanager
async def scripted_registry(
    answer: Answer,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    takes: Takes | None = None,
    stalls: Callable[[Asked], bool] = lambda asked: False,
) -> AsyncIterator[ScriptedRegistry]:
    """After an answer that `stalls` the connection is left open, with no more bytes."""
    registry = ScriptedRegistry("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await _read(reader, takes)
            if asked is not None:
                registry.asked.append(asked)
                writer.write(answer(asked))
                await writer.drain()
                if stalls(asked):
                    await reader.read()  # until the client goes
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    registry.address = f"{host}:{port}"
    async with server:
        yield registry
