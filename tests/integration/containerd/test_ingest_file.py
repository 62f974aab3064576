"""A client on the same machine appends to an ingest's file; others send the bytes as ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client import content as client_content
from barque.containerd.client.content import Content, Writer
from barque.containerd.client.ingest_file import IngestFile
from barque.errors import BarqueError, DataLoss
from tests.support.layers import digest
from tests.support.node import Node, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
LARGE = os.urandom(5_000_000)
Check = Callable[[Content], Awaitable[None]]


@pytest.fixture(scope="module", params=["ours", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[Node]:
    with node(request.param) as it:
        yield it


@pytest.fixture
def run(server: Node) -> Callable[[Check], None]:
    def check(body: Check) -> None:
        async def main() -> None:
            client = await Containerd.connect(server.address, "n")
            try:
                async with client.leased() as held:  # else containerd's collector may be quicker
                    await body(held.content)
                assert await client.content.statuses() == []
            finally:
                client.close()

        asyncio.run(main())

    return check


async def kept(content: Content, data: bytes) -> None:
    """The blob is there, and gone after this."""
    assert b"".join([piece async for piece in content.read(digest(data))]) == data
    await content.delete(digest(data))


async def mixed(content: Content) -> Writer:
    """Large and small pieces, in several parts."""
    async with content.writer("mixed", size=len(LARGE)) as writer:
        await writer.write(LARGE[:10])
        await writer.write(LARGE[10:2_000_000], LARGE[2_000_000:2_000_001])
        await writer.write(LARGE[2_000_001:2_000_011])
        assert await writer.digest() == digest(LARGE[:2_000_011])
        await writer.write(*(LARGE[at : at + 1000] for at in range(2_000_011, len(LARGE), 1000)))
        assert await writer.commit() == digest(LARGE)
    return writer


def test_pieces_of_any_size(run: Callable[[Check], None], server: Node) -> None:
    async def check(content: Content) -> None:
        writer = await mixed(content)
        assert (writer._file is not None) == (server.kind == "ours")
        await kept(content, LARGE)

    run(check)


def test_a_client_that_cannot_open_the_file_sends_the_bytes(
    run: Callable[[Check], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(IngestFile):
        @classmethod
        def at(cls, path: str, what: str) -> IngestFile | None:
            return IngestFile.at(path + ".elsewhere", what)

    monkeypatch.setattr(client_content, "IngestFile", Elsewhere)

    async def check(content: Content) -> None:
        assert (await mixed(content))._file is None
        await kept(content, LARGE)

    run(check)


def test_what_was_left_is_gone_on_with_or_begun_anew(run: Callable[[Check], None]) -> None:
    async def check(content: Content) -> None:
        async with content.writer("left") as writer:
            await writer.write(LARGE[:3_000_000])
        async with content.writer("left") as writer:
            assert writer.offset == 3_000_000
            await writer.write(LARGE[3_000_000:])
            await writer.restart()
            await writer.write(LARGE[:1_500_000])
            assert await writer.commit() == digest(LARGE[:1_500_000])
        await kept(content, LARGE[:1_500_000])

    run(check)


async def lie(content: Content) -> None:
    async with content.writer("lie") as writer:
        await writer.write(LARGE[:2_000_000])
        await writer.digest()
        writer.offset += 1
        await writer.digest()


def test_bytes_that_are_not_in_the_file_are_not_believed(run: Callable[[Check], None]) -> None:
    async def check(content: Content) -> None:
        with pytest.raises(BarqueError, match="must occur at current offset"):
            await lie(content)
        await content.abort("lie")

    run(check)


async def damaged(content: Content) -> None:
    async with content.writer("damaged", digest=digest(LARGE)) as writer:
        await writer.write(b"x" + LARGE[1:])
        await writer.commit()


def test_bytes_that_are_not_those_announced(run: Callable[[Check], None]) -> None:
    async def check(content: Content) -> None:
        with pytest.raises(DataLoss):
            await damaged(content)
        for status in await content.statuses():  # containerd's own keeps it
            await content.abort(status.ref)

    run(check)
