"""Snapshots by key: their life, their chains, their rows. Directories are the snapshotter's.

    prepare(key, parent) --> ACTIVE --commit(name)--> COMMITTED, may be a parent of others
    view(key, parent)    --> VIEW (never changes)
    any of them          --remove--> gone, unless it is a parent

A key is free again once its snapshot was committed under a name. Parents are committed ones.
Source: containerd, core/snapshots. Rows are the truth: directories without one are swept at start.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from barque.containerd.metadata import Metadata, decode_labels, encode_labels, now_ns
from barque.containerd.references import SNAPSHOTS, Node, References
from barque.containerd.snapshots.remapping import GID_LABEL, UID_LABEL, ids_of
from barque.containerd.snapshots.snapshotter import (
    ACTIVE,
    APART,
    COMMITTED,
    REBASE,
    SIZE_LABEL,
    VIEW,
    Mount,
    Settles,
    Snapshotter,
    Usage,
)
from barque.containerd.threads import finished
from barque.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unsupported

SIZE_MAX = 1 << 62
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


class Made(NamedTuple):
    """What a slow snapshotter has made for a snapshot that has no row yet."""

    number: int
    chain: tuple[int, ...]


class Aside(NamedTuple):
    """A place like a snapshot's that is none: what is in it at the next start is swept."""

    number: int
    directory: str


class SnapshotStore:
    """All snapshots of one snapshotter, in all namespaces."""

    def __init__(
        self, metadata: Metadata, references: References, snapshotter: Snapshotter
    ) -> None:
        self._metadata = metadata
        self._references = references
        self._snapshotter = snapshotter
        self._above: Counter[int] = Counter()  # parents of what is being made
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
            f"SELECT {COLUMNS} FROM snapshots WHERE snapshotter = ? AND namespace = ? ORDER BY key",
            self.name,
            namespace,
        )
        return map(_snapshot, rows)

    @property
    def slow(self) -> bool:
        return self._snapshotter.slow

    @property
    def capabilities(self) -> tuple[str, ...]:
        return self._snapshotter.capabilities

    @asynccontextmanager
    async def ahead(
        self, namespace: str, key: str, parent: str, kind: int, labels: Mapping[str, str]
    ) -> AsyncIterator[Made | None]:
        """What `make` needs that takes time: for a slow snapshotter all on disk, else nothing.

        If the block fails it is removed again; its parent is not removed meanwhile.
        """
        if not self._snapshotter.slow:
            yield None
            return
        chain = self._chain(namespace, parent)
        self._refuse_taken(namespace, key)
        with self._metadata.transaction():
            number = self._next_number()
        self._above.update(chain[:1])
        try:
            wanted = (size_of(labels), ids_of(labels))
            work = partial(self._snapshotter.make, number, chain, kind, *wanted)
            await finished(None, work)
            yield Made(number, chain)
        except BaseException:
            self._snapshotter.remove(number)
            raise
        finally:
            self._above.subtract(chain[:1])

    def make(
        self,
        namespace: str,
        key: str,
        parent: str,
        kind: int,
        labels: Mapping[str, str],
        made: Made | None = None,
    ) -> Snapshot:
        """Prepare (ACTIVE) or view (VIEW). Within the caller's transaction.

        Raises AlreadyExists, NotFound for the parent, InvalidArgument for one not committed,
        Unsupported for a size that cannot be kept to.
        """
        assert kind in (ACTIVE, VIEW)
        chain = self._chain(namespace, parent)
        self._refuse_taken(namespace, key)
        size, ids = size_of(labels), ids_of(labels)
        if made is not None and made.chain != chain:
            raise NotFound(f"parent snapshot {parent} does not exist: not found")
        now = now_ns()
        self._metadata.ensure_namespace(namespace)
        row = self._metadata.execute(
            "INSERT INTO snapshots (number, snapshotter, namespace, key, kind, parent, chain,"
            " labels, size, inodes, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)",
            made.number if made else None,
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
        number = row.lastrowid
        assert number is not None
        self._refer(namespace, key, labels, parent)
        if made is None:
            self._snapshotter.make(number, chain, kind, size, ids)
        return Snapshot(number, key, kind, parent, chain, dict(labels), Usage(), now, now)

    def _next_number(self) -> int:
        """One that no row will get. Within the caller's transaction."""
        changed = self._metadata.execute(
            "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'snapshots'"
        )
        if changed.rowcount == 0:  # there was never a snapshot
            self._metadata.execute("INSERT INTO sqlite_sequence VALUES ('snapshots', 1)")
        row = self._metadata.one("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'")
        assert row is not None
        return int(row[0])

    def mounts(self, snapshot: Snapshot) -> list[Mount]:
        """Raises Conflict for a committed one: it is shown by a view of it."""
        if snapshot.kind == COMMITTED:
            raise Conflict(f"requested snapshot {snapshot.key} not active: failed precondition")
        ids = ids_of(snapshot.labels)
        return self._snapshotter.mounts(snapshot.number, snapshot.chain, snapshot.kind, ids)

    async def usage(self, snapshot: Snapshot) -> Usage:
        if snapshot.kind == COMMITTED:
            return snapshot.usage
        chain = snapshot.chain
        return await asyncio.to_thread(self._snapshotter.usage, snapshot.number, chain)

    def settles(self, snapshot: Snapshot) -> str:
        """The directory of one that may be made durable after its commit; "" for others."""
        if not isinstance(self._snapshotter, Settles) or ids_of(snapshot.labels) is not None:
            return ""
        return self._snapshotter.files(snapshot.number)

    def aside(self) -> Aside:
        """Of a snapshotter that has directories. `remove_aside` gives it up."""
        assert isinstance(self._snapshotter, Settles)
        with self._metadata.transaction():
            number = self._next_number()
        self._snapshotter.make(number, (), ACTIVE)
        return Aside(number, self._snapshotter.files(number))

    def remove_aside(self, aside: Aside) -> None:
        self._snapshotter.remove(aside.number)

    def has_directory(self, directory: str) -> bool:
        """Whether it is one that layers of these snapshots are applied onto."""
        if not isinstance(self._snapshotter, Settles):
            return False
        number = os.path.basename(os.path.dirname(directory))
        return number.isdecimal() and directory == self._snapshotter.files(int(number))

    def sync(self) -> None:
        if isinstance(self._snapshotter, Settles):
            self._snapshotter.sync()

    def renew(self, snapshot: Snapshot) -> list[Mount]:
        """Makes the place of a layer anew, which is to be unpacked again onto these mounts."""
        self._snapshotter.make(snapshot.number, snapshot.chain, ACTIVE)
        return self._snapshotter.mounts(snapshot.number, snapshot.chain, ACTIVE)

    async def seal(
        self, namespace: str, name: str, key: str, parent: str = "", *, durable: bool = True
    ) -> tuple[Snapshot, Usage]:
        """The first half of a commit: check, then make the content durable, if wanted.

        `parent` is for one that was made without (containerd's "rebase"). Raises Unsupported where
        the snapshotter has not that. Not `durable`: for one that `settles`.
        """
        snapshot = self.committable(namespace, name, key)
        chain = self._chain_at_commit(snapshot, namespace, parent)
        if isinstance(self._snapshotter, Settles) and not durable:
            work = partial(self._snapshotter.finish, snapshot.number, chain)
        else:
            rebased = chain != snapshot.chain
            work = partial(self._snapshotter.seal, snapshot.number, chain, rebased=rebased)
        self._above.update(chain[:1])
        try:
            return snapshot, await finished(None, work)
        finally:
            self._above.subtract(chain[:1])

    def _chain_at_commit(self, snapshot: Snapshot, namespace: str, parent: str) -> tuple[int, ...]:
        if not parent or parent == snapshot.parent:
            return snapshot.chain
        if snapshot.parent:
            raise InvalidArgument(
                f"snapshot {snapshot.key} has parent {snapshot.parent}, not {parent}"
            )
        if not {REBASE, APART}.intersection(self._snapshotter.capabilities):
            raise Unsupported(f"snapshotter {self.name} gives no parent to a snapshot at commit")
        return self._chain(namespace, parent)

    def commit(
        self,
        namespace: str,
        name: str,
        key: str,
        labels: Mapping[str, str],
        usage: Usage,
        parent: str = "",
    ) -> int:
        """The second half: the row, with these labels alone. Within a transaction; checks again.

        Returns the number, for `sealed`.
        """
        snapshot = self.committable(namespace, name, key)
        chain = self._chain_at_commit(snapshot, namespace, parent)
        now = now_ns()
        self._references.drop(self._node(namespace, key))
        self._references.forget_leases(self._node(namespace, key))
        self._metadata.execute(
            "UPDATE snapshots SET key = ?, kind = ?, parent = ?, chain = ?, labels = ?, size = ?,"
            " inodes = ?, created = ?, updated = ? WHERE number = ?",
            name,
            COMMITTED,
            parent or snapshot.parent,
            "/".join(map(str, chain)),
            encode_labels(labels),
            usage.size,
            usage.inodes,
            now,
            now,
            snapshot.number,
        )
        self._refer(namespace, name, labels, parent or snapshot.parent)
        return snapshot.number

    def sealed(self, number: int) -> None:
        """After the transaction of `commit`."""
        self._snapshotter.sealed(number)

    def set_labels(self, namespace: str, key: str, labels: Mapping[str, str]) -> Snapshot:
        """Within the caller's transaction. Raises InvalidArgument for other ids than it has."""
        snapshot = self.stat(namespace, key)
        if any(snapshot.labels.get(name) != labels.get(name) for name in (UID_LABEL, GID_LABEL)):
            raise InvalidArgument(
                f"snapshot {key}: the labels {UID_LABEL} and {GID_LABEL} cannot be changed"
            )
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
        if self._above[snapshot.number] or self._metadata.one(
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

    def wait(self) -> None:
        self._snapshotter.wait()

    def close(self) -> None:
        self._snapshotter.close()

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

    def committable(self, namespace: str, name: str, key: str) -> Snapshot:
        """Raises AlreadyExists for the name, NotFound and Conflict for the key."""
        if name != key:  # first: who commits again learns that it was done
            self._refuse_taken(namespace, name)
        snapshot = self.stat(namespace, key)
        if snapshot.kind != ACTIVE:
            raise Conflict(f"snapshot {key} is not active: failed precondition")
        shifted = ids_of(snapshot.labels) is not None
        if shifted and any(mount.type == "overlay" for mount in self.mounts(snapshot)):
            raise Unsupported(
                f"snapshot {key} is seen with other ids: what makes it from its parent can be a "
                "layer (diff), not the snapshot itself"
            )
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


def size_of(labels: Mapping[str, str]) -> int:
    """The bytes that a snapshot is bounded to; 0 for none. Raises InvalidArgument."""
    text = labels.get(SIZE_LABEL, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:20]) <= SIZE_MAX:
        raise InvalidArgument(f"label {SIZE_LABEL} is not a number of bytes: {text[:40]!r}")
    return int(text)


def _snapshot(row: Any) -> Snapshot:
    number, key, kind, parent, chain, labels, size, inodes, created, updated = row
    ancestors = tuple(map(int, chain.split("/"))) if chain else ()
    usage = Usage(size, inodes)
    return Snapshot(
        number, key, kind, parent, ancestors, decode_labels(labels), usage, created, updated
    )
