"""The driver gelf. Source: Graylog, "GELF payload specification" 1.1, chunked and over TCP."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Mapping, Sequence

import msgspec

from barque import errors
from barque.daemon.forwarding.message import Message, Source
from barque.daemon.forwarding.wire import Wire, parse

OPTIONS = frozenset({"gelf-address", "gelf-compression-type", "gelf-compression-level"})
PORT = 12201
CHUNK_BYTES = 1420
CHUNKS_MAX = 128
CHUNK_MAGIC = b"\x1e\x0f"
COMPRESSIONS = ("gzip", "zlib", "none")


class Gelf:
    def __init__(self, options: Mapping[str, str], source: Source) -> None:
        """Raises InvalidArgument."""
        address = options.get("gelf-address", "")
        if not address:
            raise errors.InvalidArgument("gelf-address is a required parameter")
        self.wire = Wire(parse(address, "gelf-address", ("udp", "tcp"), PORT))
        self._compression = options.get("gelf-compression-type", "gzip")
        if self._compression not in COMPRESSIONS:
            raise errors.InvalidArgument(f"unknown gelf-compression-type {self._compression!r}")
        self._level = _level(options.get("gelf-compression-level", "1"))
        if address.startswith("tcp") and {"gelf-compression-type", "gelf-compression-level"} & set(
            options
        ):
            raise errors.InvalidArgument("compression is only supported on UDP")
        self._common = {
            "version": "1.1",
            "host": source.hostname,
            "_command": source.command,
            "_container_id": source.id,
            "_container_name": source.name,
            "_created": source.created,
            "_image_id": source.image_id,
            "_image_name": source.image_name,
            "_tag": source.tag,
            **{f"_{name}": value for name, value in source.attributes.items()},
        }

    async def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            data = self.document(message)
            if self.wire.address.keeps_order:
                await self.wire.send(data + b"\0")
                continue
            for chunk in chunks(self._compressed(data)):
                await self.wire.send(chunk)

    def document(self, message: Message) -> bytes:
        return msgspec.json.encode(
            {
                **self._common,
                "short_message": message.text,
                "timestamp": round(message.time_ns / 1e9, 3),
                "level": message.severity,
            }
        )

    def _compressed(self, data: bytes) -> bytes:
        if self._compression == "gzip":
            return gzip.compress(data, self._level)
        return zlib.compress(data, self._level) if self._compression == "zlib" else data


def _level(text: str) -> int:
    if text not in {"-1", *map(str, range(10))}:
        raise errors.InvalidArgument(f"invalid gelf-compression-level {text!r}")
    return int(text)


def chunks(data: bytes) -> list[bytes]:
    """One datagram, or several that belong together; what is too long for those is cut."""
    if len(data) <= CHUNK_BYTES:
        return [data]
    room = CHUNK_BYTES - 12
    parts = [data[at : at + room] for at in range(0, len(data), room)][:CHUNKS_MAX]
    identity = os.urandom(8)
    return [
        CHUNK_MAGIC + identity + bytes([number, len(parts)]) + part
        for number, part in enumerate(parts)
    ]
