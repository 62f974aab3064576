"""The Events services: gRPC for clients, ttrpc for shims, both over the one exchange.

Source: containerd, api/services/events/v1/events.proto, api/services/ttrpc/events/v1/events.proto.
Filter fields: namespace, topic, event.<field of the event>.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from barque.containerd.events import Envelope, Exchange, Predicate
from barque.containerd.filters import Lookup, Path, any_of, parse_all
from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.identifiers import namespace_of
from barque.containerd.proto import event_types_pb2, events_pb2, events_ttrpc_pb2, images_pb2
from barque.containerd.proto.types_pb2 import Envelope as EnvelopeMessage
from barque.containerd.ttrpc import Handler
from barque.errors import InvalidArgument

# The first is the package's name, the second what shims of before containerd 1.7 also know.
TTRPC_SERVICES = (
    "containerd.services.events.ttrpc.v1.Events",
    "containerd.services.ttrpc.events.v1.Events",
)
EVENT_TYPES: dict[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for module in (event_types_pb2, images_pb2)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Message)
}


class EventService:
    """Publish, Forward, Subscribe."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def service(self) -> Service:
        return Service(
            events_pb2.DESCRIPTOR.services_by_name["Events"],
            {
                "Publish": AtOnce(self.publish),
                "Forward": AtOnce(self.forward),
                "Subscribe": self.subscribe,
            },
        )

    def ttrpc_methods(self) -> dict[tuple[str, str], Handler]:
        """What the ttrpc server beside the gRPC one serves."""
        return {(name, "Forward"): self.forward_ttrpc for name in TTRPC_SERVICES}

    async def publish(self, call: Call, request: events_pb2.PublishRequest) -> Empty:
        event = request.event
        self._exchange.forward(
            Envelope(time.time_ns(), namespace_of(call), request.topic, event.type_url, event.value)
        )
        return Empty()

    async def forward(self, call: Call, request: events_pb2.ForwardRequest) -> Empty:
        self._exchange.forward(envelope_of(request.envelope))
        return Empty()

    async def forward_ttrpc(self, payload: bytes) -> bytes:
        try:
            request = events_ttrpc_pb2.ForwardRequest.FromString(payload)
        except DecodeError as error:
            raise InvalidArgument("malformed ForwardRequest") from error
        self._exchange.forward(envelope_of(request.envelope))
        return b""

    async def subscribe(
        self, call: Call, request: events_pb2.SubscribeRequest
    ) -> AsyncIterator[EnvelopeMessage]:
        """Events of every namespace from now on; any of the filters is enough."""
        with self._exchange.subscribe(predicate(request.filters)) as subscription:
            async for envelope in subscription:
                yield message_of(envelope)


def predicate(filters: Sequence[str]) -> Predicate | None:
    """What a subscription with `filters` wants. Raises InvalidArgument for a malformed one."""
    matches = any_of(parse_all(filters))
    return (lambda envelope: matches(lookup(envelope))) if filters else None


def envelope_of(message: EnvelopeMessage) -> Envelope:
    return Envelope(
        message.timestamp.ToNanoseconds(),
        message.namespace,
        message.topic,
        message.event.type_url,
        message.event.value,
    )


def message_of(envelope: Envelope) -> EnvelopeMessage:
    message = EnvelopeMessage(namespace=envelope.namespace, topic=envelope.topic)
    message.timestamp.FromNanoseconds(envelope.timestamp_ns)
    message.event.type_url = envelope.type_url
    message.event.value = envelope.value
    return message


def lookup(envelope: Envelope) -> Lookup:
    """The fields of an event for a filter; None where there is no such field."""

    def field(path: Path) -> str | None:
        if path == ("namespace",):
            return envelope.namespace
        if path == ("topic",):
            return envelope.topic
        if len(path) > 1 and path[0] == "event":
            event = decode_event(envelope.type_url, envelope.value)
            return None if event is None else message_field(event, path[1:])
        return None

    return field


def decode_event(type_url: str, value: bytes) -> Message | None:
    """The event of a type we know, decoded; None for any other."""
    known = EVENT_TYPES.get(type_url.rpartition("/")[2])
    try:
        return None if known is None else known.FromString(value)
    except DecodeError:
        return None


def message_field(message: Message, path: Path) -> str | None:
    """A string, boolean or map entry of `message` as a filter sees it."""
    descriptor = message.DESCRIPTOR.fields_by_name.get(path[0])
    if descriptor is None:
        return None
    value = getattr(message, path[0])
    if isinstance(value, Message):
        return message_field(value, path[1:]) if len(path) > 1 else None
    if hasattr(value, "keys"):
        key = ".".join(path[1:])
        return str(value[key]) if key in value else None
    if len(path) > 1 or not isinstance(value, str | bool):
        return None
    return str(value).lower() if isinstance(value, bool) else value
