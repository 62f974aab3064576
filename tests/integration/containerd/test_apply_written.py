"""A layer is unpacked while it is written, and only what was verified is answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client.diff import FOLLOW
from barque.containerd.client.mounts import Mount
from barque.errors import Conflict, DataLoss, InvalidArgument, NotFound, Unavailable
from tests.support.layers import digest, entry, gzipped, layer
from tests.support.node import Node, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
TYPE = "application/vnd.oci.image.layer.v1.tar"
PLAIN = layer([entry("noise", os.urandom(3_000_000)), entry("text", b"words\n" * 1000)])
Check = Callable[[Containerd, list[Mount]], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    with node() as it:
        yield it


@pytest.fixture
def run(server: Node) -> Callable[[Check], None]:
    """A check with an empty snapshot to unpack into."""

    def check(body: Check) -> None:
        async def main() -> None:
            client = await Containerd.connect(server.address, "n")
            try:
                snapshots = client.snapshots.of("overlayfs")
                mounts = await snapshots.prepare("target", "")
                try:
                    await body(client, list(mounts))
                finally:
                    await snapshots.remove("target")
            finally:
                client.close()

        asyncio.run(main())

    return check


@pytest.mark.parametrize("blob", [PLAIN, gzipped(PLAIN)], ids=["plain", "gzip"])
def test_it_is_there_when_the_blob_is(run: Callable[[Check], None], blob: bytes) -> None:
    async def check(client: Containerd, mounts: list[Mount]) -> None:
        assert FOLLOW in await client.differ_capabilities()
        async with client.content.writer("r") as writer:
            applying = asyncio.create_task(client.diff.apply_written(TYPE, "r", mounts))
            for at in range(0, len(blob), 700_000):
                await writer.write(blob[at : at + 700_000])
                await asyncio.sleep(0)
            while not os.path.exists(f"{mounts[0].source}/noise"):  # read before it is whole
                assert not applying.done()
                await asyncio.sleep(0.01)
            assert not applying.done()
            assert await writer.commit() == digest(blob)
        assert (await applying).digest == digest(PLAIN)
        with open(f"{mounts[0].source}/text", "rb") as file:
            assert file.read() == b"words\n" * 1000
        await client.content.delete(digest(blob))

    run(check)


async def _given_up(client: Containerd, how: str, begun: asyncio.Event, seen: str) -> None:
    """A writer under the ref `how` that does not bring it to its end, once the file is `seen`."""
    with suppress(DataLoss, Conflict):
        async with client.content.writer(how) as writer:
            begun.set()
            await writer.write(PLAIN[:2_000_000])
            while not os.path.exists(seen):
                await asyncio.sleep(0.01)
            if how == "restarted":
                await writer.restart()
            if how == "refused":
                await writer.commit(digest=digest(b"other"))


def test_what_is_given_up_is_not_unpacked(run: Callable[[Check], None]) -> None:
    async def check(client: Containerd, mounts: list[Mount]) -> None:
        given_up = ("left", "restarted", "refused")
        for how in given_up:
            begun = asyncio.Event()
            writing = asyncio.create_task(
                _given_up(client, how, begun, f"{mounts[0].source}/noise")
            )
            await begun.wait()
            applying = asyncio.create_task(client.diff.apply_written(TYPE, how, mounts))
            await writing
            with pytest.raises(Unavailable, match="given up"):
                await applying
            os.unlink(f"{mounts[0].source}/noise")
        assert {one.ref for one in await client.content.statuses()} == set(given_up)
        for ref in given_up:
            await client.content.abort(ref)

    run(check)


def test_who_waits_can_give_up(run: Callable[[Check], None]) -> None:
    """The thread ends with the call: the writer goes on, and another may read."""

    async def check(client: Containerd, mounts: list[Mount]) -> None:
        async with client.content.writer("r") as writer:
            for _ in range(40):  # more than there are threads
                applying = asyncio.create_task(client.diff.apply_written(TYPE, "r", mounts))
                await asyncio.sleep(0)
                applying.cancel()
                await asyncio.wait([applying])
            last = asyncio.create_task(client.diff.apply_written(TYPE, "r", mounts))
            await writer.write(PLAIN)
            await writer.commit()
        assert (await last).digest == digest(PLAIN)
        await client.content.delete(digest(PLAIN))

    run(check)


def test_only_what_somebody_writes_can_be_followed(run: Callable[[Check], None]) -> None:
    async def check(client: Containerd, mounts: list[Mount]) -> None:
        with pytest.raises(NotFound):
            await client.diff.apply_written(TYPE, "nobody", mounts)
        other = "sha512:" + "0" * 128
        async with client.content.writer("r", digest=other):
            with pytest.raises(InvalidArgument, match="sha256"):
                await client.diff.apply_written(TYPE, "r", mounts)
        await client.content.abort("r")

    run(check)
