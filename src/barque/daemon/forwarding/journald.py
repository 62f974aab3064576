"""The driver journald. Source: systemd, "Native Journal Protocol"; the fields are Docker's."""

from __future__ import annotations

import re
import secrets
import struct
from collections.abc import Mapping, Sequence

from barque.daemon.forwarding.message import Message, Source
from barque.daemon.forwarding.wire import Address, Wire
from barque.daemon.moments import rfc3339

OPTIONS = frozenset[str]()
SOCKET = Address("unixgram", "/run/systemd/journal/socket")


class Journald:
    def __init__(self, options: Mapping[str, str], source: Source) -> None:
        self.wire = Wire(SOCKET)
        common = {
            "CONTAINER_ID": source.id[:12],
            "CONTAINER_ID_FULL": source.id,
            "CONTAINER_NAME": source.name,
            "CONTAINER_TAG": source.tag,
            "IMAGE_NAME": source.image_name,
            "SYSLOG_IDENTIFIER": source.tag,
            **{_field(name): value for name, value in source.attributes.items()},
        }
        self._common = b"".join(pack(name, value) for name, value in common.items() if name)
        # One after the other within an epoch: readers find what a restart of ours sent twice.
        self._common += pack("CONTAINER_LOG_EPOCH", secrets.token_hex(32))
        self._ordinal = 0

    async def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self.wire.send(self.pack(message))

    def pack(self, message: Message) -> bytes:
        self._ordinal += 1
        fields = {
            "MESSAGE": message.text,
            "PRIORITY": str(message.severity),
            "SYSLOG_TIMESTAMP": rfc3339(message.time_ns),
            "CONTAINER_LOG_ORDINAL": str(self._ordinal),
        }
        if piece := message.piece:
            fields["CONTAINER_PARTIAL_ID"] = piece.id
            fields["CONTAINER_PARTIAL_ORDINAL"] = str(piece.ordinal)
            fields["CONTAINER_PARTIAL_LAST"] = str(piece.last).lower()
            if not piece.last:
                fields["CONTAINER_PARTIAL_MESSAGE"] = "true"
        return b"".join(pack(name, value) for name, value in fields.items()) + self._common


def pack(name: str, value: str) -> bytes:
    """`NAME=value`, or with its length where a line would not hold it."""
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(data)), data)


def _field(name: str) -> str:
    """As the journal takes names: upper case, digits and `_`, none of them first."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")
