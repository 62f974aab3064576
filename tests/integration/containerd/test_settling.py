"""Layers that are answered before the disk has them: a crash loses none, nor does a power cut.

A power cut is a crash after which the boot has another id, and files that nobody synced are empty.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.images import Image as Record
from tests.support.disks import disk, unmount
from tests.support.layers import digest, directory, entry, gzipped, layer, picture
from tests.support.node import Node, node, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_THE_JOURNAL = 2  # what was not synced is lost, as in a power cut
TYPE = "application/vnd.oci.image.layer.v1.tar"


class Image:
    """Two layers that no other test has."""

    def __init__(self) -> None:
        word = secrets.token_bytes(8)
        etc = directory("etc", mode=0o711)
        self.base = layer([directory("./", uid=3), entry("etc/kept", word), entry("gone")])
        fifo = entry("pipe", kind=tarfile.FIFOTYPE)
        new = entry("etc/new", word * 1000)
        self.top = layer([directory("./"), etc, new, entry(".wh.gone"), fifo])

    async def unpack(self, client: Containerd) -> None:
        base = await unpack(client, gzipped(self.base), self.base, "")
        await unpack(client, self.top, self.top, base)


@pytest.fixture
def image() -> Image:
    return Image()


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    with node() as it:
        yield it


def on(server: Node, body: Callable[[Containerd], Awaitable[None]]) -> None:
    async def main() -> None:
        client = await Containerd.connect(server.address, "n")
        try:
            await body(client)
        finally:
            client.close()

    asyncio.run(main())


async def unpack(client: Containerd, blob: bytes, plain: bytes, parent: str) -> str:
    """The chain id of the layer, committed; a label keeps its blob."""
    held = {"containerd.io/gc.root": "test"}
    await client.content.put("r" + digest(blob)[-8:], blob, digest(blob), held)
    chain = digest(f"{parent} {digest(plain)}".encode()) if parent else digest(plain)
    snapshots = client.snapshots.of("overlayfs")
    mounts = await snapshots.prepare(f"extract {chain}", parent)
    await client.diff.apply(Descriptor(TYPE, digest(blob), len(blob)), mounts)
    await snapshots.commit(chain, f"extract {chain}", labels=held)
    return chain


def unsettled(server: Node) -> int:
    with closing(sqlite3.connect(f"file:{server.root}/root/meta.db?mode=ro", uri=True)) as db:
        (count,) = db.execute("SELECT count(*) FROM unsettled").fetchone()
    return int(count)


def places(server: Node) -> list[Path]:
    """Of the two newest layers."""
    base = server.root / "root/snapshots/overlayfs"
    numbers = sorted(int(path.name) for path in base.iterdir() if path.name.isdecimal())
    return [base / str(number) / "fs" for number in numbers[-2:]]


def cut_power(server: Node, image: Image) -> None:
    """The server is not running. No layer may have settled before."""
    for place in places(server):
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, 0)
    with sqlite3.connect(server.root / "root/meta.db") as db:
        for place, blob in zip(places(server), (gzipped(image.base), image.top), strict=True):
            row = (int(place.parent.name), "another", digest(blob))
            db.execute("INSERT OR REPLACE INTO unsettled VALUES (?, ?, ?)", row)
    db.close()


def seen(server: Node) -> list[dict[str, tuple[object, ...]]]:
    """Without times: whiteouts have those of their making."""
    return [
        {name: (*what[:3], *what[4:]) for name, what in picture(place).items()}
        for place in places(server)
    ]


def test_a_layer_is_answered_before_it_has_settled(server: Node) -> None:
    async def body(client: Containerd) -> None:
        for number in range(20):  # on a machine that stood still for seconds it has meanwhile
            plain = layer([entry(f"{number}")])
            await unpack(client, plain, plain, "")
            if unsettled(server):
                return
        raise AssertionError("every layer was durable when it was answered")

    on(server, body)


def test_a_stop_settles(server: Node, image: Image) -> None:
    on(server, image.unpack)
    server.stop()
    assert unsettled(server) == 0
    server.start()


def test_a_crash_loses_nothing_and_layers_settle_soon(server: Node, image: Image) -> None:
    on(server, image.unpack)
    before = seen(server)
    server.crash()
    server.start()
    assert seen(server) == before
    wait_until(lambda: unsettled(server) == 0)
    assert seen(server) == before


def test_after_a_power_cut_layers_are_made_again(server: Node, image: Image) -> None:
    on(server, image.unpack)
    before = seen(server)
    server.crash()
    cut_power(server, image)
    assert seen(server) != before
    server.start()
    assert seen(server) == before
    assert "made 2 layers again" in server.log


def test_what_is_no_layer_by_its_name_is_durable_at_once(server: Node, image: Image) -> None:
    wait_until(lambda: unsettled(server) == 0)
    plain, held = image.base, {"containerd.io/gc.root": "test"}

    async def body(client: Containerd) -> None:
        snapshots = client.snapshots.of("overlayfs")
        await client.content.put("r", plain, digest(plain), held)
        for name, times in (("other", 1), (digest(plain), 2)):
            mounts = await snapshots.prepare("work", "")
            for _ in range(times):
                await client.diff.apply(Descriptor(TYPE, digest(plain), len(plain)), mounts)
            await snapshots.commit(name, "work", labels=held)
            assert unsettled(server) == 0

    on(server, body)


def test_a_layer_whose_blob_is_gone_is_tried_again(server: Node, image: Image) -> None:
    on(server, image.unpack)
    before = seen(server)
    server.crash()
    cut_power(server, image)
    blob = server.root / "root/content/blobs/sha256" / digest(image.top).partition(":")[2]
    blob.rename(f"{server.root}/kept")
    server.start()
    assert "cannot be made again" in server.log
    server.stop()
    assert unsettled(server) == 1
    os.rename(f"{server.root}/kept", blob)
    server.start()
    assert seen(server) == before


def lose_what_is_not_synced(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_THE_JOURNAL))
    finally:
        os.close(fd)


def call_it_another_boot(server: Node) -> None:
    with closing(sqlite3.connect(server.root / "root/meta.db")) as db:
        db.execute("UPDATE unsettled SET boot = 'another'")
        db.commit()


def test_a_disk_that_lost_what_was_not_synced(image: Image) -> None:
    """The file system itself forgets: what was answered is there after it all the same."""

    async def named(client: Containerd) -> None:
        await image.unpack(client)
        target = Descriptor(TYPE, digest(image.top), len(image.top))
        await client.images.put(Record("x", target, {}))  # durable, and all before it

    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as base:
        place = Path(base) / "d"
        with disk(place, "ext4"), node("ours", str(place)) as server:
            on(server, named)
            before = seen(server)
            lose_what_is_not_synced(place)
            server.crash()
            unmount(place)
            # another file: of the same one the kernel may still have the file system that was
            # cut off, where a process that has just begun has a copy of all mounts
            left, found = place.with_suffix(".image"), place.with_suffix(".found")
            subprocess.run(["cp", "--sparse=always", left, found], check=True)
            subprocess.run(["mount", "-o", "loop", found, place], check=True)
            call_it_another_boot(server)
            server.start()
            assert seen(server) == before
