"""The database: transactions, reopening, refusing what it does not know."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from barque.containerd.metadata import CHECKPOINT_BYTES, Metadata
from barque.errors import Conflict, DataLoss


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "meta.db")

    def fail_halfway() -> None:
        with metadata.transaction():
            metadata.ensure_namespace("one")
            raise LookupError

    with pytest.raises(LookupError):
        fail_halfway()
    assert metadata.one("SELECT count(*) FROM namespaces") == (0,)
    with metadata.transaction():
        metadata.ensure_namespace("one")
        metadata.ensure_namespace("one")
    assert metadata.one("SELECT count(*) FROM namespaces") == (1,)
    metadata.close()


def test_what_is_durable_is_there_without_closing(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "meta.db")

    async def write() -> None:
        for name in ("a", "b", "c"):
            metadata.ensure_namespace(name)
        await asyncio.gather(*(metadata.durable() for _ in range(8)))

    asyncio.run(write())
    # A copy of the files as they are, as after a crash.
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("meta.db", "meta.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    again = Metadata(copy / "meta.db")
    assert again.one("SELECT count(*) FROM namespaces") == (3,)
    again.close()
    metadata.checkpoint()
    metadata.close()


def test_numbers_are_never_given_out_twice(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "meta.db")
    insert = (
        "INSERT INTO ingests (namespace, ref, total, expected, started) VALUES (?, ?, 0, '', 0)"
    )
    first = metadata.execute(insert, "n", "r").lastrowid
    metadata.execute("DELETE FROM ingests")
    second = metadata.execute(insert, "n", "r").lastrowid
    assert first is not None
    assert second is not None
    assert second > first
    metadata.close()


def test_something_else_in_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DataLoss, match="not a metadata database"):
        Metadata(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(Conflict, match="schema version 99"):
        Metadata(path)


def test_who_waits_for_the_disk_does_not_wait_for_a_later_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("barque.containerd.metadata.SOON_S", 3600.0)
    metadata = Metadata(tmp_path / "meta.db")

    async def write() -> None:
        metadata.durable_soon()
        await asyncio.wait_for(metadata.durable(), 60)
        await asyncio.gather(*(asyncio.wait_for(metadata.durable(), 60) for _ in range(3)))

    asyncio.run(write())
    metadata.close()


def test_a_log_that_was_moved_is_short_again(tmp_path: Path) -> None:
    """Its length is what says that it is to be moved: one that stays long is moved each time."""
    metadata = Metadata(tmp_path / "meta.db")
    log = tmp_path / "meta.db-wal"
    namespace = "INSERT INTO namespaces VALUES (?, ?)"
    for number in range(80):
        metadata.execute(namespace, f"large{number}", "x" * (CHECKPOINT_BYTES // 64))
    assert log.stat().st_size > CHECKPOINT_BYTES
    asyncio.run(metadata.durable())
    metadata.execute(namespace, "small", "{}")
    assert log.stat().st_size < CHECKPOINT_BYTES
    metadata.close()
