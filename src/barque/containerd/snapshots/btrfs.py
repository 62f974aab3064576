"""The btrfs snapshotter: a subvolume a snapshot, made in no time, sharing all it did not change.

    <number>    a subvolume; read-only once it is committed

A size bounds what the subvolume refers to, as Docker's btrfs driver has it (quota groups).
Source: containerd, docs/snapshotters; Linux, btrfs's ioctls.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from barque.containerd.paths import SnapshotPaths
from barque.containerd.snapshots.disk import Trash, numbers_in, usage_above
from barque.containerd.snapshots.mounts import bind
from barque.containerd.snapshots.remapping import REMAP, Remapping
from barque.containerd.snapshots.snapshotter import QUOTA, VIEW, Mount, Usage
from barque.linux import btrfs
from barque.linux.fs import remove_tree, sync_filesystem
from barque.oci.id_maps import IdMaps


class Btrfs:
    name = "btrfs"
    slow = False

    def __init__(self, paths: SnapshotPaths) -> None:
        """`paths` are on btrfs."""
        self._paths = paths
        os.makedirs(paths.base, mode=0o700, exist_ok=True)
        self._trash = Trash(paths.trash, delete)
        self._remapping = Remapping(paths.base)

    @property
    def capabilities(self) -> tuple[str, ...]:
        return (QUOTA, REMAP) if self._remapping.available else (QUOTA,)

    def make(
        self,
        number: int,
        parents: Sequence[int],
        kind: int,
        size: int = 0,
        ids: IdMaps | None = None,
    ) -> None:
        self._remapping.check(ids)
        self.remove(number)
        base = _opened(self._paths.base)
        try:
            if kind == VIEW and parents:
                os.mkdir(str(number), 0o700, dir_fd=base)  # it is the parent that is shown
                return
            if parents:
                parent = _opened(self._paths.directory(parents[0]))
                try:
                    btrfs.create_snapshot(parent, base, str(number))
                finally:
                    os.close(parent)
            else:
                btrfs.create_subvolume(base, str(number))
                os.chmod(str(number), 0o755, dir_fd=base)
            if size:
                self._bound(number, size)
        finally:
            os.close(base)

    def _bound(self, number: int, size: int) -> None:
        fd = _opened(self._paths.directory(number))
        try:
            btrfs.enable_quota(fd)
            btrfs.limit_subvolume(fd, size)
        finally:
            os.close(fd)

    def mounts(
        self, number: int, parents: Sequence[int], kind: int, ids: IdMaps | None = None
    ) -> list[Mount]:
        shown = parents[0] if kind == VIEW and parents else number
        return bind(self._paths.directory(shown), kind, ids)

    def seal(self, number: int, parents: Sequence[int], *, rebased: bool = False) -> Usage:
        assert not rebased
        directory = self._paths.directory(number)
        usage = self.usage(number, parents)
        sync_filesystem(directory)
        return usage

    def sealed(self, number: int) -> None:
        fd = _opened(self._paths.directory(number))
        try:
            btrfs.set_read_only(fd, True)
        finally:
            os.close(fd)

    def usage(self, number: int, parents: Sequence[int]) -> Usage:
        """Files that are not as in the parent: a snapshot keeps inodes and their times."""
        parent = self._paths.directory(parents[0]) if parents else ""
        return usage_above(self._paths.directory(number), parent)

    def remove(self, number: int) -> None:
        path = self._paths.directory(number)
        try:
            fd = _opened(path)
        except FileNotFoundError:
            return
        try:
            if btrfs.is_subvolume(fd):
                btrfs.set_read_only(fd, False)  # else it cannot be renamed
        finally:
            os.close(fd)
        self._trash.throw(path)

    def numbers(self) -> set[int]:
        return numbers_in(self._paths.base)

    def wait(self) -> None:
        self._trash.wait()

    def close(self) -> None:
        self._trash.close()


def delete(path: str) -> None:
    """A subvolume with all in it, or what stands in its place; gone is done."""
    directory, _, name = path.rpartition("/")
    try:
        fd = _opened(path)
    except FileNotFoundError:
        return
    try:
        whole = btrfs.is_subvolume(fd)
    finally:
        os.close(fd)
    if not whole:
        remove_tree(path)
        return
    base = _opened(directory)
    try:
        btrfs.destroy_subvolume(base, name)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        remove_tree(path)  # a container has made subvolumes of its own: they are emptied
    finally:
        os.close(base)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
