"""Calls of gRPC counted by method, under the names that containerd gives them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

from google.protobuf.descriptor import MethodDescriptor

from barque.containerd.http2.server import Answer, Rest, ServerStream
from barque.containerd.http2.status import Status
from barque.containerd.metrics.text import COUNTER, HISTOGRAM, Family, Sample

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KINDS = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
SPELLINGS = {Status.OK: "OK", Status.CANCELLED: "Canceled"}  # as grpc-go's, which containerd tells


class Method:
    """One method's counts."""

    def __init__(self, descriptor: MethodDescriptor) -> None:
        streams = descriptor.client_streaming, descriptor.server_streaming
        self.labels = {
            "grpc_method": descriptor.name,
            "grpc_service": descriptor.containing_service.full_name,
            "grpc_type": KINDS[streams],
        }
        self.started = self.received = self.sent = 0
        self.handled: Counter[Status] = Counter()
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)

    def counted(self, answer: Answer) -> Answer:
        """`answer`, with its calls counted."""

        def count(stream: ServerStream) -> Rest | None:
            self.started += 1
            before = time.monotonic()
            rest = None
            try:
                rest = answer(stream)
            finally:
                if rest is None:
                    self._ended(stream, time.monotonic() - before)
            return None if rest is None else partial(finish, stream, rest, before)

        async def finish(stream: ServerStream, rest: Rest, before: float) -> None:
            try:
                await rest()
            finally:
                self._ended(stream, time.monotonic() - before)

        return count

    def _ended(self, stream: ServerStream, took_s: float) -> None:
        self.handled[Status.CANCELLED if stream.status is None else stream.status] += 1
        self.received += stream.received_messages
        self.sent += stream.sent_messages
        self.seconds += took_s
        self.buckets[sum(took_s > bound for bound in BUCKETS_S)] += 1

    def histogram(self) -> Iterator[Sample]:
        total = 0
        for bound, count in zip((*BUCKETS_S, float("inf")), self.buckets, strict=True):
            total += count
            told = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield Sample({**self.labels, "le": told}, total, "_bucket")
        yield Sample(self.labels, self.seconds, "_sum")
        yield Sample(self.labels, total, "_count")


class Calls:
    """All methods that are served."""

    def __init__(self, *, histogram: bool) -> None:
        self._histogram = histogram
        self._methods: list[Method] = []

    def watch(self, descriptor: MethodDescriptor, answer: Answer) -> Answer:
        method = Method(descriptor)
        self._methods.append(method)
        return method.counted(answer)

    def families(self) -> Iterator[Family]:
        for name, text in (
            ("started", "Calls begun."),
            ("msg_received", "Messages received in calls that have ended."),
            ("msg_sent", "Messages sent in calls that have ended."),
        ):
            field = name.removeprefix("msg_")
            samples = [Sample(one.labels, getattr(one, field)) for one in self._methods]
            yield Family(f"grpc_server_{name}_total", COUNTER, text, samples)
        handled = [
            Sample({"grpc_code": spelled(status), **one.labels}, one.handled[status])
            for one in self._methods
            for status in Status
        ]
        yield Family("grpc_server_handled_total", COUNTER, "Calls ended, by status.", handled)
        if self._histogram:
            lines = [sample for one in self._methods for sample in one.histogram()]
            text = "Seconds that calls took."
            yield Family("grpc_server_handling_seconds", HISTOGRAM, text, lines)


def spelled(status: Status) -> str:
    return SPELLINGS.get(status) or status.name.title().replace("_", "")
