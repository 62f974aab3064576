"""The devmapper snapshotter: a snapshot is a thin block device with a file system, sharing all it
did not change with the one that it was made of.

    data, metadata   sparse files that the pool of all devices lies in
    made             there once the device that every first layer begins as has its file system
    <number>/fs      where the device of a snapshot is mounted; read-only once it is committed

Devices are mounted when they are first shown and taken away at the end of the server; what runs
holds them itself. A server that was killed left them as they were: they are taken over.
Source: containerd, docs/snapshotters/devmapper.md; Docker's devicemapper driver, which makes its
pool of files too; Linux, Documentation/admin-guide/device-mapper/thin-provisioning.rst.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence

from barque.containerd.paths import SnapshotPaths
from barque.containerd.snapshots.disk import Trash, numbers_in, usage_above
from barque.containerd.snapshots.erofs import mounted_below
from barque.containerd.snapshots.mounts import bind
from barque.containerd.snapshots.pool import DEVICE_BYTES, Pool
from barque.containerd.snapshots.remapping import REMAP, Remapping
from barque.containerd.snapshots.snapshotter import VIEW, Mount, Usage
from barque.errors import Conflict, DataLoss, NotFound, ResourceExhausted, Unsupported
from barque.linux import device_mapper, loop_device
from barque.linux.fs import remove_tree, sync_directory, sync_filesystem
from barque.linux.mount import (
    MNT_DETACH,
    MS_RDONLY,
    MS_REMOUNT,
    UMOUNT_NOFOLLOW,
    mount,
    umount2,
)
from barque.oci.id_maps import IdMaps

log = logging.getLogger(__name__)

DATA_BYTES = 100 << 30  # of a sparse file, as Docker makes it
METADATA_BYTES = 2 << 30
BLOCK_SECTORS = 128  # what the pool shares and gives out at a time
LOW_WATER_BLOCKS = 32768
FIRST = 0  # the thin device that first layers are made of
NUMBERS_MAX = 1 << 24  # thin devices have numbers of 24 bits
TRIES, PAUSE_S = 100, 0.05  # who looks at new devices (udev) lets go of them soon
EXT = ("-q", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1")
MAKE = {"ext4": ("mkfs.ext4", *EXT), "ext2": ("mkfs.ext2", "-q"), "xfs": ("mkfs.xfs", "-q", "-K")}
MOUNTED_WITH = {"xfs": "nouuid"}  # devices that share all have one identifier


class Devmapper:
    name = "devmapper"
    slow = True

    def __init__(self, paths: SnapshotPaths, pool: Pool | None = None) -> None:
        """`pool` is the administrator's own; None: one in files, made here."""
        self._paths = paths
        self._own_pool = pool is None
        self._like = pool or Pool("")
        os.makedirs(paths.base, mode=0o700, exist_ok=True)
        where = os.stat(paths.base)
        self._word = f"barque-{os.major(where.st_dev)}-{os.minor(where.st_dev)}-{where.st_ino}"
        self._pool = self._like.name or f"{self._word}-pool"
        self._lock = threading.RLock()
        self._remapping = Remapping(paths.base, always=True)  # ext4, since Linux 5.12
        self._shown = set(mounted_below(paths.base))
        self._open_pool()
        self._make_first()
        self._trash = Trash(paths.trash, self._delete)

    @property
    def capabilities(self) -> tuple[str, ...]:
        return (REMAP,) if self._remapping.available else ()

    def make(
        self,
        number: int,
        parents: Sequence[int],
        kind: int,
        size: int = 0,
        ids: IdMaps | None = None,
    ) -> None:
        self._remapping.check(ids)
        if size:
            raise Unsupported(
                f"a snapshot of at most {size} bytes cannot be made: devices of devmapper have "
                f"{self._like.size} bytes"
            )
        if number >= NUMBERS_MAX:
            raise ResourceExhausted(f"a pool has no more than {NUMBERS_MAX} devices")
        self._take_away(number)
        os.mkdir(self._paths.directory(number), 0o700)
        if kind == VIEW and parents:
            return  # it is the parent that is shown
        os.mkdir(self._paths.files(number), 0o755)
        self._branch(number, parents[0] if parents else FIRST)
        self._show(number)

    def mounts(
        self, number: int, parents: Sequence[int], kind: int, ids: IdMaps | None = None
    ) -> list[Mount]:
        shown = parents[0] if kind == VIEW and parents else number
        self._show(shown)
        return bind(self._paths.files(shown), kind, ids)

    def seal(self, number: int, parents: Sequence[int], *, rebased: bool = False) -> Usage:
        assert not rebased
        usage = self.usage(number, parents)
        sync_filesystem(self._paths.files(number))
        return usage

    def sealed(self, number: int) -> None:
        """Nobody writes it any more; who has it open for that keeps it."""
        try:
            mount(None, self._paths.files(number), None, MS_REMOUNT | MS_RDONLY)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise

    def usage(self, number: int, parents: Sequence[int]) -> Usage:
        """Files that are not as in the parent: a snapshot keeps inodes and their times."""
        for one in (number, *parents[:1]):
            self._show(one)
        parent = self._paths.files(parents[0]) if parents else ""
        return usage_above(self._paths.files(number), parent)

    def remove(self, number: int) -> None:
        with self._lock:
            self._hide(number)
        self._trash.throw(self._paths.directory(number))

    def numbers(self) -> set[int]:
        return numbers_in(self._paths.base)

    def wait(self) -> None:
        self._trash.wait()

    def close(self) -> None:
        """Devices that a container still has stay, and with them the pool."""
        self._trash.close()
        with self._lock:
            for number in sorted(self._shown):
                self._hide(number)
            names = [*map(self._device, sorted(self.numbers())), self._pool]
            for name in names if self._own_pool else names[:-1]:
                try:
                    device_mapper.remove(name)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise

    # The pool

    def _open_pool(self) -> None:
        """The pool in its files; one of a killed server is there already.

        Raises NotFound where the administrator's is not.
        """
        if device_mapper.number_of(self._pool):
            return
        if not self._own_pool:
            raise NotFound(f"pool {self._pool} of devmapper is not there")
        sizes = {"metadata": METADATA_BYTES, "data": DATA_BYTES}
        for name, size in sizes.items():
            with open(f"{self._paths.base}/{name}", "ab") as file:
                file.truncate(size)
        sync_directory(self._paths.base)
        files = [f"{self._paths.base}/{name}" for name in sizes]
        held: list[int] = []
        try:
            for path in files:
                held.append(loop_device.attach(path, read_only=False)[0])
            places = " ".join(
                f"{os.major(found)}:{os.minor(found)}"
                for found in (os.fstat(fd).st_rdev for fd in held)
            )
            device_mapper.create(
                self._pool,
                DATA_BYTES // device_mapper.SECTOR_BYTES,
                "thin-pool",
                f"{places} {BLOCK_SECTORS} {LOW_WATER_BLOCKS} "
                "2 skip_block_zeroing error_if_no_space",
            )
        finally:
            for fd in held:
                os.close(fd)

    def _make_first(self) -> None:
        """The device of an empty file system, once.

        Raises Conflict where it was made in another way, or the pool has another's devices.
        """
        made = f"{self._paths.base}/made"
        like = f"{self._like.size} {self._like.file_system}"
        if os.path.exists(made):
            with open(made, encoding="ascii") as file:
                known = file.read() or f"{DEVICE_BYTES} ext4"  # of an earlier version
            if known != like:
                raise Conflict(f"the devices of devmapper are {known}, and cannot be {like}")
            return
        if not self._own_pool and not os.path.exists(f"{made}~"):
            self._check_unused()
        self._forget(FIRST)
        with open(f"{made}~", "w", encoding="ascii") as file:  # from here on the pool is ours
            file.write(like)
        device_mapper.message(self._pool, f"create_thin {FIRST}")
        node = device_mapper.node(self._activate(FIRST))
        kind = self._like.file_system
        make = [*MAKE[kind], *shlex.split(self._like.options), node]
        done = subprocess.run(make, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataLoss(f"the first device of devmapper has no file system: {done.stderr}")
        place = f"{self._paths.base}/first"
        os.makedirs(place, mode=0o700, exist_ok=True)
        mount(node, place, kind, 0, MOUNTED_WITH.get(kind))
        try:
            if kind != "xfs":
                os.rmdir(f"{place}/lost+found")
            sync_filesystem(place)
        finally:
            umount2(place)
        os.rmdir(place)
        self._deactivate(FIRST)
        with open(f"{made}~", encoding="ascii") as file:
            os.fsync(file.fileno())
        os.rename(f"{made}~", made)
        sync_directory(self._paths.base)

    def _check_unused(self) -> None:
        """Raises Conflict where the pool has what another wrote: we number all of its devices."""
        used = device_mapper.status(self._pool).split()[2:3]
        if not used or not used[0].startswith("0/"):
            raise Conflict(f"pool {self._pool} of devmapper has devices of another")

    # Devices

    def _device(self, number: int) -> str:
        return f"{self._word}-{number}"

    def _branch(self, number: int, origin: int) -> None:
        """A thin device that shares all with `origin`, whose file system is whole meanwhile."""
        with self._lock:
            self._forget(number)
            name = self._device(origin)
            active = bool(device_mapper.number_of(name))
            if active:
                device_mapper.suspend(name)
            try:
                device_mapper.message(self._pool, f"create_snap {number} {origin}")
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise ResourceExhausted("no space left in the pool of devmapper") from error
                raise
            finally:
                if active:
                    device_mapper.resume(name)

    def _activate(self, number: int) -> int:
        sectors = self._like.size // device_mapper.SECTOR_BYTES
        pool = device_mapper.number_of(self._pool)
        place = f"{os.major(pool)}:{os.minor(pool)} {number}"
        return device_mapper.create(self._device(number), sectors, "thin", place)

    def _deactivate(self, number: int) -> None:
        for left in reversed(range(TRIES)):
            try:
                device_mapper.remove(self._device(number))
                return
            except OSError as error:
                if error.errno != errno.EBUSY or not left:
                    raise
            time.sleep(PAUSE_S)

    def _forget(self, number: int) -> None:
        """The pool has no such device afterwards."""
        self._deactivate(number)
        try:
            device_mapper.message(self._pool, f"delete {number}")
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise

    def _give_back(self, number: int) -> None:
        """What the device has, and no other shares, goes back to what the pool lies on.

        Raises OSError EBUSY, as `_forget` does, while somebody has it.
        """
        self._deactivate(number)
        try:
            device_mapper.discard(device_mapper.node(self._activate(number)))
        except OSError as error:  # gone already, or the pool passes none on
            log.info("device %d of devmapper gives nothing back: %s", number, error)

    def _show(self, number: int) -> None:
        """The device is mounted when this returns."""
        if number in self._shown:
            return
        with self._lock:
            if number in self._shown:
                return
            node = device_mapper.node(self._activate(number))
            kind = self._like.file_system
            mount(node, self._paths.files(number), kind, 0, MOUNTED_WITH.get(kind))
            self._shown.add(number)

    def _hide(self, number: int) -> None:
        self._shown.discard(number)
        try:
            umount2(self._paths.files(number), MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise

    def _take_away(self, number: int) -> None:
        """All of `number`, at once: a leftover of a crash."""
        with self._lock:
            self._hide(number)
            self._forget(number)
        remove_tree(self._paths.directory(number))

    def _delete(self, path: str) -> None:
        """For the trash: the device of what was thrown, then its directory."""
        number = int(os.path.basename(path).partition("-")[0])
        if self._like.discard and number:
            self._give_back(number)
        self._forget(number)
        remove_tree(path)


def missing(file_system: str = "ext4") -> str:
    """Why there is no devmapper here; "" where there is."""
    if not os.path.exists(device_mapper.CONTROL):
        return f"the kernel has no device-mapper ({device_mapper.CONTROL} is missing)"
    if not (device_mapper.is_known("thin-pool") and device_mapper.is_known("thin")):
        return "the kernel's device-mapper has no thin pools"
    program = MAKE[file_system][0]
    if shutil.which(program) is None:
        return f"{program} is not installed"
    return ""
