"""Relaying between a client and a stdio socket: a real unix socket stands for the shim."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from barque import errors
from barque.daemon.containers.attach import (
    abandon_pending,
    attach,
    connect_pending,
    relay,
)
from barque.daemon.containers.container import Container
from barque.daemon.containers.detach import parse_keys
from barque.daemon.containers.documents import Config, HostConfig
from barque.daemon.containers.record import Record
from barque.daemon.containers.state import State
from barque.daemon.containers.stdio import Stdio, Wanted

LIMIT_S = 30.0
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Client:
    """The connection taken over from HTTP, held by the test."""

    def __init__(self) -> None:
        self.typed: asyncio.Queue[bytes] = asyncio.Queue()
        self.seen = bytearray()
        self.closed = False
        self.gone = False

    async def read(self) -> bytes:
        return await self.typed.get()

    async def write(self, data: bytes) -> None:
        if self.gone:
            raise ConnectionResetError
        self.seen += data

    async def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def shim(peer: Peer, answer: bytes = b'{"ok": true, "tty": false}\n') -> AsyncIterator[str]:
    """A stdio socket; `peer` serves each client once greetings are exchanged."""
    greetings: list[dict[str, bool]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greetings.append(json.loads(await reader.readline()))
        writer.write(answer)
        await peer(reader, writer)
        writer.close()

    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as directory:
        path = f"{directory}/io.sock"
        server = await asyncio.start_unix_server(serve, path)
        try:
            yield path
        finally:
            server.close()
            Path(path).unlink(missing_ok=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data.upper())
    writer.write(b"END")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"done")


def container() -> Container:
    record = Record(
        id="c1", name="c", created="2026-01-01T00:00:00Z", image="", chain_id="", path="sh",
        args=[], config=Config(), host=HostConfig(),
    )  # fmt: skip
    return Container(record, State())


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work()

    asyncio.run(bounded())


def test_both_ways_with_half_close() -> None:
    async def work() -> None:
        client = Client()
        async with shim(echo) as path:
            stdio = await Stdio.connect(path, Wanted(stdin=True))
            for piece in (b"ab", b"c", b""):
                client.typed.put_nowait(piece)
            assert not await relay(client, stdio, Wanted(stdin=True), None)
            assert bytes(client.seen) == b"ABCEND"

    run(work)


def test_a_client_without_stdin_may_half_close_at_once() -> None:
    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(b"late")

    async def work() -> None:
        client = Client()
        client.typed.put_nowait(b"")
        async with shim(slow) as path:
            await relay(client, await Stdio.connect(path, Wanted()), Wanted(), None)
            assert bytes(client.seen) == b"late"

    run(work)


def test_detaching_leaves_the_process_alone() -> None:
    async def work() -> None:
        client = Client()
        for piece in (b"x\x10", b"\x11y"):
            client.typed.put_nowait(piece)
        got = bytearray()

        async def collect(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                got.extend(data)

        async with shim(collect) as path:
            stdio = await Stdio.connect(path, Wanted(stdin=True))
            assert await relay(client, stdio, Wanted(stdin=True), parse_keys(""))
        assert bytes(got) == b"x"

    run(work)


def test_pending_attachments_are_connected_before_the_start() -> None:
    async def work() -> None:
        made, client = container(), Client()
        client.typed.put_nowait(b"")
        async with shim(silent) as path:
            waiting = asyncio.create_task(attach(made, path, client, Wanted(stdin=True), None))
            while not made.attachments:
                await asyncio.sleep(0)
            await connect_pending(made, path)
            assert not await waiting
            assert bytes(client.seen) == b"done"
            assert client.closed
            assert not made.attachments

    run(work)


def test_a_start_that_fails_lets_them_go() -> None:
    async def work() -> None:
        made, client = container(), Client()
        waiting = asyncio.create_task(attach(made, "/nowhere", client, Wanted(), None))
        while not made.attachments:
            await asyncio.sleep(0)
        abandon_pending(made)
        assert not await waiting
        assert client.closed

    run(work)


def test_a_client_that_is_gone_ends_the_relay() -> None:
    async def loud(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
        except ConnectionError:
            pass

    async def work() -> None:
        client = Client()
        client.gone = True
        async with shim(loud) as path:
            stdio = await Stdio.connect(path, Wanted())
            assert not await relay(client, stdio, Wanted(), None)

    run(work)


@pytest.mark.parametrize("answer", [b'{"error": "no"}\n', b"nonsense\n", b"[]\n"])
def test_a_peer_that_refuses(answer: bytes) -> None:
    async def work() -> None:
        async with shim(silent, answer) as path:
            with pytest.raises(errors.Unavailable):
                await asyncio.wait_for(Stdio.connect(path, Wanted()), 5)

    run(work)


def test_nobody_there() -> None:
    async def work() -> None:
        with pytest.raises(errors.Unavailable, match="streams of the process"):
            await Stdio.connect("/tmp/bq-none.sock", Wanted())

    run(work)
