"""The overlay snapshotter: one directory a snapshot, joined by overlayfs.

    <number>/fs     the snapshot's own files, overlay's upper directory   (as the parent's, or 0755)
    <number>/work   overlay's work directory, for an active one with parents (0711)

Source: containerd, docs/snapshotters; the options and directory modes are containerd's. Removal
renames the directory away, which is quick, and deletes it in the background.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from barque.containerd.paths import SnapshotPaths
from barque.containerd.snapshots import unknown_parents
from barque.containerd.snapshots.disk import Trash, numbers_in, usage_of
from barque.containerd.snapshots.mounts import bind, overlay
from barque.containerd.snapshots.quota import ProjectQuota
from barque.containerd.snapshots.remapping import REMAP, Remapping
from barque.containerd.snapshots.snapshotter import APART, QUOTA, VIEW, Mount, Usage
from barque.containerd.snapshots.spare import Spare
from barque.linux.fs import sync_filesystem
from barque.linux.inode_flags import spread_subdirectories
from barque.oci.id_maps import IdMaps

INDEX_PARAMETER = "/sys/module/overlay/parameters/index"


class Overlay:
    name = "overlayfs"
    slow = False

    def __init__(self, paths: SnapshotPaths) -> None:
        self._paths = paths
        self._trash = Trash(paths.trash)
        self._quota = ProjectQuota(paths.base)
        self._remapping = Remapping(paths.base)
        # With an index the same upper directory can not be mounted a second time.
        self._options: tuple[str, ...] = ("index=off",) if os.path.exists(INDEX_PARAMETER) else ()
        if in_user_namespace():  # where trusted.* attributes cannot be set
            self._options += ("userxattr",)
        os.makedirs(paths.base, mode=0o700, exist_ok=True)
        spread_subdirectories(paths.base)
        self._spare = Spare(paths.spare, _fill)

    @property
    def capabilities(self) -> tuple[str, ...]:
        had = (
            (APART, not in_user_namespace()),
            (QUOTA, self._quota.available),
            (REMAP, self._remapping.available),
        )
        return tuple(name for name, is_there in had if is_there)

    def make(
        self,
        number: int,
        parents: Sequence[int],
        kind: int,
        size: int = 0,
        ids: IdMaps | None = None,
    ) -> None:
        self._remapping.check(ids)
        directory = self._paths.directory(number)
        writable = bool(parents) and kind != VIEW
        # What is in a directory already is not counted by a quota that it gets.
        if not (writable and not size and self._spare.take(directory)):
            self._trash.new_directory(directory)
            if size:
                self._quota.bound(directory, number, size)
            if writable:
                _fill(directory)
                self._trash.then(self._spare.renew)
            elif not parents:
                os.mkdir(self._paths.files(number), 0o755)
        if writable:
            copy_root(self._paths.files(parents[0]), self._paths.files(number), ids)

    def mounts(
        self, number: int, parents: Sequence[int], kind: int, ids: IdMaps | None = None
    ) -> list[Mount]:
        if not parents or (kind == VIEW and len(parents) == 1):
            shown = self._paths.files(parents[0] if parents else number)
            return bind(shown, kind, ids)
        lowers = [self._paths.files(parent) for parent in parents]
        if kind == VIEW:
            return overlay(self._options, lowers, ids)
        files, work = self._paths.files(number), self._paths.work(number)
        return overlay(self._options, lowers, ids, upper=files, work=work)

    def seal(self, number: int, parents: Sequence[int], *, rebased: bool = False) -> Usage:
        usage = self.finish(number, parents)
        self.sync()
        return usage

    def files(self, number: int) -> str:
        return self._paths.files(number)

    def finish(self, number: int, parents: Sequence[int]) -> Usage:
        files = self._paths.files(number)
        unknown_parents.place(files, [self._paths.files(parent) for parent in parents])
        return usage_of(files)

    def sync(self) -> None:
        sync_filesystem(self._paths.base)

    def sealed(self, number: int) -> None:
        return

    def usage(self, number: int, parents: Sequence[int]) -> Usage:
        return usage_of(self._paths.files(number))

    def remove(self, number: int) -> None:
        self._quota.free(number)
        self._trash.throw(self._paths.directory(number))
        self._trash.then(self._spare.renew)

    def numbers(self) -> set[int]:
        return numbers_in(self._paths.base)

    def wait(self) -> None:
        self._trash.wait()

    def close(self) -> None:
        self._trash.close()


def _fill(directory: str) -> None:
    """What the directory of a writable snapshot above others has."""
    os.mkdir(f"{directory}/fs", 0o755)
    os.mkdir(f"{directory}/work", 0o711)


def in_user_namespace() -> bool:
    """Whether this process has not the machine's own ids. user_namespaces(7)."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() != ["0", "0", str((1 << 32) - 1)]
    except FileNotFoundError:  # a kernel without user namespaces
        return False


def copy_root(source: str, target: str, ids: IdMaps | None = None) -> None:
    """The root of an overlay looks like its upper directory: give it the parent's looks.

    With `ids` the owner is who has the parent's in the machine's own ids.
    """
    found = os.stat(source)
    uid, gid = found.st_uid, found.st_gid
    if ids is not None:
        uid, gid = ids.uids.to_host(uid), ids.gids.to_host(gid)
        if uid < 0 or gid < 0:
            uid, gid = ids.root
    if uid or gid:
        os.chown(target, uid, gid)
    if found.st_mode & 0o7777 != 0o755:
        os.chmod(target, found.st_mode & 0o7777)
