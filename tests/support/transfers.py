"""A client of containerd's Transfer and Streaming services, as containerd's own Go client is one.

async with Transfers(address, "default") as client:
    await client.import_archive(data, store)
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from barque.containerd.client.channel import Channel, Duplex
from barque.containerd.proto import streaming_pb2, transfer_pb2
from barque.containerd.proto import transfer_types_pb2 as types
from barque.containerd.streaming import any_of, decoded

TRANSFER = "containerd.services.transfer.v1.Transfer"
STREAMING = "containerd.services.streaming.v1.Streaming"
WINDOW = 100_000


class Transfers:
    """`progress` is what was told of every transfer."""

    def __init__(self, address: str, namespace: str) -> None:
        self._channel = Channel(address, namespace)
        self.progress: list[types.Progress] = []

    async def __aenter__(self) -> Transfers:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    async def transfer(self, source: Message, target: Message) -> None:
        async with self._stream() as (id, stream):
            listening = asyncio.create_task(self._listen(stream))
            request = transfer_pb2.TransferRequest(
                source=any_of(source), destination=any_of(target)
            )
            request.options.progress_stream = id
            try:
                await self._channel.unary(TRANSFER, "Transfer", request, Empty)
            finally:
                await listening

    async def _listen(self, stream: Objects) -> None:
        while (message := await stream.receive()) is not None:
            self.progress.append(decoded(types.Progress, message))

    async def import_archive(self, data: bytes, store: types.ImageStore) -> None:
        async with self._stream() as (id, stream):
            sending = asyncio.create_task(send_bytes(stream, data))
            try:
                await self.transfer(types.ImageImportStream(stream=id), store)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def export(
        self, store: types.ImageStore, *, skip_compatibility_manifest: bool = False
    ) -> bytes:
        async with self._stream() as (id, stream):
            reading = asyncio.create_task(read_bytes(stream))
            out = types.ImageExportStream(
                stream=id, skip_compatibility_manifest=skip_compatibility_manifest
            )
            await self.transfer(store, out)
            return await reading

    @asynccontextmanager
    async def auth(self, answer: types.AuthResponse) -> AsyncIterator[tuple[str, list[str]]]:
        """A stream on which `answer` is given; the hosts that were asked for."""
        asked: list[str] = []

        async def serve(stream: Objects) -> None:
            while (message := await stream.receive()) is not None:
                asked.append(decoded(types.AuthRequest, message).host)
                await stream.send(answer)

        async with self._stream() as (id, stream):
            serving = asyncio.create_task(serve(stream))
            try:
                yield id, asked
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[tuple[str, Objects]]:
        id = secrets.token_hex(8)
        async with self._channel.duplex(STREAMING, "Stream", AnyMessage, AnyMessage) as call:
            stream = Objects(call)
            await stream.send(streaming_pb2.StreamInit(id=id))
            acknowledged = await stream.receive()
            assert acknowledged is not None
            decoded(Empty, acknowledged)
            yield id, stream


class Objects:
    """A stream of objects: each travels as an Any."""

    def __init__(self, stream: Duplex[AnyMessage, AnyMessage]) -> None:
        self._stream = stream

    async def send(self, message: Message) -> None:
        await self._stream.send(any_of(message))

    async def receive(self) -> AnyMessage | None:
        return await self._stream.receive()

    async def end(self) -> None:
        await self._stream.end()


async def send_bytes(stream: Objects, data: bytes) -> None:
    """As the server opens its window."""
    at = window = 0
    while at < len(data):
        while window <= 0:
            message = await stream.receive()
            if message is None:
                return
            window += decoded(types.WindowUpdate, message).update
        piece = data[at : at + min(window, 32 << 10)]
        await stream.send(types.Data(data=piece))
        at, window = at + len(piece), window - len(piece)
    await stream.end()


async def read_bytes(stream: Objects) -> bytes:
    """A small window, opened again and again."""
    found, window = bytearray(), 0
    while True:
        if window <= 0:
            await stream.send(types.WindowUpdate(update=WINDOW))
            window += WINDOW
        message = await stream.receive()
        if message is None:
            return bytes(found)
        data = decoded(types.Data, message).data
        found += data
        window -= len(data)
