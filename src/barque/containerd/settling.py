"""Layers on their way to the disk: committed before they are durable, for they can be made again.

    commit of a layer whose blob is in the content store ──row in `unsettled`──> answered
        ──a moment later──> all of the file system synced ──> row gone
    start: same boot     nothing is lost that was written: synced as ever
           another boot  the power may have failed: unpacked again from the blob, in its place

So a pull waits for the disk once for each blob, and never for what others write beside it. Blobs
and names are durable when they are answered, as before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading

from barque.containerd.content.store import ContentStore
from barque.containerd.diff.applying import apply_layer, target_of
from barque.containerd.metadata import Metadata
from barque.containerd.proto import types_pb2
from barque.containerd.snapshots.origins import Origin, Origins, chain_of
from barque.containerd.snapshots.store import Snapshot, SnapshotStore
from barque.containerd.snapshots.stores import SnapshotStores
from barque.containerd.threads import in_thread
from barque.errors import BarqueError, DataLoss

log = logging.getLogger(__name__)

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SETTLE_S = 2.0  # after a commit: the next ones share the sync
UNKNOWN_BOOT = ""
TABLE = """
CREATE TABLE IF NOT EXISTS unsettled (
    number INTEGER PRIMARY KEY, boot TEXT NOT NULL, blob TEXT NOT NULL
);
"""


def boot_id() -> str:
    with open(BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


class Settling:
    def __init__(
        self, metadata: Metadata, content: ContentStore, stores: SnapshotStores, origins: Origins
    ) -> None:
        self._metadata, self._content, self._stores = metadata, content, stores
        self._origins = origins
        self._boot = boot_id()
        self._task: asyncio.Task[None] | None = None
        metadata.execute(TABLE)

    def origin(
        self, store: SnapshotStore, snapshot: Snapshot, namespace: str, name: str, parent: str
    ) -> Origin | None:
        """What the snapshot can be made of again under `name`; None: seal it durably."""
        directory = store.settles(snapshot)
        if not directory:
            return None
        origin = self._origins.layer(directory, name, parent or snapshot.parent)
        if origin is None or not self._content.has(namespace, origin.blob):
            return None
        return origin

    def add(self, number: int, origin: Origin) -> None:
        """Within the transaction of the commit."""
        self._metadata.execute(
            "INSERT OR REPLACE INTO unsettled VALUES (?, ?, ?)", number, self._boot, origin.blob
        )

    def soon(self) -> None:
        """After that, and at start."""
        if self._task is None:
            self._task = asyncio.create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(SETTLE_S)
        self._task = None  # what is committed from here on is settled by the next one
        try:
            await self.settle()
        except (BarqueError, OSError) as error:
            log.error("layers are not on the disk: %s", error)

    async def settle(self) -> None:
        """All layers so far are durable when this returns. What fails is made again at a start."""
        rows = self._metadata.execute(
            "SELECT number FROM unsettled WHERE boot = ?", self._boot
        ).fetchall()
        if not rows:
            return
        numbers = [number for (number,) in rows]
        try:
            await in_thread(self._stores.sync)
        except OSError:
            with self._metadata.transaction():
                for number in numbers:
                    self._metadata.execute(
                        "UPDATE unsettled SET boot = ? WHERE number = ?", UNKNOWN_BOOT, number
                    )
            raise
        self._forget(numbers)

    def _forget(self, numbers: list[int]) -> None:
        with self._metadata.transaction():
            for number in numbers:
                self._metadata.execute("DELETE FROM unsettled WHERE number = ?", number)

    async def close(self) -> None:
        """The server ends: what is left is settled now."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.settle()
        except (BarqueError, OSError) as error:
            log.error("layers are not on the disk: %s", error)

    # After a crash

    def recover(self) -> int:
        """At start, before anyone is served. Returns how many layers were made again.

        One that cannot be is tried again at the next start.
        """
        found = self._metadata.execute(
            "SELECT number, boot, blob, snapshotter, namespace, key FROM unsettled"
            " LEFT JOIN snapshots USING (number) ORDER BY length(chain), number"
        ).fetchall()
        made, gone = [], []
        for number, boot, blob, snapshotter, namespace, key in found:
            if key is None:
                gone.append(number)
            elif boot != self._boot:
                store = self._stores.open(snapshotter)
                try:
                    self._make_again(store, namespace, store.stat(namespace, key), blob)
                    made.append(number)
                except (BarqueError, OSError) as error:
                    log.error("layer %s cannot be made again: %s", key, error)
        if made:
            self._stores.sync()
        self._forget(made + gone)
        return len(made)

    def _make_again(
        self, store: SnapshotStore, namespace: str, snapshot: Snapshot, blob: str
    ) -> None:
        fd = self._content.open(namespace, blob)
        try:
            mounts = [
                types_pb2.Mount(type=one.type, source=one.source, options=one.options)
                for one in store.renew(snapshot)
            ]
            diff_id, _ = apply_layer(fd, target_of(mounts), threading.Event())
        finally:
            os.close(fd)
        if chain_of(snapshot.parent, diff_id) != snapshot.key:
            raise DataLoss(f"blob {blob} unpacks to {diff_id}")
