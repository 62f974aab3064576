"""Events to containerd: in order, one at a time, kept until they are taken.

One connection to `TTRPC_ADDRESS`; each event is a call of Events/Forward and is dropped from the
queue only by its answer. Without an answer the connection is made again, later and later, and at
once when a containerd connects to the shim.
"""

from __future__ import annotations

import _socket
import time

from barque.shim import ttrpc
from barque.shim.messages import (
    EVENTS_SERVICE,
    FORWARD_REQUEST,
    TASK_EVENTS,
    timestamp,
)
from barque.shim.sockets import Stream
from barque.shim.wire import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from barque.shim.loop import Deadline, Loop

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 10.0
QUEUE_MAX: Final = 10_000
UNASKED: Final = ("/tasks/exit", "/tasks/oom")  # the others tell what who asked for it knows:
SOON_S: Final = 0.001  # what that asks for next goes first
NAMESPACE_KEY: Final = "containerd-namespace-ttrpc"


class Publisher:
    """The queue of one shim's events. With an empty `address` events go nowhere."""

    def __init__(
        self, loop: Loop, address: str, namespace: str, warn: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._path = address.removeprefix("unix://")
        self._namespace = namespace
        self._warn = warn
        self._queue: list[tuple[str, dict[str, Any], int]] = []  # topic, values, time in ns
        self._stream: Stream | None = None
        self._parser = ttrpc.Parser()
        self._number = -1
        self._waiting = False
        self._retry: Deadline | None = None
        self._retry_s = RETRY_FIRST_S
        self._emptied: Callable[[], None] | None = None

    def publish(self, topic: str, values: dict[str, Any]) -> None:
        """Queue one event of `TASK_EVENTS`; the time is now. It goes out in a later turn of the
        loop: what is answered in this one is not to wait for it."""
        if not self._path:
            return
        if len(self._queue) >= QUEUE_MAX:
            self._warn("queue of events is full, the oldest is lost")
            del self._queue[1]  # the first may be under way
        self._queue.append((topic, values, time.time_ns()))
        if topic in UNASKED:
            self._loop.afterwards(self._pump)
        else:
            self._loop.after(SOON_S, self._pump)

    def rest(self) -> bool:
        """Close the connection, which is made again for the next event. False: some wait."""
        if self._queue or self._waiting or self._retry is not None:
            return False
        if self._stream is not None:
            self._stream.close()
        return True

    def when_empty(self, callback: Callable[[], None]) -> None:
        """Call `callback` once every event has been taken."""
        if self._queue:
            self._emptied = callback
        else:
            callback()

    def hurry(self) -> None:
        """A containerd is there: try now."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._retry_s = RETRY_FIRST_S
        self._pump()

    def _pump(self) -> None:
        if not self._queue or self._waiting or self._retry is not None:
            return
        if self._stream is None and not self._connect():
            return
        assert self._stream is not None
        self._number += 2
        self._waiting = True
        metadata = ((NAMESPACE_KEY, self._namespace),)
        self._stream.send(
            ttrpc.request(self._number, EVENTS_SERVICE, "Forward", self._first(), metadata=metadata)
        )

    def _first(self) -> bytes:
        """The request for the first of the queue."""
        topic, values, time_ns = self._queue[0]
        table = TASK_EVENTS[topic]
        envelope = {
            "timestamp": timestamp(time_ns),
            "namespace": self._namespace,
            "topic": topic,
            "event": {"type_url": table.name, "value": encode(table, values)},
        }
        return encode(FORWARD_REQUEST, {"envelope": envelope})

    def _connect(self) -> bool:
        try:
            client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
            client.connect(self._path)  # a unix socket connects at once or not at all
            self._stream = Stream(self._loop, client.detach(), self._received, self._lost)
        except OSError:
            self._later()
            return False
        self._number = -1
        self._parser = ttrpc.Parser()
        return True

    def _later(self) -> None:
        self._retry = self._loop.after(self._retry_s, self._again)
        self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)

    def _again(self) -> None:
        self._retry = None
        self._pump()

    def _received(self, data: bytes) -> None:
        assert self._stream is not None
        if not data:
            self._stream.close()
            return
        try:
            frames = self._parser.feed(data)
        except Exception:
            self._stream.close()
            return
        for frame in frames:
            if frame.kind == ttrpc.RESPONSE and frame.stream == self._number and self._waiting:
                self._taken(frame)

    def _taken(self, frame: ttrpc.Frame) -> None:
        try:
            ttrpc.parse_response(frame.data)
        except Exception as error:
            # It was received and refused; again would be refused again.
            self._warn(f"containerd refused an event: {error}")
        self._waiting = False
        self._retry_s = RETRY_FIRST_S
        del self._queue[0]
        if not self._queue and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied()
        self._pump()

    def _lost(self) -> None:
        self._stream = None
        self._waiting = False
        if self._queue and self._retry is None:
            self._later()

    def close(self) -> None:
        """Give up: what is queued is lost."""
        if self._queue:
            self._warn(f"{len(self._queue)} events are lost: containerd does not take them")
        self._queue.clear()
        if self._stream is not None:
            self._stream.close()
        if self._retry is not None:
            self._retry.cancel()
        if self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied()
