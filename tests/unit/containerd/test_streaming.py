"""Streams between clients and calls: bytes by windows, ends from either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from barque.containerd.grpc import Call
from barque.containerd.proto.streaming_pb2 import StreamInit
from barque.containerd.proto.transfer_types_pb2 import Data, Progress, WindowUpdate
from barque.containerd.streaming import WINDOW_BYTES, ByteStream, Streams, any_of, decoded
from barque.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound

CALL = Call("default")


class Client:
    """The far side: what it sends is queued, what it gets is a list."""

    def __init__(self, streams: Streams, id: str = "one") -> None:
        self.sent: asyncio.Queue[AnyMessage | None] = asyncio.Queue()
        self.got: asyncio.Queue[AnyMessage | None] = asyncio.Queue()
        self.sent.put_nowait(any_of(StreamInit(id=id)))
        self.task = asyncio.create_task(self._run(streams))

    async def _requests(self) -> AsyncIterator[AnyMessage]:
        while (message := await self.sent.get()) is not None:
            yield message

    async def _run(self, streams: Streams) -> None:
        try:
            async for message in streams.stream(CALL, self._requests()):
                await self.got.put(message)
        finally:
            await self.got.put(None)


def run(check: Callable[[Streams, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        streams = Streams()
        client = Client(streams)
        first = await client.got.get()
        assert first is not None
        decoded(Empty, first)
        await asyncio.wait_for(check(streams, client), 60)
        client.task.cancel()
        await asyncio.gather(client.task, return_exceptions=True)

    asyncio.run(main())


async def whole(stream: ByteStream) -> bytes:
    return b"".join([piece async for piece in stream.read()])


def test_bytes_come_as_the_window_opens() -> None:
    async def check(streams: Streams, client: Client) -> None:
        reading = asyncio.create_task(whole(streams.take("default", "one")))
        data, at = bytes(range(256)) * 12_000, 0
        while at < len(data):
            message = await client.got.get()
            assert message is not None
            update = decoded(WindowUpdate, message).update
            assert 0 < update <= WINDOW_BYTES
            await client.sent.put(any_of(Data(data=data[at : at + update])))
            at += update
        await client.sent.put(None)
        assert await reading == data

    run(check)


def test_bytes_go_as_the_window_opens() -> None:
    async def check(streams: Streams, client: Client) -> None:
        stream = streams.take("default", "one")
        data = b"0123456789" * 10_000
        writing = asyncio.create_task(stream.write(data))
        got = b""
        while len(got) < len(data):
            await client.sent.put(any_of(WindowUpdate(update=33_000)))
            at_most = len(got) + 33_000
            while len(got) < min(at_most, len(data)):
                message = await client.got.get()
                assert message is not None
                got += decoded(Data, message).data
        await writing
        stream.close()
        assert got == data
        assert await client.got.get() is None

    run(check)


def test_everything_sent_arrives_before_the_end() -> None:
    async def check(streams: Streams, client: Client) -> None:
        stream = streams.take("default", "one")
        for number in range(100):
            await stream.send(Progress(progress=number))
        stream.close()
        with pytest.raises(DataLoss):
            await stream.send(Progress())
        for number in range(100):
            message = await client.got.get()
            assert message is not None
            assert decoded(Progress, message).progress == number
        assert await client.got.get() is None

    run(check)


def test_a_client_that_goes_ends_both_directions() -> None:
    async def check(streams: Streams, client: Client) -> None:
        stream = streams.take("default", "one")
        writing = asyncio.create_task(stream.write(b"never asked for"))
        await asyncio.sleep(0)
        client.task.cancel()
        with pytest.raises(DataLoss):
            await writing
        assert await stream.receive() is None
        with pytest.raises(DataLoss):
            await stream.send(Progress())

    run(check)


def test_a_writer_that_waits_for_room_finds_the_end() -> None:
    async def check(streams: Streams, client: Client) -> None:
        stream = ByteStream()
        serving = stream.serve(client._requests())

        async def tell() -> None:
            while True:
                await stream.send(Progress())

        telling = asyncio.create_task(tell())
        assert await anext(serving)
        await asyncio.sleep(0)
        await serving.aclose()  # type: ignore[attr-defined]
        with pytest.raises(DataLoss):
            await telling

    run(check)


def test_names() -> None:
    async def check(streams: Streams, client: Client) -> None:
        with pytest.raises(AlreadyExists):
            await Client(streams).task
        with pytest.raises(NotFound):
            streams.take("other", "one")
        streams.take("default", "one")
        with pytest.raises(NotFound):
            streams.take("default", "one")
        for id in ("", "x" * 300):
            with pytest.raises(InvalidArgument):
                await Client(streams, id).task

    run(check)


def test_what_is_no_object_of_the_kind() -> None:
    with pytest.raises(InvalidArgument, match=r"not containerd\.types\.transfer\.Data"):
        decoded(Data, any_of(Empty()))
    with pytest.raises(InvalidArgument, match="malformed"):
        decoded(Data, AnyMessage(type_url="x/containerd.types.transfer.Data", value=b"\xff"))
