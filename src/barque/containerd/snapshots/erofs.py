"""The erofs snapshotter: a committed layer is one read-only image file, overlay's lower directory.

    <number>/fs            an active snapshot's own files, overlay's upper directory; for a
                           committed one the place where its image is mounted
    <number>/work          overlay's work directory, for an active one
    <number>/layer.erofs   the image of a committed one
    empty                  below what has nothing below

Images are mounted when a snapshot above them is first shown, from the file where the kernel can
(6.12), else by a loop device, and taken away at the end of the server: what runs holds them itself.
A layer's image does not depend on what is below: so layers may be made at the same time, without
parents, and be put on each other when they are committed (containerd's capability "rebase").
Source: containerd, docs/snapshotters/erofs.md; Linux, Documentation/filesystems/erofs.rst.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence

from barque.containerd.paths import SnapshotPaths
from barque.containerd.snapshots import unknown_parents
from barque.containerd.snapshots.disk import BLOCK_BYTES, Trash, numbers_in, usage_of
from barque.containerd.snapshots.erofs_image import write_image
from barque.containerd.snapshots.mounts import bind, overlay
from barque.containerd.snapshots.overlay import INDEX_PARAMETER, copy_root
from barque.containerd.snapshots.quota import ProjectQuota
from barque.containerd.snapshots.remapping import REMAP, Remapping
from barque.containerd.snapshots.snapshotter import QUOTA, REBASE, VIEW, Mount, Usage
from barque.errors import DataLoss, ResourceExhausted
from barque.linux import loop_device
from barque.linux.fs import sync_directory
from barque.linux.mount import (
    MNT_DETACH,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    UMOUNT_NOFOLLOW,
    mount,
    umount2,
)
from barque.oci.id_maps import IdMaps

FLAGS = MS_RDONLY | MS_NODEV | MS_NOSUID


class Erofs:
    name = "erofs"
    slow = False

    def __init__(self, paths: SnapshotPaths) -> None:
        self._paths = paths
        self._trash = Trash(paths.trash)
        self._quota = ProjectQuota(paths.base)
        self._remapping = Remapping(paths.base)
        self._options = ("index=off",) if os.path.exists(INDEX_PARAMETER) else ()
        os.makedirs(paths.base, mode=0o700, exist_ok=True)
        os.makedirs(paths.empty, mode=0o755, exist_ok=True)
        unknown_parents.mark(paths.empty)
        self._lock = threading.Lock()
        # Whose image is mounted; what a server that was killed left is taken over.
        self._shown = set(mounted_below(paths.base))

    @property
    def capabilities(self) -> tuple[str, ...]:
        had = ((QUOTA, self._quota.available), (REMAP, self._remapping.available))
        return (REBASE, *(name for name, is_there in had if is_there))

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
        self._trash.new_directory(directory)
        if size:
            self._quota.bound(directory, number, size)
        if kind == VIEW:
            return
        os.mkdir(self._paths.files(number), 0o755)
        os.mkdir(self._paths.work(number), 0o711)
        if parents:
            self._show(parents[0])
            copy_root(self._paths.files(parents[0]), self._paths.files(number), ids)
        elif ids is not None:
            os.chown(self._paths.files(number), *ids.root)

    def mounts(
        self, number: int, parents: Sequence[int], kind: int, ids: IdMaps | None = None
    ) -> list[Mount]:
        for parent in parents:
            self._show(parent)
        lowers = [self._paths.files(parent) for parent in parents] or [self._paths.empty]
        if kind == VIEW and len(lowers) == 1:
            return bind(lowers[0], kind, ids)
        if kind == VIEW:
            return overlay(self._options, lowers, ids)
        files, work = self._paths.files(number), self._paths.work(number)
        return overlay(self._options, lowers, ids, upper=files, work=work)

    def seal(self, number: int, parents: Sequence[int], *, rebased: bool = False) -> Usage:
        files = self._paths.files(number)
        if rebased:
            for parent in parents:
                self._show(parent)
            unknown_parents.settle(files, [self._paths.files(parent) for parent in parents])
        target = self._paths.image(number)
        inodes = make_image(files, f"{target}.new")
        os.rename(f"{target}.new", target)
        sync_directory(self._paths.directory(number))
        return Usage(os.stat(target).st_blocks * BLOCK_BYTES, inodes)

    def sealed(self, number: int) -> None:
        """Its files are in the image now."""
        for path in (self._paths.files(number), self._paths.work(number)):
            self._trash.throw(path)

    def usage(self, number: int, parents: Sequence[int]) -> Usage:
        return usage_of(self._paths.files(number))

    def remove(self, number: int) -> None:
        with self._lock:
            if number in self._shown:
                _unmount(self._paths.files(number))
                self._shown.discard(number)
        self._quota.free(number)
        self._trash.throw(self._paths.directory(number))

    def numbers(self) -> set[int]:
        return numbers_in(self._paths.base)

    def wait(self) -> None:
        self._trash.wait()

    def close(self) -> None:
        for number in self._shown:
            _unmount(self._paths.files(number))
        self._trash.close()

    def _show(self, number: int) -> None:
        """The image of a committed snapshot is mounted when this returns."""
        if number in self._shown:
            return
        with self._lock:
            if number in self._shown:
                return
            place = self._paths.files(number)
            try:
                os.mkdir(place, 0o755)
            except FileExistsError:
                if os.listdir(place):  # `sealed` was never reached
                    self._trash.throw(place)
                    os.mkdir(place, 0o755)
            mount_image(self._paths.image(number), place)
            self._shown.add(number)


def make_image(directory: str, target: str) -> int:
    """`write_image`, and nothing is left of one that failed. Raises ResourceExhausted, DataLoss."""
    try:
        return write_image(directory, target)
    except BaseException as error:
        _unlink(target)
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceExhausted("no space left on device for the image of a layer") from error
        raise DataLoss(f"the image of a layer cannot be made: {error}") from error


def mount_image(image: str, place: str) -> None:
    """Read-only, from the file itself or through a loop device."""
    try:
        mount(image, place, "erofs", FLAGS)
        return
    except OSError as error:
        if error.errno != errno.ENOTBLK:  # before Linux 6.12
            raise DataLoss(f"the image of a layer cannot be mounted: {error}") from error
    fd, device = loop_device.attach(image, read_only=True)
    try:
        mount(device, place, "erofs", FLAGS)
    finally:
        os.close(fd)


def mounted_below(base: str) -> set[int]:
    """The numbers whose image is mounted."""
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = line.split(" ", 5)[4]
            number, slash, rest = point.removeprefix(f"{base}/").partition("/")
            if point.startswith(f"{base}/") and slash and rest == "fs" and number.isdecimal():
                found.add(int(number))
    return found


def missing() -> str:
    """Why there is no erofs here; "" where there is."""
    with open("/proc/filesystems", encoding="ascii") as file:
        if "\terofs\n" not in file.read():
            return "the kernel has no erofs"
    return ""


def _unmount(place: str) -> None:
    try:
        umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
