"""The engine's events: published by services, kept in a ring, streamed to `GET /events`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

RING_EVENTS = 1024
QUEUE_EVENTS = 4096


class Events:
    """Publish and subscribe in one daemon. A reader 4096 events behind loses the oldest."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._ring: deque[dict[str, Any]] = deque(maxlen=RING_EVENTS)
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def publish(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """`kind` is container, image, network, volume or daemon; `actor` the object's id."""
        now = self._clock_ns()
        event: dict[str, Any] = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": dict(attributes)},
            "scope": "local",
            "time": now // 1_000_000_000,
            "timeNano": now,
        }
        if kind in {"container", "image"}:  # API < 1.22 names, which clients still read
            event["status"], event["id"] = action, actor
        if kind == "container" and "image" in attributes:
            event["from"] = attributes["image"]
        self._ring.append(event)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def since(self, time_ns: int) -> list[dict[str, Any]]:
        return [event for event in self._ring if event["timeNano"] >= time_ns]

    @contextmanager
    def subscribe(self) -> Iterator[AsyncIterator[dict[str, Any]]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE_EVENTS)
        self._queues.add(queue)
        try:
            yield _drain(queue)
        finally:
            self._queues.discard(queue)


async def _drain(queue: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    while True:
        yield await queue.get()
