"""A snapshotter with its store on a directory, or a disk, of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from barque.containerd.metadata import Metadata
from barque.containerd.paths import SnapshotPaths
from barque.containerd.references import References
from barque.containerd.snapshots.btrfs import Btrfs
from barque.containerd.snapshots.erofs import Erofs
from barque.containerd.snapshots.native import Native
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.snapshotter import ACTIVE, Mount, Snapshotter
from barque.containerd.snapshots.store import SnapshotStore
from barque.linux.mount import MS_BIND, MS_RDONLY, MS_REC, MS_REMOUNT, mount, umount2
from tests.support.disks import btrfs_disk
from tests.support.rootfs import temporary


class Place:
    """A snapshot store over one snapshotter, and a way to look into its snapshots."""

    def __init__(self, base: Path, snapshotter: Snapshotter) -> None:
        self.base = base
        self.snapshotter = snapshotter
        self.metadata = Metadata(base / "meta.db")
        self.store = SnapshotStore(self.metadata, References(self.metadata), snapshotter)

    def make(
        self, key: str, parent: str = "", kind: int = ACTIVE, labels: dict[str, str] | None = None
    ) -> None:
        asyncio.run(self._make(key, parent, kind, labels or {}))

    async def _make(self, key: str, parent: str, kind: int, labels: dict[str, str]) -> None:
        wanted = ("n", key, parent, kind, labels)
        async with self.store.ahead(*wanted) as made:
            with self.metadata.transaction():
                self.store.make(*wanted, made)

    def commit(self, name: str, key: str, parent: str = "") -> None:
        _, usage = asyncio.run(self.store.seal("n", name, key, parent))
        with self.metadata.transaction():
            number = self.store.commit("n", name, key, {}, usage, parent)
        self.store.sealed(number)

    def close(self) -> None:
        self.metadata.close()
        self.snapshotter.close()

    @contextmanager
    def mounted(self, key: str) -> Iterator[Path]:
        target = self.base / "mnt"
        target.mkdir(exist_ok=True)
        how = self.how(key)
        if how.type == "bind":
            mount(how.source, str(target), None, MS_BIND | MS_REC)
            if "ro" in how.options:
                mount(None, str(target), None, MS_BIND | MS_REMOUNT | MS_RDONLY)
        else:
            mount(how.source, str(target), how.type, 0, ",".join(how.options))
        try:
            yield target
        finally:
            umount2(str(target))

    def how(self, key: str) -> Mount:
        (how,) = self.store.mounts(self.store.stat("n", key))
        return how


KINDS: dict[str, Callable[[SnapshotPaths], Snapshotter]] = {
    "overlayfs": Overlay,
    "native": Native,
    "btrfs": Btrfs,
    "erofs": Erofs,
}


@contextmanager
def place_of(name: str) -> Iterator[Place]:
    """A snapshotter on a directory of its own, btrfs on a disk of its own."""
    with temporary() as base, btrfs_disk(base / "disk") if name == "btrfs" else nullcontext():
        root = base / "disk" if name == "btrfs" else base
        made = Place(base, KINDS[name](SnapshotPaths(str(root / name))))
        try:
            yield made
        finally:
            made.close()


def upper_of(how: Mount) -> str:
    """The directory that is written to."""
    options = dict(option.partition("=")[::2] for option in how.options)
    return options.get("upperdir", how.source)
