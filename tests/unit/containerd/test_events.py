"""The exchange: order, isolation of slow subscribers, rules for topics, filters over events."""

import asyncio

import pytest

from barque.containerd.event_service import (
    EventService,
    decode_event,
    envelope_of,
    lookup,
    message_of,
    predicate,
)
from barque.containerd.events import QUEUE_EVENTS_MAX, Envelope, Exchange
from barque.containerd.grpc import Call
from barque.containerd.proto.event_types_pb2 import TaskExit
from barque.containerd.proto.events_pb2 import PublishRequest, SubscribeRequest
from barque.containerd.proto.images_pb2 import ImageCreate
from barque.errors import Conflict, InvalidArgument, ResourceExhausted


def envelope(topic: str = "/tasks/exit", namespace: str = "moby") -> Envelope:
    event = TaskExit(container_id="c", id="c", exit_status=3)
    return Envelope(1, namespace, topic, "containerd.events.TaskExit", event.SerializeToString())


def test_subscribers_get_all_events_in_order() -> None:
    async def run() -> list[str]:
        exchange = Exchange(clock_ns=lambda: 7)
        with exchange.subscribe() as subscription:
            for name in ("a", "b", "c"):
                exchange.publish("moby", f"/tasks/{name}", TaskExit(container_id=name))
            return [(await anext(subscription)).topic for _ in range(3)]

    assert asyncio.run(run()) == ["/tasks/a", "/tasks/b", "/tasks/c"]


def test_publish_tells_type_time_and_payload() -> None:
    async def run() -> Envelope:
        exchange = Exchange(clock_ns=lambda: 7)
        with exchange.subscribe() as subscription:
            exchange.publish("moby", "/tasks/exit", TaskExit(container_id="c"))
            return await anext(subscription)

    got = asyncio.run(run())
    assert (got.timestamp_ns, got.type_url) == (7, "containerd.events.TaskExit")
    assert TaskExit.FromString(got.value).container_id == "c"


def test_a_subscriber_too_far_behind_is_told_so_and_others_are_not_held() -> None:
    async def run() -> None:
        exchange = Exchange()
        with exchange.subscribe() as slow, exchange.subscribe() as quick:
            for _ in range(QUEUE_EVENTS_MAX + 1):
                exchange.forward(envelope())
                await anext(quick)
            for _ in range(QUEUE_EVENTS_MAX):
                await anext(slow)
            with pytest.raises(ResourceExhausted):
                await anext(slow)

    asyncio.run(run())


def test_an_ended_subscription_gets_nothing_more() -> None:
    async def run() -> None:
        exchange = Exchange()
        with exchange.subscribe() as subscription:
            pass
        exchange.forward(envelope())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(subscription)

    asyncio.run(run())


@pytest.mark.parametrize("topic", ["", "/", "tasks", "/tasks/", "//x", "/a b", "/tasks/-x", "////"])
def test_bad_topics_are_refused(topic: str) -> None:
    with pytest.raises(InvalidArgument):
        Exchange().publish("moby", topic, TaskExit())


@pytest.mark.parametrize("namespace", ["", "a/b", "..", "-a", "a\n"])
def test_bad_namespaces_are_refused(namespace: str) -> None:
    with pytest.raises(InvalidArgument):
        Exchange().publish(namespace, "/tasks/exit", TaskExit())


def test_any_filter_is_enough_and_none_accepts_all() -> None:
    assert predicate([]) is None
    either = predicate(['topic=="/a"', "namespace==moby"])
    assert either is not None
    assert either(envelope("/a", "other"))
    assert either(envelope("/b", "moby"))
    assert not either(envelope("/b", "other"))


def test_fields_of_events_for_filters() -> None:
    field = lookup(envelope())
    assert field(("topic",)) == "/tasks/exit"
    assert field(("namespace",)) == "moby"
    assert (
        field(
            (
                "event",
                "container_id",
            )
        )
        == "c"
    )
    for absent in (("event",), ("event", "nothing"), ("event", "exit_status"), ("other",), ()):
        assert field(absent) is None
    image = ImageCreate(name="x", labels={"a.b": "1"})
    field = lookup(
        Envelope(
            1,
            "n",
            "/images/create",
            "containerd.services.images.v1.ImageCreate",
            image.SerializeToString(),
        )
    )
    assert (
        field(
            (
                "event",
                "labels",
                "a.b",
            )
        )
        == "1"
    )
    assert (
        field(
            (
                "event",
                "labels",
                "a",
                "b",
            )
        )
        == "1"
    )


@pytest.mark.parametrize(
    ("type_url", "value"),
    [
        ("containerd.events.TaskExit", b"\xff"),
        ("containerd.events.DESCRIPTOR", b""),
        ("containerd.events.__name__", b""),
        ("somebody.else.Event", b""),
        ("", b""),
    ],
)
def test_unknown_and_broken_events_have_no_fields(type_url: str, value: bytes) -> None:
    assert decode_event(type_url, value) is None


def test_envelopes_survive_the_wire() -> None:
    assert envelope_of(message_of(envelope())) == envelope()


def test_publish_and_subscribe_through_the_service() -> None:
    async def run() -> str:
        exchange = Exchange()
        service = EventService(exchange)
        stream = service.subscribe(Call("a"), SubscribeRequest(filters=['topic=="/mine"']))
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for topic in ("/other", "/mine"):
            request = PublishRequest(topic=topic)
            request.event.Pack(TaskExit())
            await service.publish(Call("a"), request)
        return (await first).topic

    assert asyncio.run(run()) == "/mine"


def test_publish_without_a_namespace_is_refused() -> None:
    service = EventService(Exchange())
    with pytest.raises(Conflict, match="namespace is required"):
        asyncio.run(service.publish(Call(), PublishRequest(topic="/x")))
