"""The rows of volumes, and of the containers that use them."""

from __future__ import annotations

from collections.abc import Iterator

from barque.daemon.database import Database
from barque.daemon.volumes.records import VolumeRecord


class Rows:
    """The tables `volumes` and `volume_uses`. Used from the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> VolumeRecord | None:
        row = self._database.one("SELECT record FROM volumes WHERE name = ?", name)
        return None if row is None else VolumeRecord.load(row[0])

    def all(self) -> list[VolumeRecord]:
        """By name."""
        rows = self._database.query("SELECT record FROM volumes ORDER BY name")
        return [VolumeRecord.load(text) for (text,) in rows]

    def put(self, record: VolumeRecord, user: str = "") -> None:
        """Remember the volume, in the same transaction that `user` uses it."""
        with self._database.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO volumes VALUES (?, ?)", (record.name, record.dump()))
            if user:
                tx.execute("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", (record.name, user))

    def forget(self, name: str) -> None:
        with self._database.transaction() as tx:
            tx.execute("DELETE FROM volumes WHERE name = ?", (name,))
            tx.execute("DELETE FROM volume_uses WHERE volume = ?", (name,))

    # -- uses

    def use(self, name: str, user: str) -> None:
        with self._database.transaction() as tx:
            tx.execute("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", (name, user))

    def end_uses(self, user: str) -> None:
        """What is lost of this by a crash is found again at the next start."""
        with self._database.transaction(durable=False) as tx:
            tx.execute("DELETE FROM volume_uses WHERE container = ?", (user,))

    def users(self, name: str) -> list[str]:
        """The ids of the containers that use the volume."""
        rows = self._database.query("SELECT container FROM volume_uses WHERE volume = ?", name)
        return [user for (user,) in rows]

    def uses_any(self, user: str) -> bool:
        statement = "SELECT 1 FROM volume_uses WHERE container = ? LIMIT 1"
        return self._database.one(statement, user) is not None

    def used(self) -> set[str]:
        """The names of the volumes that any container uses."""
        return {name for (name,) in self._database.query("SELECT DISTINCT volume FROM volume_uses")}

    def all_users(self) -> set[str]:
        rows = self._database.query("SELECT DISTINCT container FROM volume_uses")
        return {user for (user,) in rows}

    def uses(self) -> Iterator[tuple[str, str]]:
        """Volume and container, of every use."""
        yield from self._database.query("SELECT volume, container FROM volume_uses")
