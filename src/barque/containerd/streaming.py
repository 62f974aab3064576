"""gRPC Streaming: byte and object streams that other calls name, such as those of Transfer.

    client                                  server
      Stream: StreamInit{id}  ------------->
                              <-------------  Empty: it is there, other calls may name it
      Transfer(... stream: id)  ----------->  takes it

Bytes go in Data objects, as many as the receiver has opened its window for by WindowUpdate.
Source: containerd, docs/transfer.md, api/services/streaming/v1 and core/transfer/streaming.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import namespace_of
from barque.containerd.proto import streaming_pb2 as api
from barque.containerd.proto.transfer_types_pb2 import Data, WindowUpdate
from barque.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound

Kind = TypeVar("Kind", bound=Message)

PIECE_BYTES = 32 << 10
WINDOW_BYTES = 1 << 20
QUEUED_MOST = 128  # objects of one stream that nobody has taken yet
ID_BYTES_MAX = 256


class ByteStream:
    """One stream between a client and a call of ours. The client's half is the gRPC call."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[AnyMessage | None] = asyncio.Queue(QUEUED_MOST)
        self._outgoing: asyncio.Queue[AnyMessage | None] = asyncio.Queue(QUEUED_MOST)
        self._closed = False
        self._client_ended = False
        self._window = 0  # bytes that the client still takes

    async def receive(self) -> AnyMessage | None:
        """The client's next object; None when it sends no more."""
        if self._client_ended:
            return None
        found = await self._incoming.get()
        self._client_ended = found is None
        return found

    async def send(self, message: Message) -> None:
        """Raises DataLoss when the client has gone."""
        if self._closed:
            raise DataLoss("the stream is closed")
        await self._outgoing.put(any_of(message))

    def close(self) -> None:
        """We send no more; the client's call ends when it has what was sent."""
        self._closed = True
        if not self._outgoing.full():  # else it is looked at after the next object
            self._outgoing.put_nowait(None)

    # Bytes

    async def read(self) -> AsyncIterator[bytes]:
        """The bytes that the client sends."""
        window = 0
        while True:
            if window < WINDOW_BYTES // 2:
                await self.send(WindowUpdate(update=WINDOW_BYTES - window))
                window = WINDOW_BYTES
            message = await self.receive()
            if message is None:
                return
            data = decoded(Data, message).data
            window -= len(data)
            if data:
                yield data

    async def write(self, data: bytes) -> None:
        """Bytes for the client, when it wants them. Raises DataLoss when it never will."""
        view = memoryview(data)
        while view:
            while self._window <= 0:
                message = await self.receive()
                if message is None:
                    raise DataLoss("the client reads no more of the stream")
                self._window += decoded(WindowUpdate, message).update
            count = min(len(view), self._window, PIECE_BYTES)
            await self.send(Data(data=bytes(view[:count])))
            self._window -= count
            view = view[count:]

    # The client's call

    async def serve(self, requests: AsyncIterator[AnyMessage]) -> AsyncIterator[AnyMessage]:
        """Carries objects both ways until either side has ended it."""
        reading = asyncio.create_task(self._take(requests))
        try:
            while (message := await self._outgoing.get()) is not None:
                yield message
                if self._closed and self._outgoing.empty():
                    break
        finally:
            self._closed = True
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            while not self._outgoing.empty():  # who waits for room finds that it is over
                self._outgoing.get_nowait()
            self._end_incoming()

    async def _take(self, requests: AsyncIterator[AnyMessage]) -> None:
        async for request in requests:
            await self._incoming.put(request)
        await self._incoming.put(None)

    def _end_incoming(self) -> None:
        while self._incoming.full():
            self._incoming.get_nowait()
        self._incoming.put_nowait(None)


class Streams:
    """The streams that clients have opened and nobody has taken, and the service for them."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], ByteStream] = {}

    def service(self) -> Service:
        return Service(api.DESCRIPTOR.services_by_name["Streaming"], {"Stream": self.stream})

    def take(self, namespace: str, id: str) -> ByteStream:
        """The stream `id`, for one call of ours, which closes it. Raises NotFound."""
        found = self._streams.pop((namespace, id), None)
        if found is None:
            raise NotFound(f"stream {id!r}: not found")
        return found

    async def stream(
        self, call: Call, requests: AsyncIterator[AnyMessage]
    ) -> AsyncIterator[AnyMessage]:
        namespace = namespace_of(call)
        first = await anext(aiter(requests), None)
        if first is None:
            raise InvalidArgument("a stream begins with its name")
        id = decoded(api.StreamInit, first).id
        if not id or len(id.encode()) > ID_BYTES_MAX:
            raise InvalidArgument(f"stream has no name, or one of more than {ID_BYTES_MAX} bytes")
        key = namespace, id
        if key in self._streams:
            raise AlreadyExists(f"stream {id!r}: already exists")
        made = self._streams[key] = ByteStream()
        try:
            yield any_of(Empty())
            async for message in made.serve(requests):
                yield message
        finally:
            if self._streams.get(key) is made:
                del self._streams[key]


def any_of(message: Message) -> AnyMessage:
    """As containerd names types: by their full names alone."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def decoded(kind: type[Kind], message: AnyMessage) -> Kind:
    """Raises InvalidArgument for another type, or for what is none."""
    name = message.type_url.rpartition("/")[2]
    if name != kind.DESCRIPTOR.full_name:
        raise InvalidArgument(f"object of type {name[:100]!r}, not {kind.DESCRIPTOR.full_name}")
    try:
        return kind.FromString(message.value)
    except DecodeError as error:
        raise InvalidArgument(f"malformed {name}") from error
