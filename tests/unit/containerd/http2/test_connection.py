"""Both ends of a connection, with each other, with grpcio, and with peers that break the rules."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from barque.containerd.http2 import frames
from barque.containerd.http2.client import ClientConnection
from barque.containerd.http2.frames import frame
from barque.containerd.http2.headers import literals
from barque.containerd.http2.server import Answer, Rest, ServerConnection, ServerStream
from barque.containerd.http2.status import Refused, Status, check
from barque.containerd.http2.stream import LARGEST_MESSAGE, Stream, StreamEnded, TooLarge

Raw = Callable[[bytes], bytes]


async def echo(stream: ServerStream) -> None:
    """Answers each message with itself."""
    try:
        while (message := await stream.receive()) is not None:
            stream.begin()
            await stream.send(message)
        stream.finish()
    except TooLarge as error:
        stream.finish(Status.RESOURCE_EXHAUSTED, str(error))


def once(stream: ServerStream) -> Rest | None:
    """Answers at once, where there is room for it."""
    message = stream.only() or b""
    if stream.fits(message):
        stream.answer(message)
        return None
    return partial(in_parts, stream, message)


async def in_parts(stream: ServerStream, message: bytes) -> None:
    stream.begin()
    await stream.send(message)
    stream.finish()


def refuse(stream: ServerStream) -> None:
    stream.finish(Status.NOT_FOUND, 'container "ü%": not found')


async def never(stream: ServerStream) -> None:
    stream.begin()
    await asyncio.sleep(1000)


ANSWERS: dict[str, tuple[Answer, bool]] = {
    "/t/Echo": (lambda stream: partial(echo, stream), True),
    "/t/Once": (once, False),
    "/t/Refuse": (refuse, False),
    "/t/Never": (lambda stream: partial(never, stream), True),
}


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bq-h2-", dir="/tmp") as root:
        yield f"{root}/s"


@asynccontextmanager
async def serving(path: str) -> AsyncIterator[list[ServerConnection]]:
    made: list[ServerConnection] = []

    def connected() -> ServerConnection:
        made.append(ServerConnection(lambda name: ANSWERS[name]))
        return made[-1]

    server = await asyncio.get_running_loop().create_unix_server(connected, path)
    async with server:
        yield made
        for connection in made:
            connection.close()


async def connected(path: str) -> ClientConnection:
    _, made = await asyncio.get_running_loop().create_unix_connection(ClientConnection, path)
    return made


def run(
    path: str, body: Callable[[ClientConnection, list[ServerConnection]], Awaitable[None]]
) -> None:
    async def go() -> None:
        async with serving(path) as servers:
            client = await connected(path)
            await body(client, servers)
            client.close()

    asyncio.run(asyncio.wait_for(go(), 60))


async def ask(client: ClientConnection, name: str, message: bytes) -> bytes | None:
    stream = client.call(f"/t/{name}", (("containerd-namespace", "n"),))
    await stream.send(message, end=True)
    answer = await stream.receive()
    if answer is not None:
        assert await stream.receive() is None
    check(stream.headers, stream.trailers)
    return answer


@pytest.mark.parametrize("size", [0, 1, 16_380, 65_531, 1 << 20, LARGEST_MESSAGE])
def test_messages_of_every_size(path: str, size: int) -> None:
    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        data = os.urandom(size)
        for name in ("Once", "Echo"):
            assert await ask(client, name, data) == data
        assert not client.streams
        assert not servers[0].streams

    run(path, body)


def test_many_calls_at_once(path: str) -> None:
    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        messages = [os.urandom(random.randrange(40_000)) for _ in range(300)]
        assert await asyncio.gather(*(ask(client, "Once", m) for m in messages)) == messages
        assert not client.streams
        assert not servers[0].streams

    run(path, body)


def test_a_refusal_is_told(path: str) -> None:
    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        with pytest.raises(Refused) as caught:
            await ask(client, "Refuse", b"x")
        assert (caught.value.status, caught.value.text) == (5, 'container "ü%": not found')

    run(path, body)


@pytest.mark.parametrize(
    "start", [b"\0" + (LARGEST_MESSAGE + 1).to_bytes(4, "big"), b"\1\0\0\0\1x"]
)
def test_a_message_that_is_too_large_or_compressed(path: str, start: bytes) -> None:
    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        stream = client.call("/t/Echo", ())
        client.send_data(stream, start, False)
        assert await stream.receive() is None
        with pytest.raises(Refused) as caught:
            check(stream.headers, stream.trailers)
        assert caught.value.status is Status.RESOURCE_EXHAUSTED
        assert not servers[0].streams

    run(path, body)


def test_a_client_that_gives_up_cancels_its_call(path: str) -> None:
    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        stream = client.call("/t/Never", ())
        await stream.answered()
        (task,) = servers[0].tasks()
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ask(client, "Once", b"on") == b"on"

    run(path, body)


def test_a_lost_connection_ends_both_sides(path: str) -> None:
    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        stream = client.call("/t/Never", ())
        await stream.answered()
        (task,) = servers[0].tasks()
        assert client._transport is not None
        client._transport.abort()
        with pytest.raises(StreamEnded):
            await stream.receive()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(StreamEnded):
            client.call("/t/Once", ())

    run(path, body)


def test_a_deadline(path: str) -> None:
    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        stream = client.call("/t/Never", (("grpc-timeout", "20m"),))
        assert await stream.receive() is None
        with pytest.raises(Refused) as caught:
            check(stream.headers, stream.trailers)
        assert caught.value.status is Status.DEADLINE_EXCEEDED

    run(path, body)


def test_a_slow_reader_bounds_what_is_queued(path: str) -> None:
    """The sender stops at the window, the reader gets every byte."""

    async def body(client: ClientConnection, servers: list[ServerConnection]) -> None:
        stream = client.call("/t/Echo", ())
        piece = os.urandom(1 << 20)
        count = 100
        sent = 0

        async def feed() -> None:
            nonlocal sent
            for _ in range(count):
                await stream.send(piece)
                sent += 1
            stream.end()

        feeding = asyncio.create_task(feed())
        await asyncio.sleep(0.3)
        assert sent < count  # two windows and the sockets are full
        for _ in range(count):
            assert await stream.receive() == piece
        assert await stream.receive() is None
        await feeding

    run(path, body)


# With another implementation


def through_grpcio(path: str, use: Callable[[grpc.Channel], None]) -> None:
    async def go() -> None:
        async with serving(path):
            await asyncio.to_thread(call)

    def call() -> None:
        with grpc.insecure_channel(
            f"unix:{path}", [("grpc.max_receive_message_length", -1)]
        ) as made:
            use(made)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_grpcio_is_answered(path: str) -> None:
    def use(channel: grpc.Channel) -> None:
        unary = channel.unary_unary("/t/Once")
        for size in (0, 3, 70_000, 3_000_000):
            data = os.urandom(size)
            assert unary(data, metadata=[("containerd-namespace", "x" * 200)], timeout=20) == data
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t/Refuse")(b"")
        failure: Any = caught.value
        assert failure.code() == grpc.StatusCode.NOT_FOUND
        assert failure.details() == 'container "ü%": not found'
        pieces = [os.urandom(100_000) for _ in range(50)]
        assert list(channel.stream_stream("/t/Echo")(iter(pieces), timeout=20)) == pieces
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.stream_stream("/t/Never")(iter(()), timeout=0.05))
        failure = caught.value
        assert failure.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    through_grpcio(path, use)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, call: Any) -> Any:
        if call.method == "/t/Echo":
            return grpc.stream_stream_rpc_method_handler(lambda messages, _: messages)
        return grpc.unary_unary_rpc_method_handler(self._unary)

    def _unary(self, message: bytes, context: Any) -> bytes:
        if message == b"no":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "déjà")
        return message


def test_grpcio_answers(path: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(4), [_Handlers()], options=options)
    server.add_insecure_port(f"unix:{path}")
    server.start()

    async def go() -> None:
        client = await connected(path)
        for size in (0, 3, 70_000, 3_000_000):
            data = os.urandom(size)
            assert await ask(client, "Once", data) == data
            assert await ask(client, "Echo", data) == data
        with pytest.raises(Refused) as caught:
            await ask(client, "Once", b"no")
        assert (caught.value.status, caught.value.text) == (Status.FAILED_PRECONDITION, "déjà")
        client.close()

    try:
        asyncio.run(asyncio.wait_for(go(), 60))
    finally:
        server.stop(None).wait()


# Against peers that break the rules

SETTINGS = frames.settings({})
PREFACE = frames.PREFACE + SETTINGS
REQUEST = literals(
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/t/Echo"),
        ("content-type", "application/grpc"),
    ]
)
OPEN = frame(frames.HEADERS, frames.END_HEADERS, 1, REQUEST)


def talk(path: str, *sent: bytes, patience_s: float = 0.3) -> bytes:
    """What the server says to these bytes until it hangs up, or falls silent."""

    def client() -> bytes:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.connect(path)
            plug.settimeout(patience_s)
            heard = b""
            with suppress(BrokenPipeError, ConnectionResetError):  # what it said can be read still
                for piece in sent:
                    plug.sendall(piece)
            while True:
                try:
                    piece = plug.recv(1 << 20)
                except ConnectionResetError:
                    continue
                except TimeoutError:
                    return heard
                if not piece:
                    return heard + b"<end>"
                heard += piece

    async def go() -> bytes:
        async with serving(path):
            heard = await asyncio.to_thread(client)
            sound = await connected(path)
            assert await ask(sound, "Once", b"still there") == b"still there"
            sound.close()
            return heard

    return asyncio.run(asyncio.wait_for(go(), 60))


def goaway(heard: bytes) -> int | None:
    """The code of the GOAWAY frame in it."""
    at = 0
    while at + 9 <= len(heard):
        length = int.from_bytes(heard[at : at + 3], "big")
        if heard[at + 3] == frames.GOAWAY:
            return int.from_bytes(heard[at + 13 : at + 17], "big")
        at += 9 + length
    return None


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", frames.PROTOCOL_ERROR),
        (frames.PREFACE + frame(frames.PING, 0, 0, bytes(8)), frames.PROTOCOL_ERROR),
        (PREFACE + b"\xff\xff\xff" + bytes(6), frames.FRAME_SIZE_ERROR),
        (PREFACE + frame(frames.DATA, 0, 1, b"x"), frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.DATA, 0, 0, b"x"), frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.HEADERS, frames.END_HEADERS, 2, REQUEST), frames.PROTOCOL_ERROR),
        (
            PREFACE + frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
            frames.COMPRESSION_ERROR,
        ),
        (PREFACE + frame(frames.HEADERS, 0, 1, REQUEST) + OPEN, frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.CONTINUATION, 4, 1, b""), frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.PUSH_PROMISE, 4, 1, b""), frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.PING, 0, 0, b"short"), frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.SETTINGS, 0, 0, b"12345"), frames.FRAME_SIZE_ERROR),
        (
            PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}),
            frames.FLOW_CONTROL_ERROR,
        ),
        (PREFACE + frames.settings({frames.MAX_FRAME_SIZE: 1}), frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)), frames.PROTOCOL_ERROR),
        (
            PREFACE + frame(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
            frames.FLOW_CONTROL_ERROR,
        ),
        (
            PREFACE + OPEN + frame(frames.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
            frames.FLOW_CONTROL_ERROR,
        ),
        (PREFACE + frame(frames.WINDOW_UPDATE, 0, 9, b"\0\0\0\1"), frames.PROTOCOL_ERROR),
        (PREFACE + frame(frames.RST_STREAM, 0, 7, bytes(4)), frames.PROTOCOL_ERROR),
        (PREFACE + OPEN + OPEN, frames.PROTOCOL_ERROR),
        (PREFACE + OPEN + frame(frames.DATA, frames.PADDED, 1, b"\x09x"), frames.PROTOCOL_ERROR),
        (PREFACE + OPEN + frame(frames.DATA, 1, 1) + frame(frames.DATA, 0, 1), None),
    ],
)
def test_broken_rules_end_the_connection_and_no_other(
    path: str, sent: bytes, code: int | None
) -> None:
    heard = talk(path, sent)
    if code is not None:
        assert goaway(heard) == code
        assert heard.endswith(b"<end>")


def test_a_header_block_without_end(path: str) -> None:
    flood = frame(frames.CONTINUATION, 0, 1, b"\0" * 16_000) * 10
    assert goaway(talk(path, PREFACE + frame(frames.HEADERS, 0, 1, REQUEST) + flood)) == 11
    empty = frame(frames.CONTINUATION, 0, 1)
    assert goaway(talk(path + "2", PREFACE + frame(frames.HEADERS, 0, 1, REQUEST) + empty)) == 11


def test_streams_that_are_reset_at_once(path: str) -> None:
    flood = b"".join(
        frame(frames.HEADERS, frames.END_HEADERS, number, REQUEST)
        + frame(frames.RST_STREAM, 0, number, b"\0\0\0\x08")
        for number in range(1, 40_003, 2)
    )
    assert goaway(talk(path, PREFACE, flood, patience_s=30)) == frames.ENHANCE_YOUR_CALM


def test_pings_whose_answers_nobody_reads(path: str) -> None:
    def flood() -> None:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.connect(path)
            plug.settimeout(20)
            plug.sendall(PREFACE)
            pings = frame(frames.PING, 0, 0, bytes(8)) * 10_000
            try:
                while True:
                    plug.sendall(pings)
            except (BrokenPipeError, ConnectionResetError):
                return

    async def go() -> None:
        async with serving(path):
            await asyncio.to_thread(flood)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_pings_amid_an_upload(path: str) -> None:
    """A peer that measures the way with pings while much is queued for it, as Go's does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        window = (frames.LARGEST_WINDOW - frames.DEFAULT_WINDOW).to_bytes(4, "big")
        wide = frames.settings({frames.INITIAL_WINDOW_SIZE: frames.LARGEST_WINDOW})
        writer.write(wide + frame(frames.WINDOW_UPDATE, 0, 0, window))
        await asyncio.sleep(0.2)  # nothing is read
        writer.write(frame(frames.PING, 0, 0, bytes(8)) * 100)
        await asyncio.sleep(0.2)
        heard = await reader.read(1 << 20)
        while heard and heard.count(frame(frames.PING, frames.ACK, 0, bytes(8))) < 100:
            heard = heard[-20 * 100 :] + await reader.read(1 << 20)
        told = literals([(":status", "200"), ("grpc-status", "0")])
        writer.write(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, told))
        await asyncio.sleep(5)

    async def go() -> None:
        server = await asyncio.start_unix_server(serve, path)
        client = await connected(path)
        stream = client.call("/t/Once", ())
        await asyncio.sleep(0.1)  # its settings have come
        for _ in range(4):
            client.send_data(stream, bytes(1 << 20), False)
        assert await asyncio.wait_for(stream.receive(), 4) is None
        check(stream.headers, stream.trailers)
        client.close()
        server.close()

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.parametrize("seed", range(30))
def test_random_frames(path: str, seed: int) -> None:
    chance = random.Random(seed)
    sent = [PREFACE, OPEN]
    for _ in range(60):
        payload = chance.randbytes(chance.choice((0, 4, 5, 8, 30)))
        kind, flags = chance.randrange(12), chance.choice((0, 1, 4, 5, 8, 0x20, 0xFF))
        sent.append(frame(kind, flags, chance.choice((0, 1, 1, 3, 5)), payload))
    talk(path, b"".join(sent))


def test_every_cut_of_a_call(path: str) -> None:
    """However the bytes are cut into pieces, the answer is the same."""
    data = b"\0\0\0\0\2hi"
    whole = PREFACE + OPEN + frame(frames.DATA, frames.END_STREAM, 1, data)

    def client(size: int) -> bytes:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.connect(path)
            plug.settimeout(20)
            for at in range(0, len(whole), size):
                plug.sendall(whole[at : at + size])
            heard = b""
            while b"grpc-status" not in heard:
                heard += plug.recv(1 << 16)
            return heard

    async def go() -> None:
        async with serving(path):
            for size in (1, 2, 3, 7, 24, 25, 1000):
                assert data in await asyncio.to_thread(client, size)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_what_is_not_grpc_is_refused(path: str) -> None:
    plain = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    heard = talk(path, PREFACE + frame(frames.HEADERS, 5, 1, literals(plain)))
    assert b"405" in heard
    heard = talk(path + "2", PREFACE + frame(frames.HEADERS, 5, 1, literals([(":method", "POST")])))
    assert b"415" in heard


def test_a_server_that_breaks_the_rules(path: str) -> None:
    """Our client's calls end; nothing hangs."""
    answers = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        SETTINGS + frame(frames.HEADERS, 4, 9, literals([(":status", "200")])),
        SETTINGS + frame(frames.RST_STREAM, 0, 1, bytes(4)),
        SETTINGS + frame(frames.GOAWAY, 0, 0, bytes(8)),
        SETTINGS + frame(frames.HEADERS, 5, 1, literals([(":status", "502")])),
        SETTINGS
        + frame(frames.HEADERS, 5, 1, literals([(":status", "200"), ("grpc-status", "x")])),
        b"",
    ]

    async def go() -> None:
        for answer in answers:

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer
            ) -> None:
                await reader.readexactly(24)
                writer.write(answer)
                await writer.drain()
                writer.close()

            Path(path).unlink(missing_ok=True)
            server = await asyncio.start_unix_server(serve, path)
            client = await connected(path)
            with pytest.raises((StreamEnded, Refused)):
                await ask(client, "Once", b"x")
            client.close()
            server.close()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_types() -> None:
    assert issubclass(StreamEnded, OSError)
    assert issubclass(ServerStream, Stream)
