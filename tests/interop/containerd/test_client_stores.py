"""Our client's stores, on our containerd and on Debian's: the same calls, the same outcome."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client.containers import Container
from barque.containerd.client.content import Info
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.images import Image
from barque.containerd.client.leases import Resource
from barque.errors import (
    AlreadyExists,
    BarqueError,
    Conflict,
    DataLoss,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unsupported,
)
from tests.support.containerds import containerd
from tests.support.layers import digest, directory, entry, gzipped, layer

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]

Check = Callable[[Containerd], Awaitable[None]]
Run = Callable[[Check], None]
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module", params=["ours", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    with containerd(request.param) as address:
        yield request.param, address


@pytest.fixture
def run(server: tuple[str, str]) -> Run:
    """Runs a check in a namespace of its own."""

    def check_in_namespace(check: Check) -> None:
        async def main() -> None:
            client = await Containerd.connect(server[1], f"test-{secrets.token_hex(4)}")
            try:
                async with client.leased() as held:  # else a collection could come in between
                    await asyncio.wait_for(check(held), 60)
            finally:
                await empty(client)
                client.close()

        asyncio.run(main())

    return check_in_namespace


async def empty(client: Containerd) -> None:
    for image in await client.images.list():
        await client.images.delete(image.name)
    for container in await client.containers.list():
        await client.containers.delete(container.id)
    for _ in range(5):
        for snapshot in [one async for one in client.snapshots.list()]:
            with suppress(BarqueError):
                await client.snapshots.remove(snapshot.key)


async def infos(client: Containerd, *filters: str) -> dict[str, Info]:
    return {info.digest: info async for info in client.content.list(filters)}


async def whole(client: Containerd, name: str, offset: int = 0, size: int = 0) -> bytes:
    return b"".join([piece async for piece in client.content.read(name, offset, size)])


def test_version(run: Run) -> None:
    async def check(client: Containerd) -> None:
        assert (await client.version()).version

    run(check)


def test_content_is_written_and_read(run: Run) -> None:
    async def check(client: Containerd) -> None:
        data = os.urandom(5_000_000)
        async with client.content.writer("r", size=len(data), digest=digest(data)) as writer:
            assert writer.offset == 0
            await writer.write(data[:1000])
            await writer.write(data[1000:])
            assert await writer.digest() == digest(data)
            status = await client.content.status("r")
            assert (status.ref, status.offset, status.total) == ("r", len(data), len(data))
            assert await writer.commit(labels={"a": "b"}) == digest(data)
        info = await client.content.info(digest(data))
        assert (info.size, info.labels) == (len(data), {"a": "b"})
        assert await whole(client, digest(data)) == data
        assert await whole(client, digest(data), 4_999_990) == data[-10:]
        assert await whole(client, digest(data), 10, 20) == data[10:30]
        with pytest.raises(InvalidArgument, match="past object length"):
            await whole(client, digest(data), 5_000_001)
        assert list(await infos(client)) == [digest(data)]
        with pytest.raises(AlreadyExists):
            async with client.content.writer("r2", digest=digest(data)):
                pass
        assert not await client.content.statuses()
        await client.content.delete(digest(data))
        with pytest.raises(NotFound):
            await client.content.info(digest(data))
        with pytest.raises(NotFound):
            await whole(client, digest(data))

    run(check)


def test_what_is_not_as_expected_is_not_stored(run: Run) -> None:
    async def check(client: Containerd) -> None:
        async def write(size: int, expected: str) -> None:
            async with client.content.writer("bad", size=size, digest=expected) as writer:
                await writer.restart()
                await writer.write(b"bytes")
                await writer.commit(size=size or 5)

        for size, expected in ((0, digest(b"other")), (4, "")):
            with pytest.raises(DataLoss):
                await write(size, expected)
        assert not await infos(client)

    run(check)


def test_what_is_not_as_expected_can_be_committed_as_it_is(run: Run) -> None:
    async def check(client: Containerd) -> None:
        async def write(expected: str, size: int) -> None:
            async with client.content.writer("bad") as writer:
                if not writer.offset:
                    await writer.write(b"bytes")
                await writer.commit(digest=expected, size=size)

        for expected, size in ((digest(b"other"), 0), ("", 4)):
            with pytest.raises(DataLoss):
                await write(expected, size)
        async with client.content.writer("bad") as writer:
            assert writer.offset == 5
            assert await writer.commit() == digest(b"bytes")
        assert not await client.content.statuses()

    run(check)


def test_a_document_that_is_not_as_expected_can_be_put_again(run: Run) -> None:
    async def check(client: Containerd) -> None:
        with pytest.raises(DataLoss):
            await client.content.put("r", b"wrong", digest(b"right"))
        await client.content.put("r", b"right", digest(b"right"))
        assert await whole(client, digest(b"right")) == b"right"

    run(check)


def test_an_ingest_is_aborted_while_it_is_written(run: Run) -> None:
    async def check(client: Containerd) -> None:
        async def write_on() -> None:
            async with client.content.writer("r") as writer:
                await writer.write(b"some")
                await writer.digest()
                await client.content.abort("r")
                assert not await client.content.statuses()
                await writer.write(b"more")
                await writer.commit()

        with pytest.raises(BarqueError):
            await write_on()
        async with client.content.writer("r") as writer:
            assert writer.offset == 0
            await writer.write(b"bytes")
            assert await writer.commit() == digest(b"bytes")
        assert list(await infos(client)) == [digest(b"bytes")]

    run(check)


def test_each_write_is_later_than_the_one_before(run: Run) -> None:
    async def check(client: Containerd) -> None:
        times = []
        async with client.content.writer("r") as writer:
            for _ in range(3):
                await writer.write(b"some")
                await writer.digest()
                times.append((await client.content.status("r")).updated_ns)
        assert times == sorted(set(times))
        assert (await client.content.status("r")).updated_ns >= times[-1]

    run(check)


def test_a_write_is_resumed_and_aborted(run: Run) -> None:
    async def check(client: Containerd) -> None:
        data = os.urandom(100_000)
        async with client.content.writer("r", size=len(data)) as writer:
            await writer.write(data[:60_000])
        async with client.content.writer("r", size=len(data)) as writer:
            assert writer.offset == 60_000
            with pytest.raises(Unavailable):
                async with client.content.writer("r"):
                    pass
            await writer.write(data[60_000:])
            assert await writer.commit() == digest(data)
        async with client.content.writer("s") as writer:
            await writer.write(b"x")
        assert [status.ref for status in await client.content.statuses()] == ["s"]
        await client.content.abort("s")
        with pytest.raises(NotFound):
            await client.content.status("s")
        with pytest.raises(NotFound):
            await client.content.abort("s")

    run(check)


def test_labels_of_content(run: Run) -> None:
    async def check(client: Containerd) -> None:
        await client.content.put("r", b"data", digest(b"data"), {"a": "1", "b": "2"})
        await client.content.put("r", b"data", digest(b"data"), {"c.d/e": "3"})
        info = await client.content.set_labels(digest(b"data"), {"a": "", "b": "9"})
        assert info.labels == {"b": "9", "c.d/e": "3"}
        assert list(await infos(client, 'labels."c.d/e"==3')) == [digest(b"data")]
        assert not await infos(client, "labels.a")
        with pytest.raises(NotFound):
            await client.content.set_labels(digest(b"none"), {"a": "b"})
        with pytest.raises(InvalidArgument):
            await client.content.set_labels(digest(b"data"), {"k": "v" * 5000})

    run(check)


def test_another_namespace_has_the_same_bytes(run: Run, server: tuple[str, str]) -> None:
    async def check(client: Containerd) -> None:
        data = os.urandom(10_000)
        await client.content.put("r", data, digest(data), {"mine": "1"})
        other = await Containerd.connect(server[1], "other")
        try:
            with pytest.raises(NotFound):
                await other.content.info(digest(data))
            async with other.leased() as held:
                content = held.content
                async with content.writer("r", size=len(data), digest=digest(data)) as writer:
                    assert writer.offset == len(data)  # nothing need be sent
                    await writer.commit()
                assert (await held.content.info(digest(data))).labels == {}
                await client.content.delete(digest(data))
                assert await whole(other, digest(data)) == data
                await other.content.delete(digest(data))
        finally:
            other.close()

    run(check)


def test_images(run: Run) -> None:
    async def check(client: Containerd) -> None:
        one = Descriptor(MANIFEST, digest(b"1"), 1)
        two = Descriptor(MANIFEST, digest(b"2"), 2)
        made = await client.images.create(Image("a:1", one, {"k": "v"}))
        assert made.created_ns == made.updated_ns > 0
        with pytest.raises(AlreadyExists):
            await client.images.create(Image("a:1", two))
        with pytest.raises(InvalidArgument):
            await client.images.create(Image("", one))
        with pytest.raises(InvalidArgument):
            await client.images.create(Image("b", Descriptor(MANIFEST, "sha256:short", 1)))
        moved = await client.images.update(Image("a:1", two), ["target"])
        assert (moved.target, moved.labels) == (two, {"k": "v"})
        relabelled = await client.images.update(
            Image("a:1", one, {"k": "", "l": "w"}), ["labels.l"]
        )
        assert (relabelled.target, relabelled.labels) == (two, {"k": "v", "l": "w"})
        replaced = await client.images.put(Image("a:1", one))
        assert (replaced.target, replaced.labels) == (one, {})
        assert replaced.created_ns == made.created_ns
        await client.images.create(Image("b:1", two))
        names = [image.name for image in await client.images.list()]
        assert names == ["a:1", "b:1"]
        for filter in ("name==b:1", f"target.digest=={digest(b'2')}", "name~=^b"):
            assert [image.name for image in await client.images.list([filter])] == ["b:1"]
        with pytest.raises(InvalidArgument):
            await client.images.list(["name=b"])
        await client.images.delete("b:1")
        for missing in (client.images.get("b:1"), client.images.delete("b:1")):
            with pytest.raises(NotFound, match="b:1"):
                await missing
        with pytest.raises(NotFound):
            await client.images.update(Image("b:1", one))

    run(check)


def test_containers(run: Run) -> None:
    async def check(client: Containerd) -> None:
        made = Container(
            id="c1",
            spec=b'{"ociVersion": "1.0.2"}',
            image="a:1",
            runtime="io.containerd.runc.v2",
            runtime_binary="/usr/bin/crun",
            snapshotter="overlayfs",
            snapshot_key="c1",
            labels={"a": "b"},
        )
        await client.containers.create(made)
        with pytest.raises(AlreadyExists):
            await client.containers.create(made)
        found = await client.containers.get("c1")
        assert (found.spec, found.runtime_binary, found.labels) == (
            *(made.spec, "/usr/bin/crun", {"a": "b"}),
        )
        changed = Container(id="c1", spec=b"{}", labels={"x": "y"}, runtime=made.runtime)
        await client.containers.update(changed, ["labels", "spec"])
        found = await client.containers.get("c1")
        assert (found.spec, found.labels, found.image) == (b"{}", {"x": "y"}, "a:1")
        with pytest.raises(InvalidArgument):
            await client.containers.update(changed, ["snapshotter"])
        await client.containers.create(Container(id="c2", spec=b"{}"))
        for filter in ("id==c1", "labels.x==y", "image==a:1"):
            assert [one.id for one in await client.containers.list([filter])] == ["c1"]
        for bad in ("", "a/b", "../x", "-x", "x" * 100):
            with pytest.raises(InvalidArgument):
                await client.containers.create(Container(id=bad, spec=b"{}"))
        await client.containers.delete("c2")
        for missing in (client.containers.get("c2"), client.containers.delete("c2")):
            with pytest.raises(NotFound):
                await missing
        with pytest.raises(NotFound):  # rather than that such a field never changes
            await client.containers.update(Container(id="c2", spec=b"{}"), ["snapshotter"])

    run(check)


def test_snapshots(run: Run) -> None:
    async def check(client: Containerd) -> None:
        snapshots = client.snapshots
        (base,) = await snapshots.prepare("work", labels={"a": "b"})
        assert base.type == "bind"
        Path(base.source, "file").write_text("x" * 10_000)
        await snapshots.commit("base", "work", {"c": "d"})
        with pytest.raises(NotFound):
            await snapshots.stat("work")
        stat = await snapshots.stat("base")
        assert (stat.kind, stat.parent) == ("committed", "")
        assert stat.labels == {"c": "d"}
        assert stat.created_ns == stat.updated_ns
        usage = await snapshots.usage("base")
        assert (usage.inodes, usage.size) == (2, 12288 + 4096)
        (mount,) = await snapshots.prepare("top", "base")
        assert mount.type == "overlay"
        options = dict(option.partition("=")[::2] for option in mount.options)
        assert Path(options["lowerdir"], "file").exists()
        assert {mount_.type for mount_ in await snapshots.mounts("top")} == {"overlay"}
        (seen,) = await snapshots.view("look", "base")
        assert seen.type == "bind"
        assert "ro" in seen.options
        assert (await snapshots.stat("look")).kind == "view"
        for again in (snapshots.prepare("top"), snapshots.view("top"), snapshots.prepare("base")):
            with pytest.raises(AlreadyExists):
                await again
        with pytest.raises(NotFound):
            await snapshots.prepare("x", "missing")
        with pytest.raises(InvalidArgument):
            await snapshots.prepare("x", "top")
        with pytest.raises(Conflict):
            await snapshots.commit("x", "look")
        with pytest.raises(AlreadyExists):
            await snapshots.commit("base", "top")
        with pytest.raises(Conflict):
            await snapshots.remove("base")
        labelled = await snapshots.set_labels("top", {"k": "v"})
        assert labelled.labels == {"k": "v"}
        listed = [one.key async for one in snapshots.list(["kind==active"])]
        assert listed == ["top"]
        with pytest.raises(InvalidArgument):
            await snapshots.of("none-such").prepare("x")
        for key in ("look", "top", "base"):
            await snapshots.remove(key)
        for missing in (snapshots.remove("base"), snapshots.usage("base")):
            with pytest.raises(NotFound):
                await missing

    run(check)


def test_layers_are_applied(run: Run) -> None:
    async def check(client: Containerd) -> None:
        lower = layer([directory("d", mode=0o1777), entry("d/a", b"1"), entry("d/b", b"2")])
        upper = layer([entry("d/.wh.a"), entry("d/c", b"3")])
        parent = ""
        for number, data in enumerate((lower, upper)):
            packed = gzipped(data)
            await client.content.put("l", packed, digest(packed))
            mounts = await client.snapshots.prepare("extract", parent)
            descriptor = Descriptor(LAYER, digest(packed), len(packed))
            applied = await client.diff.apply(descriptor, mounts)
            assert (applied.digest, applied.size) == (digest(data), len(data))
            parent = f"layer{number}"
            await client.snapshots.commit(parent, "extract")
        (mount,) = await client.snapshots.prepare("see", parent)
        assert mount.type == "overlay"
        options = dict(option.partition("=")[::2] for option in mount.options)
        top = Path(options["lowerdir"].split(":")[0])
        assert sorted(path.name for path in top.rglob("*")) == ["a", "c", "d"]
        assert (top / "d/a").is_char_device()
        assert (top / "d").stat().st_mode & 0o7777 == 0o1777
        with pytest.raises(NotFound):
            await client.diff.apply(
                Descriptor(LAYER, digest(b"none"), 4), await client.snapshots.mounts("see")
            )

    run(check)


def test_leases_hold_and_let_go(run: Run) -> None:
    async def check(client: Containerd) -> None:
        lease = await client.leases.create("held", labels={"a": "b"})
        with pytest.raises(AlreadyExists):
            await client.leases.create("held")
        held = client.with_lease(lease.id)
        await held.content.put("r", b"held", digest(b"held"))
        await held.snapshots.prepare("held-snapshot")
        resources = {(one.kind, one.key) for one in await client.leases.resources("held")}
        assert {
            ("content", digest(b"held")),
            ("snapshots/overlayfs", "held-snapshot"),
        } <= resources
        assert [one.id for one in await client.leases.list(["labels.a==b"])] == ["held"]
        other = await client.leases.create()
        await client.leases.add(other.id, Resource("content", digest(b"held")))
        await client.leases.delete("held", sync=True)
        assert list(await infos(client)) == [digest(b"held")]
        assert [one.key async for one in client.snapshots.list()] == []
        await client.leases.delete(other.id, sync=True)
        assert not await infos(client)
        with pytest.raises(NotFound):
            await client.leases.delete("held")
        with pytest.raises(NotFound):
            await client.leases.resources("held")

    run(check)


@pytest.mark.parametrize(
    ("resource", "refusal"),
    [
        (Resource("content", "sha256:short"), InvalidArgument),
        (Resource("content/more", digest(b"1")), InvalidArgument),
        (Resource("ingests/more", "r"), InvalidArgument),
        (Resource("snapshots", "s"), InvalidArgument),
        (Resource("snapshots/overlayfs/more", "s"), InvalidArgument),
        (Resource("image", "a:1"), Unsupported),
        (Resource("containers", "c"), Unsupported),
    ],
    ids=lambda value: value.kind if isinstance(value, Resource) else value.__name__,
)
def test_what_a_lease_cannot_hold(run: Run, resource: Resource, refusal: type[Exception]) -> None:
    async def check(client: Containerd) -> None:
        lease = await client.leases.create()
        for refused in (client.leases.add, client.leases.remove):
            with pytest.raises(refusal):
                await refused(lease.id, resource)
        assert await client.leases.resources(lease.id) == []
        await client.leases.delete(lease.id)

    run(check)


def test_an_image_keeps_what_it_refers_to(run: Run) -> None:
    async def check(client: Containerd) -> None:
        async with client.leased() as held:
            for name in (b"manifest", b"config", b"layer", b"garbage"):
                await held.content.put(name.decode(), name, digest(name))
            await held.snapshots.prepare("work")
            await held.snapshots.commit("chain", "work")
            await held.content.set_labels(
                digest(b"manifest"),
                {
                    "containerd.io/gc.ref.content.config": digest(b"config"),
                    "containerd.io/gc.ref.content.l.0": digest(b"layer"),
                },
            )
            await held.content.set_labels(
                digest(b"config"), {"containerd.io/gc.ref.snapshot.overlayfs": "chain"}
            )
            target = Descriptor(MANIFEST, digest(b"manifest"), 8)
            await held.images.create(Image("i", target))
        lease = await client.leases.create()
        await client.leases.delete(lease.id, sync=True)
        assert set(await infos(client)) == {
            digest(name) for name in (b"manifest", b"config", b"layer")
        }
        assert [one.key async for one in client.snapshots.list()] == ["chain"]
        await client.images.delete("i", sync=True)
        assert not await infos(client)
        assert [one async for one in client.snapshots.list()] == []

    run(check)


def test_a_server_that_is_not_there() -> None:
    async def main() -> None:
        with pytest.raises(Unavailable, match="does not answer"):
            await Containerd.connect("/tmp/bq-no-such.sock", "n")

    asyncio.run(main())
