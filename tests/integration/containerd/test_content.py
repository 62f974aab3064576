"""The content store on disk: what a crash leaves, what runs at the same time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.content.store import ContentStore
from barque.containerd.metadata import Metadata
from barque.containerd.paths import ContentPaths
from barque.containerd.references import References
from barque.errors import AlreadyExists, NotFound, Unavailable
from tests.support.layers import digest, entry, layer
from tests.support.node import Node, node, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]


@pytest.fixture
def server() -> Iterator[Node]:
    with node() as it:
        yield it


def blobs(server: Node) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(server.root / "root/content/blobs/sha256")}


def test_an_ingest_survives_a_crash_and_is_resumed(server: Node) -> None:
    data = os.urandom(3_000_000)

    async def begin() -> None:
        client = await Containerd.connect(server.address, "n")
        with suppress(Unavailable):
            async with client.content.writer("r", size=len(data), digest=digest(data)) as writer:
                await writer.write(data[:2_000_000])
                await writer.digest()  # which comes after what was written
                server.crash()
        client.close()

    async def resume() -> None:
        client = await Containerd.connect(server.address, "n")
        async with client.content.writer("r", size=len(data), digest=digest(data)) as writer:
            assert writer.offset == 2_000_000
            await writer.write(data[2_000_000:])
            await writer.commit()
        assert b"".join([piece async for piece in client.content.read(digest(data))]) == data
        await client.content.delete(digest(data))
        client.close()

    asyncio.run(begin())
    server.start()
    asyncio.run(resume())
    assert digest(data) not in blobs(server)
    assert os.listdir(server.root / "root/content/ingest") == []


def test_files_without_rows_are_swept_at_start(server: Node) -> None:
    content = server.root / "root/content"
    server.stop(signal.SIGKILL)
    known = blobs(server)
    (content / "blobs/sha256" / ("ab" * 32)).write_bytes(b"never named")
    (content / "blobs/sha256/not-a-digest").write_bytes(b"")
    (content / "ingest/99999").write_bytes(b"never told")
    orphan = server.root / "root/snapshots/overlayfs/77777/fs"
    orphan.mkdir(parents=True)
    (orphan / "file").write_text("x")
    server.start()
    # files are swept while it serves already
    assert wait_until(lambda: blobs(server) == known and not os.listdir(content / "ingest"), 60)
    assert not orphan.parent.exists()


def test_the_same_blob_by_many_refs_at_once(server: Node) -> None:
    data = os.urandom(500_000)

    async def write(client: Containerd, ref: str) -> bool:
        try:
            async with client.content.writer(ref) as writer:
                await writer.write(data)
                await writer.commit(digest=digest(data))
        except AlreadyExists:
            return False
        return True

    async def main() -> None:
        clients = [await Containerd.connect(server.address, f"ns{n % 2}") for n in range(8)]
        outcome = await asyncio.gather(*(write(c, f"r{n}") for n, c in enumerate(clients)))
        assert outcome.count(True) == 2  # one in each namespace
        assert not await clients[0].content.statuses()
        await clients[0].content.delete(digest(data))
        pieces = [piece async for piece in clients[1].content.read(digest(data))]
        assert b"".join(pieces) == data
        await clients[1].content.delete(digest(data))
        with pytest.raises(NotFound):
            await clients[1].content.info(digest(data))
        for client in clients:
            client.close()

    asyncio.run(main())
    assert digest(data) not in blobs(server)


def test_a_blob_between_its_file_and_its_row_is_not_deleted(tmp_path: Path) -> None:
    """Another namespace deletes the same digest just then."""
    metadata = Metadata(tmp_path / "meta.db")
    store = ContentStore(metadata, References(metadata), ContentPaths(tmp_path / "content"))

    def make(namespace: str) -> str:
        ingest = store.begin(namespace, "r", 0, "")
        ingest.write(b"bytes")
        with store.landing(digest(b"bytes")) as path:
            ingest.keep(path)
            if namespace == "second":
                store.delete("first", digest(b"bytes"))
            with metadata.transaction():
                store.add(ingest, digest(b"bytes"), 5, {})
        store.finish(ingest)
        return path

    make("first")
    path = make("second")
    assert Path(path).read_bytes() == b"bytes"
    store.delete("second", digest(b"bytes"))
    assert not Path(path).exists()
    metadata.close()


def test_a_crash_at_any_moment_of_a_commit_loses_nothing_named(server: Node) -> None:
    """kill -9 while blobs are committed as fast as can be: what was answered is there after."""
    done: list[str] = []

    async def write_until_dead() -> None:
        client = await Containerd.connect(server.address, "n")
        loop = asyncio.get_running_loop()
        assert server.process is not None
        loop.call_later(0.4, server.process.kill)
        with suppress(Unavailable):
            for number in range(100_000):
                data = b"blob %d" % number
                await client.content.put(f"r{number}", data, digest(data))
                done.append(digest(data))
        client.close()

    asyncio.run(write_until_dead())
    assert done
    server.stop()
    server.start()

    async def look() -> None:
        client = await Containerd.connect(server.address, "n")
        found = {info.digest async for info in client.content.list()}
        assert set(done) <= found
        for name in found:
            assert digest(await client.content.read_all(name)) == name
        for name in found:
            await client.content.delete(name)
        client.close()

    asyncio.run(look())


def test_ingests_given_up_are_forgotten_at_a_start(server: Node) -> None:
    async def begin() -> None:
        client = await Containerd.connect(server.address, "n")
        for ref in ("old", "new"):
            async with client.content.writer(ref) as writer:
                await writer.write(b"x")
        client.close()

    async def look() -> list[str]:
        client = await Containerd.connect(server.address, "n")
        found = [status.ref for status in await client.content.statuses()]
        await client.content.abort("new")
        client.close()
        return found

    asyncio.run(begin())
    server.stop()
    first, _ = sorted(
        (server.root / "root/content/ingest").iterdir(), key=lambda path: int(path.name)
    )
    os.utime(first, (1, 1))
    server.start()
    assert asyncio.run(look()) == ["new"]


def test_a_plain_layer_is_believed_only_while_its_file_is_the_one_that_was_hashed(
    server: Node,
) -> None:
    data = layer([entry("a", b"content of a file\n" * 1000)])
    name = digest(data)
    blob = server.root / "root/content/blobs/sha256" / name.removeprefix("sha256:")

    async def applied(client: Containerd, key: str) -> str:
        mounts = await client.snapshots.of("overlayfs").prepare(key, "")
        target = Descriptor("application/vnd.oci.image.layer.v1.tar", name, len(data))
        return (await client.diff.apply(target, mounts)).digest

    async def check() -> None:
        client = await Containerd.connect(server.address, "n")
        await client.content.put("r", data, name, {"containerd.io/gc.root": "now"})
        assert await applied(client, "one") == name
        with open(blob, "r+b") as file:
            file.seek(600)
            file.write(b"other")
        assert await applied(client, "two") == digest(blob.read_bytes()) != name
        client.close()

    asyncio.run(check())


def test_what_was_asked_for_before_is_answered_as_it_is_now(server: Node) -> None:
    data = b"a document"

    async def check() -> None:
        client, other = [await Containerd.connect(server.address, name) for name in ("n", "m")]
        await client.content.put("r", data, digest=digest(data))
        assert [await client.content.read_all(digest(data)) for _ in range(2)] == [data] * 2
        assert (await client.content.info(digest(data))).labels == {}
        await client.content.set_labels(digest(data), {"a": "b"})
        assert (await client.content.info(digest(data))).labels == {"a": "b"}
        with pytest.raises(NotFound):
            await other.content.read_all(digest(data))
        await client.content.delete(digest(data))
        for asked in (client.content.info, client.content.read_all):
            with pytest.raises(NotFound):
                await asked(digest(data))
        client.close()
        other.close()

    asyncio.run(check())
