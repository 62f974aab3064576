"""The event exchange: what happened in this containerd, told in order to every subscriber.

    services --publish-->  Exchange  --queue per subscriber-->  Events/Subscribe (gRPC)
    shims    --forward-->  (ttrpc Events/Forward, gRPC Events/Forward)

Source: containerd, docs/ops.md "Events" and api/services/events/v1/events.proto. Delivery is at
most once for a subscriber: one that is not connected, or too far behind, has missed what it has
missed and must re-derive state. Nothing here blocks a publisher.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from barque.errors import InvalidArgument, ResourceExhausted

QUEUE_EVENTS_MAX = 16384
TOPIC_BYTES_MAX = 1024

_COMPONENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?\Z")


class Message(Protocol):
    """What an event is made of: a protobuf message of package `containerd.events`."""

    @property
    def DESCRIPTOR(self) -> Descriptor: ...

    def SerializeToString(self) -> bytes: ...


class Descriptor(Protocol):
    @property
    def full_name(self) -> str: ...


class Events(Protocol):
    """What a service needs in order to tell what it did."""

    def publish(self, namespace: str, topic: str, message: Message) -> None:
        """Tell every subscriber; never blocks. `topic` is a path such as `/images/create`."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event as it travels: containerd.types.Envelope with the payload left encoded."""

    timestamp_ns: int
    namespace: str
    topic: str
    type_url: str
    value: bytes


Predicate = Callable[[Envelope], bool]


class Subscription:
    """One subscriber's place in the exchange: an async iterator of envelopes, oldest first."""

    def __init__(self, wanted: Predicate | None) -> None:
        self._wanted = wanted
        self._queue: asyncio.Queue[Envelope] = asyncio.Queue(QUEUE_EVENTS_MAX)
        self._overrun = False

    def offer(self, envelope: Envelope) -> None:
        if self._overrun or (self._wanted is not None and not self._wanted(envelope)):
            return
        if self._queue.full():
            self._overrun = True
        else:
            self._queue.put_nowait(envelope)

    @property
    def overrun(self) -> bool:
        """Whether events are missing: too many came."""
        return self._overrun

    def taken(self) -> Iterator[Envelope]:
        """What came so far, oldest first."""
        while not self._queue.empty():
            yield self._queue.get_nowait()

    def __aiter__(self) -> AsyncIterator[Envelope]:
        return self

    async def __anext__(self) -> Envelope:
        """Raises ResourceExhausted once the events kept for a late subscriber are read."""
        if self._overrun and self._queue.empty():
            raise ResourceExhausted(f"event subscriber is {QUEUE_EVENTS_MAX} events behind")
        return await self._queue.get()


class Exchange:
    """Publish, forward and subscribe. Lives on the event loop's thread only."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._subscriptions: set[Subscription] = set()

    def publish(self, namespace: str, topic: str, message: Message) -> None:
        """Send `message` now. Raises InvalidArgument for a topic or namespace out of form."""
        full_name = message.DESCRIPTOR.full_name
        self.forward(
            Envelope(self._clock_ns(), namespace, topic, full_name, message.SerializeToString())
        )

    def forward(self, envelope: Envelope) -> None:
        """Send an event that another process (a shim) made, as it is."""
        check_envelope(envelope)
        for subscription in self._subscriptions:
            subscription.offer(envelope)

    @contextmanager
    def subscribe(self, wanted: Predicate | None = None) -> Iterator[Subscription]:
        """Everything published from here on that `wanted` accepts (None: all)."""
        subscription = Subscription(wanted)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)


def check_envelope(envelope: Envelope) -> None:
    """Raises InvalidArgument: containerd's rules for a namespace, a topic and a time."""
    if not _COMPONENT.match(envelope.namespace):
        raise InvalidArgument(f"event namespace {envelope.namespace!r} is not an identifier")
    check_topic(envelope.topic)
    if envelope.timestamp_ns <= 0:
        raise InvalidArgument(f"event {envelope.topic} has no timestamp")


def check_topic(topic: str) -> None:
    if not topic.startswith("/") or len(topic) == 1 or len(topic) > TOPIC_BYTES_MAX:
        raise InvalidArgument(f"event topic {topic!r} must be a path that starts with '/'")
    if not all(_COMPONENT.match(component) for component in topic[1:].split("/")):
        raise InvalidArgument(f"event topic {topic!r} has a component that is not an identifier")
