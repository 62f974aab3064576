"""Who keeps what from being collected: the edges of containerd's garbage graph, kept as rows.

    image      -> content                    its target
    container  -> snapshot                   its root filesystem
    snapshot   -> snapshot                   its parent
    lease      -> content, snapshot, ingest  what is held while the lease lives
    any label  -> see LABELS below
    root       -> itself                     label containerd.io/gc.root

Source: containerd, docs/garbage-collection.md. A node with no edge to it is garbage; as every edge
is a row, "is it garbage" is one point query at any time, and nothing need be marked. What is no
longer held is remembered in `released` until the collector has looked at it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from barque.containerd.metadata import Metadata

CONTENT = "content"
INGEST = "ingests"
SNAPSHOTS = "snapshots/"  # followed by the snapshotter's name, as lease resources are written

ROOT_LABEL = "containerd.io/gc.root"
EXPIRE_LABEL = "containerd.io/gc.expire"
CONTENT_LABEL = "containerd.io/gc.ref.content"
SNAPSHOT_LABEL = "containerd.io/gc.ref.snapshot."


class Node(NamedTuple):
    namespace: str
    kind: str
    key: str


class References:
    """The edges. Changes are made within the caller's transaction."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self.released: dict[Node, float] = {}  # and when, on the monotonic clock

    def set(
        self,
        source: Node,
        labels: Mapping[str, str],
        also: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Make the edges from `source` exactly those of its labels and `also` (kind, key)."""
        wanted = {*edges_of_labels(labels), *also}
        if ROOT_LABEL in labels:
            wanted.add((source.kind, source.key))
        present = set(
            self._metadata.execute(
                "SELECT target_kind, target FROM refs"
                " WHERE namespace = ? AND source_kind = ? AND source = ?",
                *source,
            )
        )
        for target in wanted - present:
            self.add(source, *target)
        for target in present - wanted:
            self.remove(source, *target)

    def add(self, source: Node, kind: str, key: str) -> None:
        self._metadata.execute(
            "INSERT OR IGNORE INTO refs VALUES (?, ?, ?, ?, ?)", *source, kind, key
        )

    def remove(self, source: Node, kind: str, key: str) -> None:
        self._metadata.execute(
            "DELETE FROM refs WHERE namespace = ? AND source_kind = ? AND source = ?"
            " AND target_kind = ? AND target = ?",
            *source,
            kind,
            key,
        )
        self.release(Node(source.namespace, kind, key))

    def drop(self, source: Node) -> None:
        """`source` is gone: so are its edges."""
        gone = self._metadata.execute(
            "DELETE FROM refs WHERE namespace = ? AND source_kind = ? AND source = ?"
            " RETURNING target_kind, target",
            *source,
        )
        for kind, key in gone.fetchall():
            self.release(Node(source.namespace, kind, key))

    def release(self, node: Node) -> None:
        """Something that may be garbage now, for the collector to look at."""
        self.released[node] = time.monotonic()

    def forget_leases(self, target: Node) -> None:
        """`target` is no more what leases hold: its name is free for something else."""
        self._metadata.execute(
            "DELETE FROM refs WHERE namespace = ? AND target_kind = ? AND target = ?"
            " AND source_kind = 'lease'",
            *target,
        )

    def held(self, target: Node) -> bool:
        return (
            self._metadata.one(
                "SELECT 1 FROM refs WHERE namespace = ? AND target_kind = ? AND target = ? LIMIT 1",
                *target,
            )
            is not None
        )

    def of(self, source: Node) -> list[tuple[str, str]]:
        """What `source` holds, as (kind, key)."""
        return self._metadata.execute(
            "SELECT target_kind, target FROM refs"
            " WHERE namespace = ? AND source_kind = ? AND source = ?",
            *source,
        ).fetchall()


def edges_of_labels(labels: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """The targets that garbage-collection labels name, as (kind, key).

    `containerd.io/gc.ref.content[.|/anything]`, `containerd.io/gc.ref.snapshot.NAME[.|/anything]`.
    """
    for label, value in labels.items():
        if label.startswith(CONTENT_LABEL) and label[len(CONTENT_LABEL) :][:1] in ("", ".", "/"):
            yield CONTENT, value
        elif label.startswith(SNAPSHOT_LABEL):
            rest = label[len(SNAPSHOT_LABEL) :]
            end = min((rest.find(mark) % (len(rest) + 1) for mark in "./"), default=len(rest))
            yield SNAPSHOTS + rest[:end], value
