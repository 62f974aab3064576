"""Snapshots by key: their life, their chains, their rows. Directories are the snapshotter's.

    prepare(key, parent) --> ACTIVE --commit(name)--> COMMITTED, may be a parent of others
    view(key, parent)    --> VIEW (never changes)
    any of them          --remove--> gone, unless it is a parent

A key is free again once its snapshot was committed under a name. Parents are committed ones.
Source: containerd, core/snapshots. Rows are the truth: directories without one are swept at start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from barque.containerd.metadata import Metadata, decode_labels, encode_labels, now_ns
from barque.containerd.references import SNAPSHOTS, Node, References
from barque.containerd.snapshots.snapshotter import (
    ACTIVE,
    COMMITTED,
    VIEW,
    Mount,
    Snapshotter,
    Usage,
)
from barque.errors import AlreadyExists, Conflict, InvalidArgument, NotFound

COLUMNS = "number, key, kind, parent, chain, labels, size, inodes, created, updated"


class Snapshot(NamedTuple):
    number: int
    key: str
    kind: int
    parent: str
    chain: tuple[int, ...]  # numbers of all ancestors, nearest first
    labels: dict[str, str]
    usage: Usage
    created_ns: int
    updated_ns: int


class SnapshotStore:
    """All snapshots of one snapshotter, in all namespaces."""

    def __init__(
        self, metadata: Metadata, references: References, snapshotter: Snapshotter
    ) -> None:
        self._metadata = metadata
        self._references = references
        self._snapshotter = snapshotter
        self.name = snapshotter.name
        self.kind = SNAPSHOTS + snapshotter.name

    def stat(self, namespace: str, key: str) -> Snapshot:
        """Raises NotFound."""
        row = self._metadata.one(
            f"SELECT {COLUMNS} FROM snapshots WHERE snapshotter = ? AND namespace = ? AND key = ?",
            self.name,
            namespace,
            key,
        )
        if row is None:
            raise NotFound(f"snapshot {key} does not exist: not found")
        return _snapshot(row)

    def all(self, namespace: str) -> Iterator[Snapshot]:
        rows = self._metadata.execute(
            f"SELECT {COLUMNS} FROM snapshots WHERE snapshotter = ? AND namespace = ?"
            " ORDER BY number",
            self.name,
            namespace,
        )
        return map(_snapshot, rows)

    def make(
        self, namespace: str, key: str, parent: str, kind: int, labels: Mapping[str, str]
    ) -> Snapshot:
        """Prepare (ACTIVE) or view (VIEW). Within the caller's transaction.

        Raises AlreadyExists, NotFound for the parent, InvalidArgument for one not committed.
        """
        assert kind in (ACTIVE, VIEW)
        chain = self._chain(namespace, parent)
        self._refuse_taken(namespace, key)
        now = now_ns()
        self._metadata.ensure_namespace(namespace)
        made = self._metadata.execute(
            "INSERT INTO snapshots (snapshotter, namespace, key, kind, parent, chain, labels,"
            " size, inodes, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)",
            self.name,
            namespace,
            key,
            kind,
            parent,
            "/".join(map(str, chain)),
            encode_labels(labels),
            now,
            now,
        )
        number = made.lastrowid
        assert number is not None
        self._refer(namespace, key, labels, parent)
        self._snapshotter.make(number, chain, kind)
        return Snapshot(number, key, kind, parent, chain, dict(labels), Usage(), now, now)

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """Raises Conflict for a committed one: it is shown by a view of it."""
        if snapshot.kind == COMMITTED:
            raise Conflict(f"requested snapshot {snapshot.key} not active: failed precondition")
        return self._snapshotter.mounts(snapshot.number, snapshot.chain, snapshot.kind)

    async def usage(self, snapshot: Snapshot) -> Usage:
        if snapshot.kind == COMMITTED:
            return snapshot.usage
        return await asyncio.to_thread(self._snapshotter.usage, snapshot.number)

    async def seal(self, namespace: str, name: str, key: str) -> tuple[Snapshot, Usage]:
        """The first half of a commit: check, then make the content durable."""
        snapshot = self._committable(namespace, name, key)
        return snapshot, await asyncio.to_thread(self._snapshotter.seal, snapshot.number)

    def commit(
        self, namespace: str, name: str, key: str, labels: Mapping[str, str], usage: Usage
    ) -> None:
        """The second half: the row. Within the caller's transaction; checks again."""
        snapshot = self._committable(namespace, name, key)
        kept = {**snapshot.labels, **labels}
        self._references.drop(self._node(namespace, key))
        self._references.forget_leases(self._node(namespace, key))
        self._metadata.execute(
            "UPDATE snapshots SET key = ?, kind = ?, labels = ?, size = ?, inodes = ?, updated = ?"
            " WHERE number = ?",
            name,
            COMMITTED,
            encode_labels(kept),
            usage.size,
            usage.inodes,
            now_ns(),
            snapshot.number,
        )
        self._refer(namespace, name, kept, snapshot.parent)

    def set_labels(self, namespace: str, key: str, labels: Mapping[str, str]) -> Snapshot:
        """Within the caller's transaction."""
        snapshot = self.stat(namespace, key)
        self._metadata.execute(
            "UPDATE snapshots SET labels = ?, updated = ? WHERE number = ?",
            encode_labels(labels),
            now_ns(),
            snapshot.number,
        )
        self._refer(namespace, key, labels, snapshot.parent)
        return self.stat(namespace, key)

    def remove(self, namespace: str, key: str) -> None:
        """Raises NotFound, and Conflict for one that is a parent. The row first, then the files."""
        snapshot = self.stat(namespace, key)
        if self._metadata.one(
            "SELECT 1 FROM snapshots"
            " WHERE snapshotter = ? AND namespace = ? AND parent = ? LIMIT 1",
            self.name,
            namespace,
            key,
        ):
            raise Conflict("cannot remove snapshot with child: failed precondition")
        with self._metadata.transaction():
            self._metadata.execute("DELETE FROM snapshots WHERE number = ?", snapshot.number)
            self._references.drop(self._node(namespace, key))
            self._references.forget_leases(self._node(namespace, key))
        self._snapshotter.remove(snapshot.number)

    def discard(self, namespace: str, key: str) -> None:
        """For the collector: `remove`, and gone or in use is done."""
        try:
            self.remove(namespace, key)
        except (NotFound, Conflict):
            pass

    def sweep_files(self) -> int:
        """Remove directories that no row knows; at start only. Returns how many."""
        rows = self._metadata.execute(
            "SELECT number FROM snapshots WHERE snapshotter = ?", self.name
        )
        orphans = self._snapshotter.numbers() - {number for (number,) in rows}
        for number in orphans:
            self._snapshotter.remove(number)
        return len(orphans)

    def _chain(self, namespace: str, parent: str) -> tuple[int, ...]:
        if not parent:
            return ()
        try:
            found = self.stat(namespace, parent)
        except NotFound:
            raise NotFound(f"parent snapshot {parent} does not exist: not found") from None
        if found.kind != COMMITTED:
            raise InvalidArgument(f'parent "{parent}" is not committed snapshot: invalid argument')
        return (found.number, *found.chain)

    def _committable(self, namespace: str, name: str, key: str) -> Snapshot:
        snapshot = self.stat(namespace, key)
        if snapshot.kind != ACTIVE:
            raise Conflict(f"snapshot {key} is not active: failed precondition")
        if name != key:
            self._refuse_taken(namespace, name)
        return snapshot

    def _refuse_taken(self, namespace: str, key: str) -> None:
        if self._metadata.one(
            "SELECT 1 FROM snapshots WHERE snapshotter = ? AND namespace = ? AND key = ?",
            self.name,
            namespace,
            key,
        ):
            raise AlreadyExists(f'snapshot "{key}": already exists')

    def _refer(self, namespace: str, key: str, labels: Mapping[str, str], parent: str) -> None:
        below = [(self.kind, parent)] if parent else []
        self._references.set(self._node(namespace, key), labels, below)

    def _node(self, namespace: str, key: str) -> Node:
        return Node(namespace, self.kind, key)


class AllSnapshots:
    """For the collector: the stores of all snapshotters as one."""

    def __init__(self, stores: Mapping[str, SnapshotStore]) -> None:
        self._stores = stores

    def discard(self, node: Node) -> None:
        store = self._stores.get(node.kind.removeprefix(SNAPSHOTS))
        if store is not None:
            store.discard(node.namespace, node.key)


def _snapshot(row: Any) -> Snapshot:
    number, key, kind, parent, chain, labels, size, inodes, created, updated = row
    ancestors = tuple(map(int, chain.split("/"))) if chain else ()
    usage = Usage(size, inodes)
    return Snapshot(
        number, key, kind, parent, ancestors, decode_labels(labels), usage, created, updated
    )
