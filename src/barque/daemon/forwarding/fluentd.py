"""The driver fluentd. Source: Fluentd, "Forward Protocol Specification" v1, message mode."""

from __future__ import annotations

import base64
import os
import ssl
import struct
from collections.abc import Mapping, Sequence

import msgspec

from barque import errors
from barque.daemon.forwarding.message import Message, Source
from barque.daemon.forwarding.wire import Wire, parse

OPTIONS = frozenset(
    {"fluentd-address", "fluentd-async", "fluentd-sub-second-precision", "fluentd-request-ack"}
)
PORT = 24224
EVENT_TIME = 0  # type of the extension


class Fluentd:
    def __init__(self, options: Mapping[str, str], source: Source) -> None:
        """Raises InvalidArgument."""
        text = options.get("fluentd-address") or f"tcp://127.0.0.1:{PORT}"
        if "://" not in text:
            text = f"tcp://{text}"
        address = parse(text, "fluentd-address", ("tcp", "tls", "unix"), PORT)
        context = ssl.create_default_context() if address.scheme == "tls" else None
        self.wire = Wire(address, context)
        self.may_be_absent = boolean(options, "fluentd-async")
        self._precise = boolean(options, "fluentd-sub-second-precision")
        self._acknowledged = boolean(options, "fluentd-request-ack")
        self._tag = source.tag
        self._common = {
            "container_id": source.id,
            "container_name": f"/{source.name}",
            **source.attributes,
        }

    async def send(self, messages: Sequence[Message]) -> None:
        if not self._acknowledged:
            await self.wire.send(b"".join(self.pack(message) for message in messages))
            return
        for message in messages:
            chunk = base64.b64encode(os.urandom(16)).decode()
            await self.wire.send(self.pack(message, chunk))
            await self._await_ack(chunk)

    async def _await_ack(self, chunk: str) -> None:
        data = b""
        while True:
            data += await self.wire.receive()
            try:
                answer = msgspec.msgpack.decode(data)
            except msgspec.DecodeError:
                continue
            if not isinstance(answer, dict) or answer.get("ack") != chunk:
                raise ConnectionError("fluentd acknowledged something else")
            return

    def pack(self, message: Message, chunk: str = "") -> bytes:
        seconds, rest = divmod(message.time_ns, 1_000_000_000)
        moment: object = seconds
        if self._precise:
            moment = msgspec.msgpack.Ext(EVENT_TIME, struct.pack(">II", seconds, rest))
        record = {**self._common, "source": message.stream, "log": message.text}
        if piece := message.piece:
            record["partial_message"] = "true"
            record["partial_id"] = piece.id
            record["partial_ordinal"] = str(piece.ordinal)
            record["partial_last"] = str(piece.last).lower()
        event: list[object] = [self._tag, moment, record]
        return msgspec.msgpack.encode([*event, {"chunk": chunk}] if chunk else event)


def boolean(options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "false").lower()
    if text not in {"true", "1", "t", "false", "0", "f"}:
        raise errors.InvalidArgument(f"invalid value for {name}: {text!r}")
    return text in {"true", "1", "t"}
