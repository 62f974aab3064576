"""Garbage collection: removes content and snapshots that nothing holds.

Source: containerd, docs/garbage-collection.md. As all edges are rows (references.py), collecting is
a cascade: look at what was let go of, delete what nothing else holds, then look at what that held.
Each step is a few point queries in one turn of the event loop, so it is atomic against everything
else and never in anybody's way. A full sweep looks at every node, some at a time: at start and now
and then, for what never was held by anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from barque.containerd.metadata import Metadata, decode_labels
from barque.containerd.references import CONTENT, EXPIRE_LABEL, SNAPSHOTS, Node, References

log = logging.getLogger(__name__)

DELAY_S = 2.0
SWEEP_AFTER_START_S = 30.0
SWEEP_EVERY_S = 3600.0
SWEEP_GRACE_S = 60.0
SLICE_NODES = 64


class Removable(Protocol):
    """A store whose objects can be collected."""

    def discard(self, node: Node) -> None:
        """Delete the object, its edges too; one that is gone is done. Raises nothing else."""


class Collector:
    def __init__(
        self,
        metadata: Metadata,
        references: References,
        stores: Mapping[str, Removable],
        clock_s: Callable[[], float],
    ) -> None:
        """`stores` has a key CONTENT and a key SNAPSHOTS."""
        self._metadata = metadata
        self._references = references
        self._stores = stores
        self._clock_s = clock_s
        self._timer: asyncio.TimerHandle | None = None
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def soon(self) -> None:
        """Something was let go of: look at it when its client had `DELAY_S` to remove it itself."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._start)

    def _start(self) -> None:
        self._timer = None
        task = asyncio.create_task(self._run_later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_later(self) -> None:
        await self.run(older_than_s=DELAY_S)
        if self._references.released:
            self.soon()

    async def run(self, older_than_s: float = 0.0) -> None:
        """Collect what was let go of so far, as long ago as that; returns when it is gone."""
        async with self._one_at_a_time:
            self._expire_leases()
            limit = time.monotonic() - older_than_s
            ripe = [node for node, since in self._references.released.items() if since <= limit]
            await self._cascade(ripe)

    async def sweep(self) -> None:
        """Look at every node there is."""
        async with self._one_at_a_time:
            self._expire_leases()
            for kind, query in (
                (
                    CONTENT,
                    "SELECT namespace, ?, digest, updated FROM content"
                    " WHERE (namespace, digest) > (?, ?) ORDER BY namespace, digest LIMIT ?",
                ),
                (
                    SNAPSHOTS,
                    "SELECT namespace, ? || snapshotter, key, updated, number FROM snapshots"
                    " WHERE number < ? ORDER BY number DESC LIMIT ?",
                ),
            ):
                await self._sweep(kind, query)

    async def _sweep(self, kind: str, query: str) -> None:
        at: tuple[object, ...] = ("", "") if kind == CONTENT else (1 << 62,)
        while rows := self._metadata.execute(query, kind, *at, SLICE_NODES).fetchall():
            # What is quite new may belong to a client that is about to refer to it.
            limit = (self._clock_s() - SWEEP_GRACE_S) * 1e9
            await self._cascade([Node(*row[:3]) for row in rows if row[3] <= limit])
            at = (rows[-1][0], rows[-1][2]) if kind == CONTENT else (rows[-1][4],)

    async def keep_sweeping(self) -> None:
        """Sweep some time after start, then from time to time, until cancelled."""
        await asyncio.sleep(SWEEP_AFTER_START_S)
        while True:
            try:
                await self.sweep()
            except Exception:
                log.exception("garbage sweep failed")
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _cascade(self, ripe: list[Node]) -> None:
        """Look at `ripe`, then at what their going let go of."""
        looked_at = 0
        while ripe:
            node = ripe.pop()
            earlier, self._references.released = self._references.released, {}
            try:
                self._collect(node)
            finally:
                ripe.extend(self._references.released)
                self._references.released = earlier
            earlier.pop(node, None)
            looked_at += 1
            if looked_at % SLICE_NODES == 0:
                await asyncio.sleep(0)

    def _collect(self, node: Node) -> None:
        if self._references.held(node):
            return
        store = self._stores.get(SNAPSHOTS if node.kind.startswith(SNAPSHOTS) else node.kind)
        if store is not None:
            store.discard(node)

    def _expire_leases(self) -> None:
        rows = self._metadata.execute(
            "SELECT namespace, id, labels FROM leases WHERE labels LIKE ?", f"%{EXPIRE_LABEL}%"
        ).fetchall()
        for namespace, id, labels in rows:
            if is_past(decode_labels(labels).get(EXPIRE_LABEL, ""), self._clock_s()):
                with self._metadata.transaction():
                    self._metadata.execute(
                        "DELETE FROM leases WHERE namespace = ? AND id = ?", namespace, id
                    )
                    self._references.drop(Node(namespace, "lease", id))


def is_past(text: str, now_s: float) -> bool:
    """Whether the RFC 3339 time `text` is over; what is no time never is."""
    try:
        return datetime.fromisoformat(text).timestamp() < now_s
    except ValueError:
        return False
