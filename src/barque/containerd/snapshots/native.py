"""The native snapshotter: a whole copy a snapshot, on any file system.

    <number>/fs    the whole tree

Where the file system can (xfs, btrfs), the data of files is shared until it is written (FICLONE);
`cp` of GNU does the copying: it knows links, holes, attributes, and is as fast as the disk.
Source: containerd, docs/snapshotters; it is what Docker calls vfs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from barque.containerd.paths import SnapshotPaths
from barque.containerd.snapshots.disk import Trash, numbers_in, sync_and_measure, usage_of
from barque.containerd.snapshots.mounts import bind
from barque.containerd.snapshots.remapping import REMAP, Remapping
from barque.containerd.snapshots.snapshotter import VIEW, Mount, Usage
from barque.errors import DataLoss, ResourceExhausted, Unsupported
from barque.linux.inode_flags import spread_subdirectories
from barque.oci.id_maps import IdMaps


class Native:
    name = "native"
    slow = True

    def __init__(self, paths: SnapshotPaths) -> None:
        self._paths = paths
        self._trash = Trash(paths.trash)
        self._remapping = Remapping(paths.base)
        os.makedirs(paths.base, mode=0o700, exist_ok=True)
        spread_subdirectories(paths.base)

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
                f"a snapshot of at most {size} bytes cannot be made: native has no quotas"
            )
        self._trash.new_directory(self._paths.directory(number))
        if not parents:
            os.mkdir(self._paths.files(number), 0o755)
        elif kind != VIEW:
            copy(self._paths.files(parents[0]), self._paths.files(number))

    def mounts(
        self, number: int, parents: Sequence[int], kind: int, ids: IdMaps | None = None
    ) -> list[Mount]:
        shown = parents[0] if kind == VIEW and parents else number
        return bind(self._paths.files(shown), kind, ids)

    def seal(self, number: int, parents: Sequence[int], *, rebased: bool = False) -> Usage:
        assert not rebased
        return sync_and_measure(self._paths.files(number))

    def sealed(self, number: int) -> None:
        return

    def usage(self, number: int, parents: Sequence[int]) -> Usage:
        """All of it: nothing is shared that we could know of."""
        return usage_of(self._paths.files(number))

    def remove(self, number: int) -> None:
        self._trash.throw(self._paths.directory(number))

    def numbers(self) -> set[int]:
        return numbers_in(self._paths.base)

    def wait(self) -> None:
        self._trash.wait()

    def close(self) -> None:
        self._trash.close()


def copy(source: str, target: str) -> None:
    """All of the tree `source`, its root too, as `target`, which is not there yet."""
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "-T", "--", source, target],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )
    if done.returncode == 0:
        return
    last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word of why"])[-1]
    if "No space left" in last or "quota exceeded" in last:
        raise ResourceExhausted(f"copying the snapshot {source}: {last}")
    raise DataLoss(f"copying the snapshot {source}: {last}")
