"""Layers that are unpacked while a client writes them, before it asks for that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from barque.containerd.content.blobs import Blobs
from barque.containerd.content.writer import Writer
from barque.containerd.diff import ahead
from barque.containerd.diff.ahead import SNAPSHOTTER, Ahead
from barque.containerd.diff.service import Diff
from barque.containerd.grpc import Call
from barque.containerd.paths import Paths
from barque.containerd.proto import content_pb2, diff_pb2
from barque.containerd.proto.types_pb2 import Descriptor, Mount
from barque.containerd.snapshots.origins import Origin
from barque.containerd.snapshots.snapshotter import ACTIVE, VIEW
from barque.containerd.snapshots.store import SnapshotStore
from barque.containerd.stores import opened
from barque.errors import AlreadyExists, DataLoss, InvalidArgument
from barque.linux.mount import MS_BIND, mount, umount2
from tests.integration.containerd.test_apart import IMAGES
from tests.support.layers import Member, digest, directory, entry, gzipped, layer, picture
from tests.support.rootfs import mounts_below, temporary

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
CALL = Call("n")
LIMIT_S = 30.0
NOISE, OTHER = os.urandom(400_000), os.urandom(400_000)
MEMBERS = [
    directory("etc", mode=0o700, mtime=1_500_000_000),
    entry("etc/noise", NOISE, uid=5),
    entry("end", OTHER),
]
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzipped,
    "zstd": zstd.compress,
}


class Server:
    """Stores and the services in question, in this process."""

    def __init__(self, base: Path, stores: Any) -> None:
        self.stores, self.base = stores, base
        self.ahead = Ahead(stores.snapshots)
        blobs = Blobs(stores.content, stores.metadata, stores.references)
        self._diff = Diff(stores.content, blobs, stores.origins, self.ahead)
        self.store: SnapshotStore = stores.snapshots.open(SNAPSHOTTER)

    def writer(self, ref: str, total: int, expected: str = "") -> Writer:
        first = content_pb2.WriteContentRequest(ref=ref, total=total, expected=expected)
        kept = (self.stores.content, self.stores.metadata, self.stores.references)
        return Writer(*kept, CALL, first, self.ahead.coming)

    async def write(self, data: bytes, ref: str = "", expected: str = "") -> str:
        """As a client does that sends pieces; the digest of the blob."""
        writer = self.writer(ref or f"tar-{digest(data)}", len(data), expected)
        try:
            for at in range(0, len(data), 40_000):
                await append(writer, data[at : at + 40_000], at)
            return await commit(writer, len(data))
        finally:
            await writer.close()

    def prepare(self, key: str, parent: str = "", kind: int = ACTIVE) -> list[Mount]:
        with self.stores.metadata.transaction():
            snapshot = self.store.make("n", key, parent, kind, {})
        found = self.store.mounts(snapshot)
        return [Mount(type=one.type, source=one.source, options=one.options) for one in found]

    async def apply(self, blob: str, mounts: Sequence[Mount], *, sync_fs: bool = False) -> str:
        wanted = Descriptor(digest=blob)
        asked = diff_pb2.ApplyRequest(diff=wanted, mounts=mounts, sync_fs=sync_fs)
        return (await self._diff.apply(CALL, asked)).applied.digest

    async def commit(self, name: str, key: str) -> None:
        _, usage = await self.store.seal("n", name, key)
        with self.stores.metadata.transaction():
            self.store.commit("n", name, key, {}, usage)

    @property
    def directories(self) -> list[Path]:
        """Those of snapshots, and of what is none."""
        found = (self.base / "root/snapshots/overlayfs").iterdir()
        return sorted(one / "fs" for one in found)

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not what():
                await asyncio.sleep(0.01)


async def append(writer: Writer, data: bytes, at: int) -> None:
    await writer.handle(
        content_pb2.WriteContentRequest(action=content_pb2.WRITE, offset=at, data=data)
    )


async def commit(writer: Writer, size: int) -> str:
    done = content_pb2.WriteContentRequest(action=content_pb2.COMMIT, offset=size)
    return (await writer.handle(done)).digest


@contextmanager
def serving(base: Path) -> Iterator[Server]:
    with opened(Paths(base / "root", base / "state")) as stores:
        yield Server(base, stores)


Body = Callable[[Server], Awaitable[None]]
Run = Callable[[Body], None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A server for a body; when it has left, no directory is there that is no snapshot's."""
    monkeypatch.setattr(ahead, "LEAST_BYTES", 1)

    async def main(base: Path, body: Body) -> None:
        with serving(base) as server:
            try:
                await body(server)
            finally:
                await server.ahead.close()
            rows = server.stores.metadata.execute("SELECT number FROM snapshots").fetchall()
            assert {int(one.parent.name) for one in server.directories} == {one for (one,) in rows}

    with temporary() as base:
        yield lambda body: asyncio.run(main(base, body))
        assert mounts_below(base) == []


@pytest.mark.parametrize("how", PACKED)
def test_a_layer_is_unpacked_while_it_is_written_and_moved_where_it_is_wanted(
    run: Run, how: str
) -> None:
    plain = layer(MEMBERS)
    data = PACKED[how](plain)

    async def body(server: Server) -> None:
        writer = server.writer("tar-1", len(data))
        half = len(data) // 2 + 4000
        await append(writer, data[:half], 0)
        (made,) = server.directories
        await server.until((made / "etc/noise").exists)
        inode = (made / "etc/noise").stat().st_ino
        await append(writer, data[half:], half)
        blob = await commit(writer, len(data))
        await writer.close()
        mounts = server.prepare("one")
        assert await server.apply(blob, mounts, sync_fs=True) == digest(plain)
        there = Path(mounts[0].source)
        origin = server.stores.origins.layer(str(there), digest(plain), "")
        assert origin == Origin(blob, digest(plain))  # a power cut: it is unpacked again
        assert (there / "etc/noise").stat().st_ino == inode
        assert (there / "end").read_bytes() == OTHER
        assert (there / "etc").stat().st_mtime == 1_500_000_000

    run(body)


async def seen(server: Server, base: Path, name: str) -> dict[str, object]:
    """All but the times of directories: some are made on the way."""
    (how,) = server.prepare(f"look-{name}", name, VIEW)
    target = base / f"mnt-{name}"
    target.mkdir()
    flags, options = (MS_BIND, None) if how.type == "bind" else (0, ",".join(how.options))
    mount(how.source, str(target), None if how.type == "bind" else how.type, flags, options)
    try:
        found = picture(target)
        return {
            path: (*what[:3], *what[4:]) if (target / path).is_dir() else what
            for path, what in found.items()
        }
    finally:
        umount2(str(target))


@pytest.mark.parametrize("image", IMAGES)
def test_the_same_is_seen_as_if_it_were_unpacked_then(run: Run, image: str) -> None:
    layers: Sequence[list[Member]] = IMAGES[image]

    async def unpack(server: Server, word: str, blobs: list[str]) -> dict[str, object]:
        top = ""
        for number, blob in enumerate(blobs):
            key = f"{word}{number}"
            data = layer(layers[number])
            assert await server.apply(blob, server.prepare(f"new-{key}", top)) == digest(data)
            await server.commit(key, f"new-{key}")
            top = key
        return await seen(server, server.base, top)

    async def body(server: Server) -> None:
        blobs = [await server.write(layer(members)) for members in layers]
        assert len(server.directories) == len(layers)
        first = await unpack(server, "ahead", blobs)
        assert len(server.directories) == len(layers) + 1  # a view
        assert await unpack(server, "then", blobs) == first

    run(body)


def test_another_digest_than_was_expected_leaves_nothing(run: Run) -> None:
    async def body(server: Server) -> None:
        with pytest.raises(DataLoss, match="unexpected commit digest"):
            await server.write(layer(MEMBERS), expected=digest(b"another"))
        await server.until(lambda: server.directories == [])

    run(body)


def test_a_writer_that_gives_up_leaves_nothing(run: Run) -> None:
    async def body(server: Server) -> None:
        writer = server.writer("tar-1", 10_000_000)
        await append(writer, layer(MEMBERS)[:50_000], 0)
        assert len(server.directories) == 1
        await writer.close()
        await server.until(lambda: server.directories == [])

    run(body)


def test_what_is_no_layer_after_all_is_told_to_who_asks(run: Run) -> None:
    broken = layer(MEMBERS)
    broken = broken[:410_000] + NOISE

    async def body(server: Server) -> None:
        blob = await server.write(broken)
        await server.until(lambda: server.directories == [])
        with pytest.raises(InvalidArgument):
            await server.apply(blob, server.prepare("one"))

    run(body)


def test_what_a_transfer_brings_to_unpack_is_too(run: Run) -> None:
    data = layer(MEMBERS)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 40_000):
            yield data[at : at + 40_000]

    async def body(server: Server) -> None:
        kept = (server.stores.content, server.stores.metadata, server.stores.references)
        blobs = Blobs(*kept, server.ahead.coming)
        blob = await blobs.write(CALL, "transfer-1", pieces(), total=len(data))
        (made,) = server.directories
        await server.until((made / "end").exists)
        inode = (made / "end").stat().st_ino
        mounts = server.prepare("one")
        assert await server.apply(blob.digest, mounts) == blob.digest
        assert (Path(mounts[0].source) / "end").stat().st_ino == inode

    run(body)


def test_a_layer_that_grows_much_is_left_until_it_is_asked_for(run: Run) -> None:
    plain = layer([entry("zeros", bytes(3_000_000))])

    async def body(server: Server) -> None:
        blob = await server.write(gzipped(plain))
        await server.until(lambda: server.directories == [])
        assert await server.apply(blob, server.prepare("one")) == digest(plain)

    run(body)


@pytest.mark.parametrize(
    ("ref", "data"),
    [("barque-image-1", layer(MEMBERS)), ("tar-1", b'{"layers": []}' * 1000)],
    ids=["our daemon's", "a document"],
)
def test_others_are_not_unpacked(run: Run, ref: str, data: bytes) -> None:
    async def body(server: Server) -> None:
        await server.write(data, ref)
        assert server.directories == []

    run(body)


def test_after_one_that_nobody_asks_for_none_is_until_somebody_waits(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "QUIET_S", 0.01)

    async def body(server: Server) -> None:
        one = await server.write(layer([*MEMBERS, entry("1")]))
        await server.until(lambda: server.directories == [])
        await server.write(layer([*MEMBERS, entry("2")]))
        assert server.directories == []
        await server.apply(one, server.prepare("one"))
        writer = server.writer("tar-3", 10_000_000)
        await append(writer, layer(MEMBERS)[:50_000], 0)
        assert len(server.directories) == 2
        await writer.close()

    run(body)


def test_when_more_are_kept_than_an_image_has_nobody_wants_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MOST", 2)

    async def body(server: Server) -> None:
        for word in ("1", "2"):
            await server.write(layer([*MEMBERS, entry(word)]))
        assert len(server.directories) == 2
        await server.write(layer([*MEMBERS, entry("3")]))
        await server.until(lambda: server.directories == [])

    run(body)


def test_what_is_written_twice_is_kept_once(run: Run) -> None:
    async def body(server: Server) -> None:
        await server.write(layer(MEMBERS))
        with pytest.raises(AlreadyExists):
            await server.write(layer(MEMBERS), "tar-again")
        await server.until(lambda: len(server.directories) == 1)

    run(body)


def test_where_there_is_little_room_it_is_left_to_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(server: Server) -> None:
        await server.write(layer([*MEMBERS, entry("1")]))
        assert len(server.directories) == 1
        monkeypatch.setattr(ahead, "KEPT_SHARE", 1)
        await server.write(layer([*MEMBERS, entry("2")]))
        await server.until(lambda: server.directories == [])

    run(body)


def test_onto_what_is_not_empty_it_is_unpacked_as_ever(run: Run) -> None:
    async def body(server: Server) -> None:
        blob = await server.write(layer(MEMBERS))
        mounts = server.prepare("one")
        (Path(mounts[0].source) / "there").touch()
        assert await server.apply(blob, mounts) == blob
        names = sorted(path.name for path in Path(mounts[0].source).iterdir())
        assert names == ["end", "etc", "there"]

    run(body)


def test_onto_another_file_system_it_is_unpacked_as_ever(run: Run) -> None:
    async def body(server: Server) -> None:
        blob = await server.write(layer(MEMBERS))
        mounts = server.prepare("one")
        place = mounts[0].source
        mount("tmpfs", place, "tmpfs")
        try:
            assert await server.apply(blob, mounts) == blob
            assert sorted(os.listdir(place)) == ["end", "etc"]
        finally:
            umount2(place)

    run(body)


def test_what_a_crash_leaves_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LEAST_BYTES", 1)

    async def crash(base: Path) -> None:
        with serving(base) as server:
            await server.write(layer(MEMBERS))
            await server.until(lambda: (server.directories[0] / "end").exists())

    async def again(base: Path) -> None:
        with serving(base) as server:
            assert server.directories == []

    with temporary() as base:
        asyncio.run(crash(base))
        asyncio.run(again(base))
