"""The one metadata store: SQLite in WAL mode, one connection, used on the event loop.

    namespaces(name, labels)
    images(namespace, name | media_type, digest, size, annotations, labels, created, updated)
    containers(namespace, id | record, created, updated)       record: the encoded Container
    content(namespace, digest | size, labels, created, updated)   which blobs a namespace sees
    ingests(namespace, ref | number, total, expected, started)    blobs under way
    snapshots(number | snapshotter, namespace, key, kind, parent, chain, labels, size, inodes,
              created, updated)      chain: numbers of all ancestors, nearest first, "12/7/3"
    leases(namespace, id | labels, created)
    sandboxes(namespace, id | record)                          record: the encoded Sandbox
    refs(namespace, source_kind, source, target_kind, target)     who holds what: see references.py

Labels are JSON objects, times nanoseconds since 1970. Kinds of snapshot are numbered as in
containerd's API (1 view, 2 active, 3 committed).

Statements are point queries of microseconds, so they run on the loop; what reads everything reads
it in slices. A commit does not wait for the disk: `durable` does, in a thread, for what a user was
promised to keep. After a power cut the database is whole, at most the last moments are missing,
and files without rows are swept at start.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from barque.errors import BarqueError, Conflict, DataLoss, ResourceExhausted

VERSION = 1
CHECKPOINT_BYTES = 4 << 20  # of the log's file: then it is moved
LOG_BYTES = 1 << 20  # that file's, once its log was moved and begins anew
RESERVE_BYTES = 1 << 20
SOON_S = 0.05
MOVES = 5  # tries to catch up with what is committed meanwhile

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (
    namespace TEXT NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, annotations TEXT NOT NULL, labels TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (namespace, name)
) WITHOUT ROWID;
CREATE INDEX images_by_digest ON images (namespace, digest);
CREATE TABLE containers (
    namespace TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (namespace, id)
);
CREATE TABLE content (
    namespace TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (namespace, digest)
) WITHOUT ROWID;
CREATE INDEX content_by_digest ON content (digest);
CREATE TABLE ingests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, ref TEXT NOT NULL,
    total INTEGER NOT NULL, expected TEXT NOT NULL, started INTEGER NOT NULL,
    UNIQUE (namespace, ref)
);
CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY AUTOINCREMENT, snapshotter TEXT NOT NULL, namespace TEXT NOT NULL,
    key TEXT NOT NULL, kind INTEGER NOT NULL, parent TEXT NOT NULL, chain TEXT NOT NULL,
    labels TEXT NOT NULL, size INTEGER NOT NULL, inodes INTEGER NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, UNIQUE (snapshotter, namespace, key)
);
CREATE INDEX snapshots_by_parent ON snapshots (snapshotter, namespace, parent);
CREATE TABLE leases (
    namespace TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL, created INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) WITHOUT ROWID;
CREATE TABLE refs (
    namespace TEXT NOT NULL, source_kind TEXT NOT NULL, source TEXT NOT NULL,
    target_kind TEXT NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY (namespace, source_kind, source, target_kind, target)
) WITHOUT ROWID;
CREATE INDEX refs_by_target ON refs (namespace, target_kind, target);
"""
# Came later: older programs do not look at it.
SANDBOXES = """
CREATE TABLE IF NOT EXISTS sandboxes (
    namespace TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (namespace, id)
);
"""


class Metadata:
    """The connection. `execute` reads; changes go into a `transaction`."""

    def __init__(self, path: Path) -> None:
        """Open or make the database. Raises DataLoss when `path` holds something else."""
        self._path = path
        self._reserve = f"{path}-reserve"
        self._sync: asyncio.Task[None] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._one_at_a_time = asyncio.Lock()
        try:
            self._db = _connect(path)
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise DataLoss(f"{path} is not a metadata database: {error}") from error
        # SQLite's log is there from its first read to its close.
        self._log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._keep_reserve()

    def _prepare(self) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found == 0:
            self._db.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        elif found != VERSION:
            raise Conflict(f"{self._path} has schema version {found}, this program knows {VERSION}")
        self._db.execute(SANDBOXES)

    def close(self) -> None:
        self._db.close()
        os.close(self._log)

    @property
    def changes(self) -> int:
        """Grows with every change: where it is as it was, so is all that is kept."""
        return self._db.total_changes

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._db.execute(statement, values)

    def one(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row, or None."""
        row: tuple[Any, ...] | None = self._db.execute(statement, values).fetchone()
        return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is executed within, or nothing of it. Must not hold an await.

        Raises ResourceExhausted on a full disk, and gives up the reserve: what follows will not
        fail, so that things can be removed to make room.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # a full or broken disk may have rolled back already
                self._db.execute("ROLLBACK")
            if not isinstance(error, sqlite3.OperationalError):
                raise
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise BarqueError(f"metadata {self._path}: {error}") from error
            with suppress(FileNotFoundError):
                os.unlink(self._reserve)
            raise ResourceExhausted("no space left on device: the metadata did not fit") from error

    def _keep_reserve(self) -> None:
        """Room set aside for the log of removals on a full disk. Any thread; best effort."""
        with suppress(OSError):
            room = os.statvfs(self._path)
            if os.path.exists(self._reserve) or room.f_bavail * room.f_frsize < 2 * RESERVE_BYTES:
                return
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)

    def ensure_namespace(self, name: str) -> None:
        """A namespace comes into being with the first thing in it, as containerd's do."""
        self._db.execute("INSERT OR IGNORE INTO namespaces VALUES (?, '{}')", (name,))

    async def durable(self) -> None:
        """Returns when everything committed so far would survive a power cut.

        Raises BarqueError when the disk does not take it; what was committed is there until then.

        Callers that come while the disk is busy share the next write to it.
        """
        if self._soon is not None:  # nobody waits for what is done sometime soon
            self._soon.cancel()
            self._soon = None
        if self._sync is None:
            self._begin_sync()
        assert self._sync is not None
        await asyncio.shield(self._sync)

    def durable_soon(self) -> None:
        """`durable` in the background: for what can be made again, on the road of a start."""
        if self._sync is None and self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(SOON_S, self._begin_sync)

    def _begin_sync(self) -> None:
        self._soon = None
        self._sync = asyncio.create_task(self._sync_once())
        self._sync.add_done_callback(_log_failure)

    async def _sync_once(self) -> None:
        async with self._one_at_a_time:
            self._sync = None
            await asyncio.to_thread(self._write_through)

    def _write_through(self) -> None:
        self._keep_reserve()
        try:
            os.fdatasync(self._log)
        except OSError as error:
            # What the kernel failed to write it forgets: only another copy can be written through.
            log.error("log of the metadata cannot be synced, moving it: %s", error)
            if not any(self.checkpoint() for _ in range(MOVES)):
                raise BarqueError(f"metadata {self._path}: {error}") from error
        if os.fstat(self._log).st_size > CHECKPOINT_BYTES:
            try:
                self.checkpoint()
            except BarqueError as error:
                log.error("%s", error)  # the log has it all

    def checkpoint(self) -> bool:
        """Move what the log holds into the database file, and sync that. Any thread.

        Whether all was moved: not what is committed meanwhile. Raises BarqueError.
        """
        try:
            with closing(_connect(self._path)) as own:
                _, held, moved = own.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise BarqueError(f"metadata {self._path}: {error}") from error
        return bool(held == moved)


def _log_failure(sync: asyncio.Task[None]) -> None:
    if not sync.cancelled() and (error := sync.exception()) is not None:
        log.error("metadata is not on the disk: %s", error)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    # The log is synced by `durable` and moved by `checkpoint`, never by a commit on the loop.
    for setting in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "wal_autocheckpoint = 0",
        f"journal_size_limit = {LOG_BYTES}",
        "busy_timeout = 5000",
    ):
        db.execute(f"PRAGMA {setting}")
    return db


def now_ns() -> int:
    return time.time_ns()


def encode_labels(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels)) if labels else "{}"


def decode_labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = json.loads(text) if text != "{}" else {}
    return labels


def placeholders(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
