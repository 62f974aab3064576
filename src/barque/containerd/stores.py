"""What the server keeps on disk, opened and closed: one database, and stores over it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from barque.containerd.collector import Collector
from barque.containerd.content.store import ContentStore
from barque.containerd.metadata import Metadata, now_ns
from barque.containerd.paths import ContentPaths, Paths
from barque.containerd.references import CONTENT, SNAPSHOTS, References
from barque.containerd.settling import Settling
from barque.containerd.snapshots.origins import Origins
from barque.containerd.snapshots.pool import Pool
from barque.containerd.snapshots.stores import SnapshotStores
from barque.errors import BarqueError
from barque.linux import lock

log = logging.getLogger(__name__)


class Stores(NamedTuple):
    metadata: Metadata
    references: References
    content: ContentStore
    snapshots: SnapshotStores
    origins: Origins
    settling: Settling
    collector: Collector


@contextmanager
def opened(
    paths: Paths, disabled: Collection[str] = (), pool: Pool | None = None
) -> Iterator[Stores]:
    """All stores of one server, without what an earlier run left half done.

    Snapshotters among the plugins `disabled` are not there. Raises Taken when another server has
    them.
    """
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.root.chmod(0o700)  # earlier ones were open to who knew a path in them
    paths.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    locks = take_locks(paths)
    metadata = Metadata(paths.database)
    references = References(metadata)
    snapshots = SnapshotStores(metadata, references, paths, disabled, pool)
    try:
        content = ContentStore(metadata, references, ContentPaths(paths.content))
        content.forget_stale(now_ns())
        if removed := snapshots.sweep_files():
            log.info("removed %d snapshots of an earlier run", removed)
        origins = Origins()
        settling = Settling(metadata, content, snapshots, origins)
        if made := settling.recover():
            log.info("made %d layers again that the disk may not have", made)
        collector = Collector(
            metadata, references, {CONTENT: content, SNAPSHOTS: snapshots}, time.time
        )
        yield Stores(metadata, references, content, snapshots, origins, settling, collector)
    finally:
        try:
            metadata.checkpoint()
        except BarqueError as error:
            log.error("%s", error)  # its log has it all
        metadata.close()
        snapshots.close()
        for fd in locks:
            os.close(fd)


def take_locks(paths: Paths) -> list[int]:
    """One server a root, and one a state. Raises Conflict; held as long as the descriptors."""
    taken: list[int] = []
    for path in (paths.lock, paths.state_lock):
        try:
            taken.append(lock.take(str(path), f"{path.parent} is in use by another server"))
        except BaseException:
            for fd in taken:
                os.close(fd)
            raise
    return taken
