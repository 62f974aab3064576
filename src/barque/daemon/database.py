"""The daemon's one database: SQLite in WAL mode, one connection, called from the event loop.

    meta(key, value)                               schema version, the engine's id
    containers(id, name, record, state)            record: what was asked for; state: what is so now
    networks(id, name, record)
    endpoints(container, network, record)          a container's place in a network
    addresses(network, address, container)         host-local allocation, released exactly once
    ports(proto, host_ip, host_port, container)    published ports
    volumes(name, record)
    volume_uses(volume, container)

Documents are JSON text. Statements are point queries of some microseconds, so they run on the loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from barque import errors

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE networks (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE endpoints (
    container TEXT NOT NULL, network TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (container, network)
) WITHOUT ROWID;
CREATE INDEX endpoints_by_network ON endpoints (network);
CREATE TABLE addresses (
    network TEXT NOT NULL, address TEXT NOT NULL, container TEXT NOT NULL,
    PRIMARY KEY (network, address)
) WITHOUT ROWID;
CREATE INDEX addresses_by_container ON addresses (container);
CREATE TABLE ports (
    proto TEXT NOT NULL, host_ip TEXT NOT NULL, host_port INTEGER NOT NULL, container TEXT NOT NULL,
    record TEXT NOT NULL, PRIMARY KEY (proto, host_ip, host_port)
) WITHOUT ROWID;
CREATE INDEX ports_by_container ON ports (container);
CREATE TABLE volumes (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE volume_uses (
    volume TEXT NOT NULL, container TEXT NOT NULL, PRIMARY KEY (volume, container)
) WITHOUT ROWID;
CREATE INDEX volume_uses_by_container ON volume_uses (container);
"""


class Database:
    """Every change is one transaction; a transaction is all there or not at all after any crash."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or make the database. Raises DataLoss for a file that is not ours or is damaged."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection, path)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise errors.DataLoss(f"database {path}: {error}") from error
        return cls(connection)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One change, committed at the end of the block, rolled back when it raises.

        `durable`: the commit is on the disk when the block ends (what the user was promised to
        keep). Otherwise it survives our death, but a power cut may take it (what can be derived
        again, such as the state of a running container). Must not be held over an await.
        """
        if durable:
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a disk that fails may have ended it
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise errors.ResourceExhausted(f"no space left on device: {error}") from error
            raise errors.BarqueError(f"database of the daemon: {error}") from error
        finally:
            if durable:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    def query(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, arguments).fetchall()

    def one(self, sql: str, *arguments: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(sql, arguments).fetchone()
        return row

    def close(self) -> None:
        self._connection.close()


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        connection.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        return
    (found,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if int(found) != SCHEMA_VERSION:
        raise errors.DataLoss(
            f"database {path} has schema {found}, this program knows {SCHEMA_VERSION}: "
            "use the version of Barque that made it"
        )
