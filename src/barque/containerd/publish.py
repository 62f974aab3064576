"""`barque-containerd --address A publish --topic T --namespace N`: an event of a shim's.

Source: containerd, core/runtime/v2/README.md ("Events"): the event is an encoded
google.protobuf.Any on standard input; shims that do not speak ttrpc to containerd use this.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from barque.containerd.client.channel import Channel
from barque.containerd.client.events import SERVICE
from barque.containerd.proto.events_pb2 import PublishRequest
from barque.errors import InvalidArgument

EVENT_BYTES_MAX = 4 << 20
FLAGS = {"--namespace": "namespace", "-n": "namespace", "--topic": "topic", "-t": "topic"}
DEFAULT_NAMESPACE = "default"


def parse(words: Sequence[str]) -> dict[str, str]:
    """The command's flags. Raises InvalidArgument."""
    values: dict[str, str] = {}
    rest = list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in FLAGS:
            raise InvalidArgument(f"flag provided but not defined: {flag}")
        if not equals:
            if not rest:
                raise InvalidArgument(f"flag needs an argument: {flag}")
            value = rest.pop(0)
        values[FLAGS[flag]] = value
    if not values.get("topic"):
        raise InvalidArgument("topic required to publish event")
    return values


def publish(address: str, words: Sequence[str]) -> None:
    """Send the event on standard input. Raises BarqueError."""
    values = parse(words)
    data = sys.stdin.buffer.read(EVENT_BYTES_MAX + 1)
    if len(data) > EVENT_BYTES_MAX:
        raise InvalidArgument("event is too long")
    try:
        event = AnyMessage.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(f"event is no google.protobuf.Any: {error}") from error
    namespace = values.get("namespace") or DEFAULT_NAMESPACE
    asyncio.run(_send(address, namespace, PublishRequest(topic=values["topic"], event=event)))


async def _send(address: str, namespace: str, request: PublishRequest) -> None:
    channel = Channel(address, namespace)
    try:
        await channel.unary(SERVICE, "Publish", request, Empty)
    finally:
        channel.close()
