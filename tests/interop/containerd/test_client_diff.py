"""Layers made of two snapshots, by our containerd and by Debian's: the same entries."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barque.containerd.client import Containerd
from barque.containerd.client.descriptors import Descriptor
from barque.errors import BarqueError, Unsupported
from barque.linux.mount import mount, umount2
from tests.support.containerds import containerd
from tests.support.layers import digest, directory, entry, gzipped, layer, picture, symlink
from tests.support.rootfs import temporary

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
BASE = layer(
    [
        directory("etc"),
        entry("etc/passwd", b"root"),
        entry("etc/gone", b"gone"),
        directory("old"),
        entry("old/a", b"a"),
        entry("old/b", b"b"),
        directory("kept"),
        entry("kept/same", b"same"),
        symlink("link", "etc"),
    ]
)


@pytest.fixture(scope="module", params=["ours", "real"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with containerd(request.param) as running:
        yield running


def change(root: Path) -> None:
    """Every kind of change."""
    (root / "etc/passwd").write_bytes(b"root and others")
    (root / "etc/gone").unlink()
    for name in ("a", "b"):
        (root / "old" / name).unlink()
    (root / "old").rmdir()
    (root / "old").mkdir()  # opaque
    (root / "old/c").write_bytes(b"c" * 300_000)
    (root / "new").mkdir(mode=0o700)
    (root / "new/one").write_bytes(b"one")
    os.link(root / "new/one", root / "new/two")
    os.symlink("/etc/passwd", root / "new/link")
    os.mkfifo(root / "new/fifo")
    os.mknod(root / "new/null", 0o020666, os.makedev(1, 3))
    os.chown(root / "new/one", 1234, 5678)
    (root / ("n" * 200)).write_bytes(b"long")
    os.setxattr(root / "new/one", "user.kind", b"test")


async def changed(client: Containerd, act: Callable[[Path], None]) -> tuple[str, str]:
    """A base snapshot and one on it that `act` was done to: their keys."""
    await client.content.put("base", gzipped(BASE), digest(gzipped(BASE)))
    base, on_it = f"base-{secrets.token_hex(4)}", f"work-{secrets.token_hex(4)}"
    mounts = await client.snapshots.prepare(f"{base}-work")
    target = Descriptor(GZIP, digest(gzipped(BASE)), len(gzipped(BASE)))
    await client.diff.apply(target, mounts)
    await client.snapshots.commit(base, f"{base}-work")
    (one,) = await client.snapshots.prepare(on_it, base)
    with temporary() as place:
        root = place / "root"
        root.mkdir()
        options = ",".join(one.options)
        mount("overlay", str(root), one.type, 0, options)
        try:
            act(root)
        finally:
            umount2(str(root))
    return base, on_it


def made(
    address: str, media_type: str, act: Callable[[Path], None]
) -> tuple[bytes, dict[str, str]]:
    """The layer of a change, and the labels of its blob."""

    async def run() -> tuple[bytes, dict[str, str]]:
        client = await Containerd.connect(address, f"test-{secrets.token_hex(4)}")
        try:
            async with client.leased() as held:
                base, on_it = await changed(held, act)
                view = f"view-{secrets.token_hex(4)}"
                lower = await held.snapshots.view(view, base)
                upper = await held.snapshots.mounts(on_it)
                for _ in range(3):  # containerd's own dates what is gone by the second it looks
                    found = await held.diff.make(
                        lower, upper, media_type=media_type, ref="made", labels={"a": "b"}
                    )
                    again = await held.diff.make(
                        lower, upper, media_type=media_type, ref="again", labels={"a": "b"}
                    )
                    if again.digest == found.digest:
                        break
                assert again.digest == found.digest
                data = await held.content.read_all(found.digest)
                assert found.digest == "sha256:" + hashlib.sha256(data).hexdigest()
                assert (found.media_type, found.size) == (media_type, len(data))
                labels = dict((await held.content.info(found.digest)).labels)
                for key in (view, on_it, base):
                    await held.snapshots.remove(key)
                return data, labels
        finally:
            client.close()

    return asyncio.run(run())


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_every_kind_of_change(address: str) -> None:
    packed, labels = made(address, GZIP, change)
    data = gzip.decompress(packed)
    assert labels["containerd.io/uncompressed"] == "sha256:" + hashlib.sha256(data).hexdigest()
    found = members(data)
    emptied = {"old/.wh..wh..opq"} & set(found) or {"old/.wh.a", "old/.wh.b"}  # the same
    assert set(found) == {
        *("etc", "etc/passwd", "etc/.wh.gone", "old", "old/c"),
        *("new", "new/one", "new/two", "new/link", "new/fifo", "new/null", "n" * 200),
        *emptied,
    }
    one, two = sorted((found["new/one"], found["new/two"]), key=lambda member: member.islnk())
    assert (one.isreg(), two.islnk(), two.linkname) == (True, True, one.name)
    assert (one.uid, one.gid) == (1234, 5678)
    assert found["new"].mode & 0o7777 == 0o700
    assert found["new/link"].linkname == "/etc/passwd"
    assert found["new/fifo"].isfifo()
    assert (found["new/null"].devmajor, found["new/null"].devminor) == (1, 3)
    assert found["old/c"].size == 300_000


def test_without_compression(address: str) -> None:
    data, labels = made(address, PLAIN, change)
    assert "new/one" in members(data)
    assert labels["a"] == "b"


def test_no_layer(address: str) -> None:
    with pytest.raises(BarqueError) as refused:
        made(address, "text/plain", change)
    assert isinstance(refused.value, Unsupported)


def test_what_was_made_makes_the_same_again() -> None:
    """On ours: the layer on the base gives the tree that it was made from."""

    async def run(address: str) -> None:
        client = await Containerd.connect(address, "test")
        try:
            async with client.leased() as held:
                pictures = []

                def act(root: Path) -> None:
                    change(root)
                    pictures.append(picture(root))

                base, on_it = await changed(held, act)
                lower = await held.snapshots.view("view", base)
                upper = await held.snapshots.mounts(on_it)
                found = await held.diff.make(lower, upper, media_type=GZIP, ref="made")
                (again,) = await held.snapshots.prepare("again", base)
                await held.diff.apply(found, [again])
                with temporary() as place:
                    (place / "root").mkdir()
                    mount("overlay", f"{place}/root", "overlay", 0, ",".join(again.options))
                    try:
                        pictures.append(picture(place / "root"))
                    finally:
                        umount2(f"{place}/root")
                for tree in pictures:  # a layer does not date its root: that is when it was changed
                    tree["."] = (*tree["."][:3], *tree["."][4:])
                assert pictures[0] == pictures[1]
        finally:
            client.close()

    with containerd("ours") as address:
        asyncio.run(run(address))
