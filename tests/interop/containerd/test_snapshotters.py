"""The Snapshots service, each snapshotter of ours and those that the real containerd has."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.mounts import Mount
from barque.containerd.client.snapshots import Snapshots
from barque.containerd.snapshots.devmapper import missing
from tests.support.containerds import containerd
from tests.support.disks import btrfs_disk
from tests.support.layers import digest, directory, entry, gzipped, layer
from tests.support.rootfs import temporary

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]

SERVERS = (
    ("ours", "overlayfs"),
    ("ours", "native"),
    ("ours", "btrfs"),
    ("ours", "erofs"),
    ("real", "overlayfs"),
    ("real", "native"),
)
LAYER = "application/vnd.oci.image.layer.v1.tar"
Use = Callable[[Containerd, Snapshots], Awaitable[None]]


class Server:
    """One snapshotter of one containerd."""

    def __init__(self, kind: str, name: str, address: str) -> None:
        self.kind, self.name, self._address = kind, name, address

    def run(self, use: Use) -> None:
        asyncio.run(self._run(use))

    async def _run(self, use: Use) -> None:
        async with self.connected() as (client, snapshots):
            await use(client, snapshots)
            async for left in snapshots.list():
                assert not left.key, f"left: {left}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Containerd, Snapshots]]:
        client = await Containerd.connect(self._address, f"tests-{secrets.token_hex(4)}")
        try:
            # So that nothing goes behind our back.
            async with client.leased() as held:
                yield held, held.snapshots.of(self.name)
        finally:
            client.close()


@pytest.fixture(scope="module", params=SERVERS, ids="-".join)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind, name = request.param
    disk = btrfs_disk if name == "btrfs" else None
    with containerd(kind, disk=disk) as address:
        yield Server(kind, name, address)


@contextmanager
def mounted(how: Sequence[Mount]) -> Iterator[Path]:
    """As ctr and the shims do it."""
    with temporary() as target, ExitStack() as undo:
        for mount in how:
            options = ",".join(mount.options).replace("rbind", "bind") or "defaults"
            kind = () if mount.type == "bind" else ("-t", mount.type)
            command = ["mount", *kind, "-o", options, mount.source, str(target)]
            subprocess.run(command, check=True, capture_output=True)
            undo.callback(subprocess.run, ["umount", str(target)], check=True)
        yield target


async def committed(snapshots: Snapshots, name: str, files: dict[str, str], parent: str) -> None:
    with mounted(await snapshots.prepare(f"{name}-key", parent)) as root:
        for path, content in files.items():
            (root / path).write_text(content)
    await snapshots.commit(name, f"{name}-key")


async def remove(snapshots: Snapshots, *keys: str) -> None:
    for key in keys:
        await snapshots.remove(key)


def test_prepare_commit_view(server: Server) -> None:
    async def use(client: Containerd, snapshots: Snapshots) -> None:
        await committed(snapshots, "base", {"a": "1", "b": "1"}, "")
        await committed(snapshots, "second", {"a": "2", "c": "2"}, "base")
        found = {each.key: each async for each in snapshots.list()}
        assert {name: (each.kind, each.parent) for name, each in found.items()} == {
            "base": ("committed", ""),
            "second": ("committed", "base"),
        }
        for parent, content in (("base", {"a": "1", "b": "1"}), ("second", None)):
            with mounted(await snapshots.view("look", parent)) as root:
                seen = {path.name: path.read_text() for path in root.iterdir()}
                assert seen == (content or {"a": "2", "b": "1", "c": "2"})
                with pytest.raises(OSError, match="Read-only"):
                    (root / "new").touch()
            assert (await snapshots.stat("look")).kind == "view"
            await snapshots.remove("look")
        await remove(snapshots, "second", "base")

    server.run(use)


def test_mounts_are_the_same_each_time(server: Server) -> None:
    async def use(client: Containerd, snapshots: Snapshots) -> None:
        await committed(snapshots, "base", {"a": "1"}, "")
        first = await snapshots.prepare("work", "base")
        with mounted(first) as root:
            (root / "kept").touch()
        assert list(await snapshots.mounts("work")) == list(first)
        with mounted(await snapshots.mounts("work")) as root:
            assert sorted(os.listdir(root)) == ["a", "kept"]
        with pytest.raises(errors.Conflict):
            await snapshots.mounts("base")
        with pytest.raises(errors.NotFound):
            await snapshots.mounts("none")
        await remove(snapshots, "work", "base")

    server.run(use)


def test_labels_and_filters(server: Server) -> None:
    async def use(client: Containerd, snapshots: Snapshots) -> None:
        await snapshots.prepare("work", labels={"one": "1", "two": "2"})
        updated = await snapshots.set_labels("work", {"one": "", "three": "3"})
        assert updated.labels == {"two": "2", "three": "3"}
        await snapshots.prepare("other")
        assert [each.key async for each in snapshots.list(["labels.two==2"])] == ["work"]
        assert [each.key async for each in snapshots.list(["kind==active,name==other"])] == [
            "other"
        ]
        await snapshots.commit("done", "work", {"four": "4"})
        assert (await snapshots.stat("done")).labels["four"] == "4"
        await remove(snapshots, "done", "other")

    server.run(use)


def test_moves_that_are_not_allowed(server: Server) -> None:
    async def use(client: Containerd, snapshots: Snapshots) -> None:
        await snapshots.prepare("work")
        with pytest.raises(errors.AlreadyExists):
            await snapshots.prepare("work")
        with pytest.raises(errors.NotFound):
            await snapshots.prepare("x", "none")
        with pytest.raises(errors.InvalidArgument):
            await snapshots.prepare("x", "work")
        await snapshots.commit("base", "work")
        with pytest.raises(errors.NotFound):
            await snapshots.commit("again", "work")
        with pytest.raises(errors.Conflict):
            await snapshots.commit("again", "base")
        await snapshots.view("look", "base")
        # containerd's native one looks at its files first, and has none.
        wrong = errors.BarqueError if server.kind == "real" else errors.Conflict
        with pytest.raises(wrong):
            await snapshots.commit("again", "look")
        with pytest.raises(errors.Conflict):
            await snapshots.remove("base")
        await remove(snapshots, "look", "base")
        for call in (snapshots.stat, snapshots.mounts, snapshots.remove):
            with pytest.raises(errors.NotFound):
                await call("base")
        assert not [each async for each in snapshots.list()]

    server.run(use)


def test_usage(server: Server) -> None:
    async def use(client: Containerd, snapshots: Snapshots) -> None:
        with mounted(await snapshots.prepare("work")) as root:
            (root / "f").write_bytes(os.urandom(300_000))
            os.sync()
        assert 300_000 <= (await snapshots.usage("work")).size < 400_000
        await snapshots.commit("base", "work")
        assert 300_000 <= (await snapshots.usage("base")).size < 400_000
        await snapshots.prepare("top", "base")
        above = (await snapshots.usage("top")).size
        assert (above >= 300_000) == (server.name == "native")
        await remove(snapshots, "top", "base")

    server.run(use)


def test_many_at_once(server: Server) -> None:
    async def use(client: Containerd, snapshots: Snapshots) -> None:
        await committed(snapshots, "base", {str(number): "x" for number in range(30)}, "")
        keys = [f"k{number}" for number in range(12)]
        made = await asyncio.gather(*(snapshots.prepare(key, "base") for key in keys))
        assert len({str(how) for how in made}) == len(keys)
        with mounted(made[7]) as root:
            (root / "own").touch()
        with mounted(made[8]) as root:
            assert len(os.listdir(root)) == 30
        await asyncio.gather(*(snapshots.remove(key) for key in keys))
        await snapshots.remove("base")
        if server.kind == "ours":  # containerd 1.6 has it of no snapshotter
            await snapshots.cleanup()

    server.run(use)


def test_layers_applied_and_compared(server: Server) -> None:
    """What Diff makes of a snapshot of any kind is the layer that makes it."""

    async def use(client: Containerd, snapshots: Snapshots) -> None:
        base = gzipped(layer([directory("d"), entry("d/old", b"o"), entry("f", b"1")]))
        above = gzipped(
            layer([entry("d/.wh.old"), entry("d/new", b"n"), entry("f", b"22"), directory("e")])
        )
        parent = ""
        for number, data in enumerate((base, above)):
            target = Descriptor(f"{LAYER}+gzip", digest(data), len(data))
            await client.content.put(f"layer{number}", data, target.digest)
            await client.diff.apply(target, await snapshots.prepare("work", parent))
            await snapshots.commit(f"layer{number}", "work")
            parent = f"layer{number}"
        with mounted(await snapshots.view("look", parent)) as root:
            shown = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
            assert shown == ["d", "d/new", "e", "f"]
            assert (root / "f").read_bytes() == b"22"
        lower = await snapshots.view("below", "layer1")
        with mounted(await snapshots.prepare("top", "layer1")) as root:
            (root / "d/new").unlink()
            (root / "g").write_bytes(b"3")
        made = await client.diff.make(
            lower,
            await snapshots.mounts("top"),
            media_type=LAYER,
        )
        await client.diff.apply(made, await snapshots.prepare("again", "layer1"))
        with mounted(await snapshots.mounts("again")) as root:
            shown = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
            assert shown == ["d", "e", "f", "g"]
        await remove(snapshots, "again", "top", "below", "look", "layer1", "layer0")

    server.run(use)


@pytest.mark.parametrize(
    "name",
    [
        *("zfs", "fuse-overlayfs", "btrfs"),
        pytest.param("devmapper", marks=pytest.mark.skipif(not missing(), reason="it is here")),
    ],
)
def test_a_snapshotter_that_is_not_here_says_what_is_missing(name: str) -> None:
    async def use(address: str) -> None:
        client = await Containerd.connect(address, "tests")
        try:
            assert (await client.snapshotter(name)).missing
            with pytest.raises(errors.InvalidArgument, match=f"snapshotter not loaded: {name}: "):
                await client.snapshots.of(name).prepare("x")
        finally:
            client.close()

    with containerd("ours", disk_bytes=64 << 20) as address:
        asyncio.run(use(address))
