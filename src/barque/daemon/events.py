"""The engine's events: published by services, kept in a ring on disk, streamed to `GET /events`.

The ring is two files of JSON lines: the newer is appended to, and becomes the older when full.
A write is not synced: a power cut may take the last events, our own death does not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
RING_EVENTS = 1024
QUEUE_EVENTS = 4096
log = logging.getLogger(__name__)


class Events:
    """Publish and subscribe in one daemon. A reader 4096 events behind loses the oldest."""

    def __init__(
        self, path: Path | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """`path` is where the newer half of the ring is kept."""
        self._clock_ns = clock_ns
        self._path = path
        self._file = -1
        self._lines = 0
        self._ring: deque[dict[str, Any]] = deque(maxlen=RING_EVENTS)
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()
        self._last_ns = 0
        self.published = 0
        if path is not None:
            self._ring.extend(_load(_older(path)))
            newer = _load(path)
            self._ring.extend(newer)
            self._lines = len(newer)
            self._open(path)

    @property
    def listeners(self) -> int:
        return len(self._queues)

    def publish(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """`kind` is container, image, network, volume or daemon; `actor` the object's id."""
        now = self._last_ns = max(self._clock_ns(), self._last_ns + 1)
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
        self.published += 1
        self._ring.append(event)
        self._keep(event)
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

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, path: Path) -> None:
        self._file = os.open(path, OPEN, 0o600)

    def _turn(self, path: Path) -> None:
        """Begin another newer half. Where that fails the old one goes on, and grows as much."""
        fresh = path.with_name(path.name + "~")
        file = -1
        try:
            file = os.open(fresh, OPEN | os.O_TRUNC, 0o600)
            with suppress(FileNotFoundError):  # this has failed between the two
                os.rename(path, _older(path))
            os.rename(fresh, path)
        except OSError as error:
            log.warning("older events cannot be put aside: %s", error)
            if file >= 0:
                os.close(file)
            return
        os.close(self._file)
        self._file, self._lines = file, 0

    def _keep(self, event: dict[str, Any]) -> None:
        """A disk that is full loses the event for later daemons, and harms nothing else."""
        if self._file < 0 or self._path is None:
            return
        if self._lines and self._lines % RING_EVENTS == 0:
            self._turn(self._path)
        try:
            # begins with the line's end, so that a line cut off by a full disk spoils no other
            os.write(self._file, b"\n" + msgspec.json.encode(event))
            self._lines += 1
        except OSError as error:
            log.warning("an event is not kept for a later daemon: %s", error)


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _load(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a half; what a crash cut off is dropped."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("events of an earlier daemon cannot be read: %s", error)
        return []
    found = []
    for line in raw.split(b"\n"):
        try:
            event = json.loads(line) if line else None
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("timeNano"), int):
            found.append(event)
    return found


async def _drain(queue: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    while True:
        yield await queue.get()
