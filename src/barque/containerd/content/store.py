"""The content store: files under `blobs/`, and rows that say which namespace sees which.

A blob is written in this order: a file under `ingest/`, verify size and digest, fsync, rename into
`blobs/`, fsync the directory, then the row. A file without a row is garbage and swept at start; a
row without its file cannot come about. Bytes are kept once for all namespaces; a namespace sees a
blob when it wrote it, or named its digest when another had it ("shared" policy of containerd).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from barque.containerd.content.growth import Growth
from barque.containerd.content.ingest import Ingest
from barque.containerd.metadata import Metadata, decode_labels, encode_labels, now_ns
from barque.containerd.paths import ContentPaths
from barque.containerd.references import CONTENT, Node, References
from barque.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from barque.oci import digest as digests

INGEST_LIFETIME_NS = 24 * 3600 * 10**9
VERIFIED_MAX = 256  # blobs remembered to have been hashed a moment ago
SLICE_FILES = 64  # looked at in one turn of the event loop
UNCOMPRESSED_LABEL = "containerd.io/uncompressed"  # a layer's diff id: its bytes tell it, too
COLUMNS = "digest, size, labels, created, updated"


class Info(NamedTuple):
    """What is known of a blob, in one namespace."""

    digest: str
    size: int
    labels: dict[str, str]
    created_ns: int
    updated_ns: int


class ContentStore:
    def __init__(self, metadata: Metadata, references: References, paths: ContentPaths) -> None:
        self._metadata = metadata
        self._references = references
        self._paths = paths
        self._locked: dict[tuple[str, str], Ingest] = {}
        self._verified: dict[str, tuple[int, ...]] = {}
        self.changes = 0  # grows with every change of what a namespace sees, or of its labels
        self._landing: list[str] = []  # digests whose file is in its place, whose row is not yet
        for directory in (paths.blobs / "sha256", paths.ingests):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)

    # Committed blobs

    def info(self, namespace: str, digest: str) -> Info:
        """Raises NotFound when the namespace does not see the blob."""
        row = self._metadata.one(
            f"SELECT {COLUMNS} FROM content WHERE namespace = ? AND digest = ?", namespace, digest
        )
        if row is None:
            raise NotFound(f"content digest {digest}: not found")
        return _info(row)

    def all(self, namespace: str) -> Iterator[Info]:
        rows = self._metadata.execute(
            f"SELECT {COLUMNS} FROM content WHERE namespace = ? ORDER BY digest", namespace
        )
        return map(_info, rows)

    def open(self, namespace: str, digest: str) -> int:
        """A file descriptor to read the blob from; the caller closes it."""
        self.info(namespace, digest)
        return self.open_known(digest)

    def open_known(self, digest: str) -> int:
        """As `open`, of a blob that `info` has told of in the same turn of the loop."""
        return os.open(self._paths.blob(digest), os.O_RDONLY | os.O_CLOEXEC)

    def set_labels(self, namespace: str, digest: str, labels: Mapping[str, str]) -> Info:
        """Replace the labels of a blob. Within the caller's transaction."""
        self.info(namespace, digest)
        self.changes += 1
        self._metadata.execute(
            "UPDATE content SET labels = ?, updated = ? WHERE namespace = ? AND digest = ?",
            encode_labels(labels),
            now_ns(),
            namespace,
            digest,
        )
        self._references.set(Node(namespace, CONTENT, digest), labels)
        return self.info(namespace, digest)

    def delete(self, namespace: str, digest: str) -> None:
        """The namespace sees the blob no more; the last one takes the file along."""
        self.info(namespace, digest)
        self.changes += 1
        with self._metadata.transaction():
            self._metadata.execute(
                "DELETE FROM content WHERE namespace = ? AND digest = ?", namespace, digest
            )
            self._references.drop(Node(namespace, CONTENT, digest))
            self._references.forget_leases(Node(namespace, CONTENT, digest))
        if not self._exists(digest) and digest not in self._landing:
            _unlink(self._paths.blob(digest))

    def discard(self, node: Node) -> None:
        """For the collector: `delete`, and gone is done."""
        try:
            self.delete(node.namespace, node.key)
        except NotFound:
            pass

    def share(self, namespace: str, digest: str, labels: Mapping[str, str]) -> None:
        """Let `namespace` see a blob that another has. Within the caller's transaction."""
        row = self._metadata.one("SELECT size FROM content WHERE digest = ? LIMIT 1", digest)
        if row is None:
            raise NotFound(f"content digest {digest}: not found")
        self._insert(namespace, digest, row[0], labels)

    def size_anywhere(self, digest: str) -> int | None:
        """The size of a blob that some namespace has; None when none has it."""
        row = self._metadata.one("SELECT size FROM content WHERE digest = ? LIMIT 1", digest)
        return None if row is None else int(row[0])

    def has(self, namespace: str, digest: str) -> bool:
        return (
            self._metadata.one(
                "SELECT 1 FROM content WHERE namespace = ? AND digest = ?", namespace, digest
            )
            is not None
        )

    def _exists(self, digest: str) -> bool:
        return self.size_anywhere(digest) is not None

    # Blobs under way

    def begin(self, namespace: str, ref: str, total: int, expected: str) -> Ingest:
        """Take up the ingest `ref`, from where it was left or anew; one writer at a time.

        Raises Unavailable while another writes it, ResourceExhausted where `total` bytes have no
        room. `release` or `commit` or `abort` gives it up.
        """
        if expected:
            digests.parse(expected)
        if (namespace, ref) in self._locked:
            raise Unavailable(f"ref {ref} locked: unavailable")
        with self._metadata.transaction():
            self._metadata.ensure_namespace(namespace)
            self._metadata.execute(
                "INSERT INTO ingests (namespace, ref, total, expected, started)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (namespace, ref) DO UPDATE SET"
                " total = max(total, excluded.total),"
                " expected = iif(excluded.expected = '', expected, excluded.expected)",
                namespace,
                ref,
                total,
                expected,
                now_ns(),
            )
        ingest = self.find_ingest(namespace, ref)
        ingest.open()
        try:
            ingest.check_room()
        except ResourceExhausted:
            ingest.close()
            if not ingest.offset:
                self._forget(ingest)
            raise
        self._locked[namespace, ref] = ingest
        return ingest

    def release(self, ingest: Ingest) -> None:
        """Stop writing for now; what was written stays and can be taken up again."""
        ingest.close()
        self._unlock(ingest)

    def follow(self, namespace: str, ref: str) -> tuple[int, Growth]:
        """What another writes right now, to be read meanwhile; the caller closes the descriptor.

        Raises NotFound when nobody writes it, InvalidArgument for a digest other than by sha256.
        """
        ingest = self._locked.get((namespace, ref))
        if ingest is None:
            raise NotFound(f"ingest ref {ref}: nobody writes it: not found")
        growth = followed(ingest)
        return ingest.reader(), growth

    def find_ingest(self, namespace: str, ref: str) -> Ingest:
        """As its writer has it, or as the last one left it. Raises NotFound."""
        if (namespace, ref) in self._locked:
            return self._locked[namespace, ref]
        row = self._metadata.one(
            "SELECT number, total, expected, started FROM ingests WHERE namespace = ? AND ref = ?",
            namespace,
            ref,
        )
        if row is None:
            raise NotFound(f"ingest ref {ref}: not found")
        return self._ingest(namespace, ref, *row)

    def ingests(self, namespace: str) -> Iterator[Ingest]:
        rows = self._metadata.execute(
            "SELECT ref, number, total, expected, started FROM ingests WHERE namespace = ?"
            " ORDER BY ref",
            namespace,
        ).fetchall()
        return (
            self._locked.get((namespace, row[0])) or self._ingest(namespace, *row) for row in rows
        )

    def abort(self, namespace: str, ref: str) -> None:
        """Forget an ingest and its bytes; who writes it learns of it. Raises NotFound."""
        ingest = self.find_ingest(namespace, ref)
        ingest.aborted = True
        ingest.growth.give_up()
        self._unlock(ingest)
        self._forget(ingest)

    def add(self, ingest: Ingest, digest: str, size: int, labels: Mapping[str, str]) -> None:
        """The row of a verified ingest whose file lies in its place. Within a transaction.

        Raises AlreadyExists when the namespace sees the blob already.
        """
        self._metadata.execute("DELETE FROM ingests WHERE number = ?", ingest.number)
        self._insert(ingest.namespace, digest, size, labels)

    def remember(self, digest: str, facts: os.stat_result) -> None:
        """The file of these `facts` was hashed, on its way here, to be `digest`."""
        self._verified[digest] = _identity(facts)
        if len(self._verified) > VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]

    def verified(self, digest: str, fd: int) -> bool:
        """Whether the blob open as `fd` is the file that was hashed when it came, unchanged."""
        return self._verified.get(digest) == _identity(os.fstat(fd))

    def finish(self, ingest: Ingest) -> None:
        """After `add`, or when the bytes are there already: the ref is free."""
        ingest.abandon()
        self._unlock(ingest)
        self._forget(ingest)

    def _unlock(self, ingest: Ingest) -> None:
        """Another may have begun the ref anew, when this one was aborted."""
        if self._locked.get((ingest.namespace, ingest.ref)) is ingest:
            del self._locked[ingest.namespace, ingest.ref]

    @contextmanager
    def landing(self, digest: str) -> Iterator[str]:
        """The path a verified blob is renamed to, kept from deletion until its row is there."""
        self._landing.append(digest)
        try:
            yield self._paths.blob(digest)
        finally:
            self._landing.remove(digest)

    def _ingest(
        self, namespace: str, ref: str, number: int, total: int, expected: str, started: int
    ) -> Ingest:
        path = self._paths.ingest(number)
        return Ingest(namespace, ref, number, total, expected, started, path)

    def _insert(self, namespace: str, digest: str, size: int, labels: Mapping[str, str]) -> None:
        if self.has(namespace, digest):
            raise AlreadyExists(f"content {digest}: already exists")
        now = now_ns()
        self.changes += 1
        self._metadata.ensure_namespace(namespace)
        self._metadata.execute(
            "INSERT INTO content VALUES (?, ?, ?, ?, ?, ?)",
            namespace,
            digest,
            size,
            encode_labels(labels),
            now,
            now,
        )
        self._references.set(Node(namespace, CONTENT, digest), labels)

    def _forget(self, ingest: Ingest) -> None:
        self._metadata.execute("DELETE FROM ingests WHERE number = ?", ingest.number)
        _unlink(self._paths.ingest(ingest.number))

    # After a crash

    def forget_stale(self, now: int) -> None:
        """Drop ingests that nobody has written for `INGEST_LIFETIME_NS`; at start only."""
        rows = self._metadata.execute("SELECT namespace, ref FROM ingests").fetchall()
        for namespace, ref in rows:
            ingest = self.find_ingest(namespace, ref)
            if ingest.updated_ns < now - INGEST_LIFETIME_NS:
                self._forget(ingest)

    async def sweep_files(self) -> int:
        """Remove files that no row knows, in slices of the event loop. Returns how many."""
        removed = 0
        for algorithm in os.listdir(self._paths.blobs):
            directory = f"{self._paths.blobs}/{algorithm}"
            async for names in _slices(directory):
                removed += sum(self._sweep_blob(directory, algorithm, name) for name in names)
        async for names in _slices(str(self._paths.ingests)):
            removed += sum(map(self._sweep_ingest, names))
        return removed

    def _sweep_blob(self, directory: str, algorithm: str, name: str) -> bool:
        digest = f"{algorithm}:{name}"
        if digest in self._landing or (digests.is_valid(digest) and self._exists(digest)):
            return False
        _unlink(f"{directory}/{name}")
        return True

    def _sweep_ingest(self, name: str) -> bool:
        """The row comes before the file."""
        if name.isdecimal() and self._metadata.one(
            "SELECT 1 FROM ingests WHERE number = ?", int(name)
        ):
            return False
        _unlink(f"{self._paths.ingests}/{name}")
        return True


def followed(ingest: Ingest) -> Growth:
    """What tells how it grows, for who reads it meanwhile. Raises InvalidArgument for a digest
    other than by sha256: what follows says that it has this one.
    """
    if ingest.expected and not ingest.expected.startswith("sha256:"):
        raise InvalidArgument(f"ingest ref {ingest.ref}: its digest is not by sha256")
    return ingest.growth


async def _slices(directory: str) -> AsyncIterator[list[str]]:
    """The names in a directory, some at a time; the event loop has turns in between."""
    names = await asyncio.to_thread(os.listdir, directory)
    for at in range(0, len(names), SLICE_FILES):
        yield names[at : at + SLICE_FILES]
        await asyncio.sleep(0)


def _info(row: Any) -> Info:
    digest, size, labels, created, updated = row
    return Info(digest, size, decode_labels(labels), created, updated)


def _identity(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
