"""The snapshotters of this server by name, each opened when it is first asked for.

What cannot be here says what the kernel or the machine lacks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from barque.containerd.metadata import Metadata
from barque.containerd.paths import Paths, SnapshotPaths
from barque.containerd.references import SNAPSHOTS, Node, References
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.pool import Pool
from barque.containerd.snapshots.snapshotter import Snapshotter
from barque.containerd.snapshots.store import SnapshotStore
from barque.errors import InvalidArgument
from barque.linux.fs import filesystem_magic


class Kind(NamedTuple):
    """`missing` tells why it cannot be here, given its directory; "" when it can."""

    missing: Callable[[str], str]
    opened: Callable[[SnapshotPaths], Snapshotter]


def _native(paths: SnapshotPaths) -> Snapshotter:
    from barque.containerd.snapshots.native import Native

    return Native(paths)


def _btrfs(paths: SnapshotPaths) -> Snapshotter:
    from barque.containerd.snapshots.btrfs import Btrfs

    return Btrfs(paths)


def _erofs(paths: SnapshotPaths) -> Snapshotter:
    from barque.containerd.snapshots.erofs import Erofs

    return Erofs(paths)


def _not_btrfs(directory: str) -> str:
    from barque.linux.btrfs import BTRFS_SUPER_MAGIC

    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    if filesystem_magic(directory) == BTRFS_SUPER_MAGIC:
        return ""
    return f"{directory} is not on btrfs"


def _no_erofs(_directory: str) -> str:
    from barque.containerd.snapshots.erofs import missing

    return missing()


def _devmapper(paths: SnapshotPaths, pool: Pool | None = None) -> Snapshotter:
    from barque.containerd.snapshots.devmapper import Devmapper

    return Devmapper(paths, pool)


def _no_devmapper(_directory: str, file_system: str = "ext4") -> str:
    from barque.containerd.snapshots.devmapper import missing

    return missing(file_system)


def _no_zfs(_directory: str) -> str:
    if not os.path.exists("/dev/zfs"):
        return "the kernel has no zfs (/dev/zfs is missing)"
    return "zfs is not supported"


def _no_fuse_overlayfs(_directory: str) -> str:
    if not os.path.exists("/dev/fuse"):
        return "the kernel has no fuse (/dev/fuse is missing)"
    if shutil.which("fuse-overlayfs") is None:
        return "fuse-overlayfs is not installed"
    return "fuse-overlayfs is not supported: overlayfs does all it does"


def _never(_paths: SnapshotPaths) -> Snapshotter:
    raise AssertionError("a snapshotter that is missing was opened")


KINDS: Mapping[str, Kind] = {
    "overlayfs": Kind(lambda _directory: "", Overlay),
    "native": Kind(lambda _directory: "", _native),
    "btrfs": Kind(_not_btrfs, _btrfs),
    "erofs": Kind(_no_erofs, _erofs),
    "devmapper": Kind(_no_devmapper, _devmapper),
    "zfs": Kind(_no_zfs, _never),
    "fuse-overlayfs": Kind(_no_fuse_overlayfs, _never),
}


class SnapshotStores:
    """One store a snapshotter, over one database."""

    def __init__(
        self,
        metadata: Metadata,
        references: References,
        paths: Paths,
        disabled: Collection[str] = (),
        pool: Pool | None = None,
    ) -> None:
        """`disabled` are plugins by containerd's names, snapshotters among them; `pool` is
        devmapper's, where the administrator has one."""
        self._disabled = disabled
        self._pool = pool
        self._metadata = metadata
        self._references = references
        self._paths = paths
        self._open: dict[str, SnapshotStore] = {}

    def open(self, name: str) -> SnapshotStore:
        """Raises InvalidArgument for one that is not here, and says why."""
        store = self._open.get(name)
        if store is not None:
            return store
        if name not in KINDS:
            raise InvalidArgument(f"snapshotter not loaded: {name}: invalid argument")
        if reason := self.missing(name):
            raise InvalidArgument(f"snapshotter not loaded: {name}: {reason}: invalid argument")
        store = SnapshotStore(self._metadata, self._references, self._opened(name))
        self._open[name] = store
        return store

    def _opened(self, name: str) -> Snapshotter:
        paths = SnapshotPaths(self._directory(name))
        if name == "devmapper":
            return _devmapper(paths, self._pool)
        return KINDS[name].opened(paths)

    def _directory(self, name: str) -> str:
        if name == "devmapper" and self._pool is not None and self._pool.root:
            return self._pool.root
        return str(self._paths.snapshotter(name))

    def missing(self, name: str) -> str:
        """Why a known snapshotter cannot be opened; "" when it can."""
        if f"io.containerd.snapshotter.v1.{name}" in self._disabled:
            return "it is disabled by the configuration"
        if name == "devmapper" and self._pool is not None:
            return _no_devmapper("", self._pool.file_system)
        return KINDS[name].missing(str(self._paths.snapshotter(name)))

    def capabilities(self, name: str) -> tuple[str, ...]:
        """Of one that is not missing."""
        return self.open(name).capabilities

    def sweep_files(self) -> int:
        """What a crash left on disk and no row knows; at start only. Returns how much."""
        removed = 0
        for name in KINDS:
            if os.path.exists(self._directory(name)) and not self.missing(name):
                removed += self.open(name).sweep_files()
        return removed

    def sync(self) -> None:
        """Layers that were committed before they were durable are so when this returns."""
        for store in list(self._open.values()):
            store.sync()

    def discard(self, node: Node) -> None:
        """For the collector; what is of a snapshotter that is not here stays."""
        try:
            store = self.open(node.kind.removeprefix(SNAPSHOTS))
        except InvalidArgument:
            return
        store.discard(node.namespace, node.key)

    def close(self) -> None:
        for store in self._open.values():
            store.close()
