"""Events of containerd as typed values, over a subscription that outlives containerd's restarts.

    async for event in containerd.events.subscribe():
        match event:
            case Subscribed(): ...       # re-derive state: what was before may have been missed
            case TaskExit(id="...", exec_id=""): ...

Source: containerd, api/services/events/v1/events.proto and api/events/task.proto.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from barque.containerd.client.channel import Channel
from barque.containerd.proto import event_types_pb2 as types
from barque.containerd.proto import events_pb2 as api
from barque.containerd.proto import images_pb2 as images
from barque.containerd.proto.types_pb2 import Envelope
from barque.containerd.proto.version_pb2 import VersionResponse
from barque.errors import ResourceExhausted, Unavailable

SERVICE = "containerd.services.events.v1.Events"
VERSION_SERVICE = "containerd.services.version.v1.Version"
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    namespace: str
    timestamp_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent(Event):
    """Something about the task of container `id`."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCreate(TaskEvent):
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStart(TaskEvent):
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExit(TaskEvent):
    """A process ended; `exec_id` is "" for the task's first process."""

    exec_id: str
    pid: int
    code: int
    exited_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDelete(TaskEvent):
    """A process was deleted, or, after its shim's death, found dead."""

    exec_id: str
    pid: int
    code: int
    exited_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExecAdded(TaskEvent):
    exec_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExecStarted(TaskEvent):
    exec_id: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOOM(TaskEvent): ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPaused(TaskEvent): ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResumed(TaskEvent): ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChanged(Event):
    """The name `name` was made, points elsewhere, or is gone."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Event):
    """An event of another kind, still encoded."""

    topic: str
    type_url: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """Everything from here on is told. What happened before may have been missed: `again` is true
    when there was a subscription before this one."""

    again: bool


class Events:
    """The Events service of one containerd."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def subscribe(
        self, filters: Sequence[str] = ()
    ) -> AsyncGenerator[Event | Subscribed, None]:
        """Events from now on, in order, without end; any of `filters` is enough, none is all.

        The first item is `Subscribed`. A lost connection is made again, which says `Subscribed`
        again. Raises what the server refuses it with, as for a malformed filter. Close with
        `aclosing`.
        """
        again = False
        retry_s = RETRY_FIRST_S
        while True:
            try:
                async with aclosing(self._stream(filters)) as envelopes:
                    async for envelope in envelopes:
                        retry_s = RETRY_FIRST_S
                        if envelope is None:
                            yield Subscribed(again=again)
                            again = True
                        else:
                            yield decode(envelope)
            except (Unavailable, ResourceExhausted) as error:  # gone, or we were too slow
                log.info("event subscription ended: %s", error)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def _stream(self, filters: Sequence[str]) -> AsyncGenerator[Envelope | None, None]:
        """The envelopes of one subscription; None once it is in place."""
        request = api.SubscribeRequest(filters=filters)
        async with self._channel.replies(SERVICE, "Subscribe", request, Envelope) as replies:
            # Some servers send nothing before the first event; a later call's answer shows that
            # this one has been taken up.
            await self._channel.unary(VERSION_SERVICE, "Version", Empty(), VersionResponse)
            yield None
            async for envelope in replies:
                yield envelope


def decode(envelope: Envelope) -> Event:
    """An event as a typed value; `Other` for what is not known, or is malformed."""
    namespace, at_ns = envelope.namespace, envelope.timestamp.ToNanoseconds()
    if image := IMAGES.get(envelope.event.type_url.rpartition("/")[2]):
        with suppress(DecodeError):
            name = image.FromString(envelope.event.value).name
            return ImageChanged(namespace=namespace, timestamp_ns=at_ns, name=name)
    kind, build = KNOWN.get(envelope.event.type_url.rpartition("/")[2], (None, None))
    if kind is not None and build is not None:
        try:
            message = kind.FromString(envelope.event.value)
        except DecodeError:
            log.warning("malformed event %s", envelope.topic)
        else:
            common = {"namespace": namespace, "timestamp_ns": at_ns, "id": message.container_id}
            return build(message, common)
    return Other(
        namespace=namespace,
        timestamp_ns=at_ns,
        topic=envelope.topic,
        type_url=envelope.event.type_url,
        value=envelope.event.value,
    )


def _exit(message: types.TaskExit, common: Mapping[str, Any]) -> TaskExit:
    return TaskExit(
        **common,
        exec_id="" if message.id == message.container_id else message.id,
        pid=message.pid,
        code=message.exit_status,
        exited_at_ns=message.exited_at.ToNanoseconds(),
    )


def _delete(message: types.TaskDelete, common: Mapping[str, Any]) -> TaskDelete:
    return TaskDelete(
        **common,
        exec_id="" if message.id in ("", message.container_id) else message.id,
        pid=message.pid,
        code=message.exit_status,
        exited_at_ns=message.exited_at.ToNanoseconds(),
    )


IMAGES: Mapping[str, Any] = {
    "containerd.services.images.v1.ImageCreate": images.ImageCreate,
    "containerd.services.images.v1.ImageUpdate": images.ImageUpdate,
    "containerd.services.images.v1.ImageDelete": images.ImageDelete,
}
KNOWN: Mapping[str, tuple[Any, Callable[[Any, Mapping[str, Any]], Event]]] = {
    "containerd.events.TaskCreate": (
        types.TaskCreate,
        lambda message, common: TaskCreate(**common, pid=message.pid),
    ),
    "containerd.events.TaskStart": (
        types.TaskStart,
        lambda message, common: TaskStart(**common, pid=message.pid),
    ),
    "containerd.events.TaskExit": (types.TaskExit, _exit),
    "containerd.events.TaskDelete": (types.TaskDelete, _delete),
    "containerd.events.TaskExecAdded": (
        types.TaskExecAdded,
        lambda message, common: TaskExecAdded(**common, exec_id=message.exec_id),
    ),
    "containerd.events.TaskExecStarted": (
        types.TaskExecStarted,
        lambda message, common: TaskExecStarted(**common, exec_id=message.exec_id, pid=message.pid),
    ),
    "containerd.events.TaskOOM": (types.TaskOOM, lambda message, common: TaskOOM(**common)),
    "containerd.events.TaskPaused": (
        types.TaskPaused,
        lambda message, common: TaskPaused(**common),
    ),
    "containerd.events.TaskResumed": (
        types.TaskResumed,
        lambda message, common: TaskResumed(**common),
    ),
}
