"""The volumes service: named and anonymous volumes, and which containers use them.

A volume is used from the creation of a container to its removal. Facts are rows; data is in
directories of the driver. The directory is made before the row and taken away (in one step) before
the row goes, so a row without its directory is a removal that broke off.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from barque import errors
from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.moments import rfc3339_now
from barque.daemon.network_filters import check_keys, dangling_wanted, label_matches
from barque.volume.local import LocalVolumes, check_name

log = logging.getLogger(__name__)

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
NAME_BYTES = 32
LIST_KEYS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_KEYS = frozenset({"label", "label!", "all"})


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    name: str
    created: str
    labels: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    made_for: str = ""  # the container whose creation made it without a name
    driver: str = field(default="local")

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> VolumeRecord:
        return cls(**json.loads(text))

    @property
    def is_anonymous(self) -> bool:
        return ANONYMOUS_LABEL in (self.labels or {})


class Volumes:
    def __init__(self, database: Database, events: Events, local: LocalVolumes) -> None:
        self._database = database
        self._events = events
        self._local = local
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # -- containers

    async def reserve(self, name: str, container_id: str, *, anonymous: bool = False) -> None:
        """The volume exists, made if need be, and the container uses it from now on."""
        async with self._locks[name]:
            record = self._find(name)
            made = record is None
            if record is None:
                record = self._make(name, container_id if anonymous else "")
            with self._database.transaction() as tx:
                if made:
                    tx.execute("INSERT INTO volumes VALUES (?, ?)", (name, record.dump()))
                tx.execute("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", (name, container_id))
        if made:
            self._events.publish("volume", "create", name, {"driver": record.driver})

    def _make(self, name: str, container_id: str) -> VolumeRecord:
        self._local.create(name)
        labels = {ANONYMOUS_LABEL: ""} if container_id else None
        return VolumeRecord(name, rfc3339_now(), labels, made_for=container_id)

    async def mount(self, name: str, container_id: str) -> str:
        """The host path of the data of a volume that `container_id` uses. Raises NotFound."""
        record = self._get(name)
        if not self._local.exists(record.name):
            raise errors.NotFound(f"get {name}: no such volume: its directory is gone")
        return str(self._local.data_path(record.name))

    async def populate(self, name: str, layers: Sequence[str], path: str) -> bool:
        """Copy directory `path` of the image in `layers` (directories, top first) into the volume.

        Only into one that is empty; whether anything was copied. See `LocalVolumes.populate`.
        """
        async with self._locks[name]:
            record = self._get(name)
            return await asyncio.to_thread(self._local.populate, record.name, layers, path)

    def is_untouched(self, name: str) -> bool:
        """Whether `populate` may still copy something into the volume."""
        return self._local.is_untouched(self._get(name).name)

    def data_path(self, name: str) -> str:
        """Where the data of a volume is on the host; "" for one that is not known."""
        record = self._find(name)
        return "" if record is None else str(self._local.data_path(record.name))

    def size_bytes(self, name: str) -> int:
        """What the volume holds. Blocks while it is walked."""
        return self._local.size_bytes(name)

    async def release(self, container_id: str) -> None:
        """The container uses no volume any more. Safe to call twice."""
        if not self._database.one(
            "SELECT 1 FROM volume_uses WHERE container = ? LIMIT 1", container_id
        ):
            return
        with self._database.transaction(durable=False) as tx:
            tx.execute("DELETE FROM volume_uses WHERE container = ?", (container_id,))

    async def restore(self, containers: Iterable[str]) -> None:
        """At start, with the ids of all containers there are: finish what a crash broke off."""
        known = set(containers)
        rows = self._database.query("SELECT DISTINCT container FROM volume_uses")
        for (container_id,) in rows:
            if container_id not in known:
                await self.release(container_id)
        for record in self._all():
            if not self._local.exists(record.name):
                self._forget(record.name)  # its removal had begun
            elif record.made_for and record.made_for not in known and not self.users(record.name):
                await self.remove(record.name)
        for name in self._local.sweep(record.name for record in self._all()):
            log.warning("directory %s of no known volume is left alone", name)

    # -- the API

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a volume, or find the one that has the name; returns the API's Volume.

        Raises InvalidArgument, Conflict, NotFound, Unsupported.
        """
        record = parse_create(body)
        async with self._locks[record.name]:
            found = self._find(record.name)
            if found is not None:
                if record.options and dict(record.options) != dict(found.options or {}):
                    raise errors.Conflict(
                        f"create {record.name}: conflict: volume name must be unique"
                    )
                return self._document(found)
            await asyncio.to_thread(self._local.create, record.name)
            with self._database.transaction() as tx:
                tx.execute("INSERT INTO volumes VALUES (?, ?)", (record.name, record.dump()))
        self._events.publish("volume", "create", record.name, {"driver": record.driver})
        return self._document(record)

    def inspect(self, name: str) -> dict[str, Any]:
        """The API's Volume. Raises NotFound."""
        return self._document(self._get(name))

    def summaries(self, filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """The API's Volumes that match, by name."""
        check_keys(filters, LIST_KEYS)
        used = {name for (name,) in self._database.query("SELECT volume FROM volume_uses")}
        return [
            self._document(record)
            for record in self._all()
            if matches(record, filters, in_use=record.name in used)
        ]

    def users(self, name: str) -> list[str]:
        """The ids of the containers that use the volume."""
        rows = self._database.query("SELECT container FROM volume_uses WHERE volume = ?", name)
        return [container_id for (container_id,) in rows]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove an unused volume with its data. Raises NotFound (not with `force`), Conflict."""
        async with self._locks[name]:
            record = self._find(name)
            if record is None:
                if force:
                    return
                raise errors.NotFound(f"get {name}: no such volume")
            users = self.users(name)
            if users:
                raise errors.Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            inside = self._local.mounted_inside(name)
            if inside is not None:
                raise errors.Conflict(f"remove {name}: something is mounted on {inside}")
            removed = await asyncio.to_thread(self._local.discard, name)
            self._forget(name)
        self._locks.pop(name, None)
        if removed is not None:
            await asyncio.to_thread(self._local.delete, removed)
        self._events.publish("volume", "destroy", name, {"driver": record.driver})

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> tuple[list[str], int]:
        """Remove unused volumes: anonymous ones, with `all` every one. Names and bytes freed."""
        check_keys(filters, PRUNE_KEYS)
        everything = "all" in filters and dangling_wanted(filters["all"])
        removed: list[str] = []
        freed = 0
        for record in self._all():
            if not (everything or record.is_anonymous) or not _label_filters(record, filters):
                continue
            if self.users(record.name):
                continue
            size = await asyncio.to_thread(self._local.size_bytes, record.name)
            try:
                await self.remove(record.name)
            except (errors.Conflict, errors.NotFound):  # came into use, or went, meanwhile
                continue
            removed.append(record.name)
            freed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return removed, freed

    def _find(self, name: str) -> VolumeRecord | None:
        row = self._database.one("SELECT record FROM volumes WHERE name = ?", name)
        return None if row is None else VolumeRecord.load(row[0])

    def _get(self, name: str) -> VolumeRecord:
        record = self._find(name)
        if record is None:
            raise errors.NotFound(f"get {name}: no such volume")
        return record

    def _all(self) -> list[VolumeRecord]:
        rows = self._database.query("SELECT record FROM volumes ORDER BY name")
        return [VolumeRecord.load(text) for (text,) in rows]

    def _forget(self, name: str) -> None:
        with self._database.transaction() as tx:
            tx.execute("DELETE FROM volumes WHERE name = ?", (name,))
            tx.execute("DELETE FROM volume_uses WHERE volume = ?", (name,))

    def _document(self, record: VolumeRecord) -> dict[str, Any]:
        return {
            "CreatedAt": record.created,
            "Driver": record.driver,
            "Labels": None if record.labels is None else dict(record.labels),
            "Mountpoint": str(self._local.data_path(record.name)),
            "Name": record.name,
            "Options": None if record.options is None else dict(record.options),
            "Scope": "local",
        }


def parse_create(body: Mapping[str, Any]) -> VolumeRecord:
    """POST /volumes/create as a record; without a name it is an anonymous one."""
    request = {key.lower(): value for key, value in body.items()}
    name = request.get("name") or ""
    driver = request.get("driver") or "local"
    if not isinstance(name, str) or not isinstance(driver, str):
        raise errors.InvalidArgument("invalid volume: Name and Driver must be strings")
    labels = _strings(request, "labels")
    options = _strings(request, "driveropts")
    if request.get("clustervolumespec"):
        raise errors.Unsupported("cluster volumes are not supported yet")
    if driver != "local":
        raise errors.NotFound(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
        )
    if options:
        raise errors.Unsupported(
            f"create {name}: option {min(options)} of the local volume driver is not supported yet"
        )
    if not name:
        labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
    return VolumeRecord(
        check_name(name) if name else secrets.token_hex(NAME_BYTES), rfc3339_now(), labels, options
    )


def _strings(request: Mapping[str, Any], key: str) -> dict[str, str] | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise errors.InvalidArgument(f"invalid volume: {key} must be an object of strings")
    return dict(value)


def matches(record: VolumeRecord, filters: Mapping[str, Sequence[str]], *, in_use: bool) -> bool:
    """Whether `volume ls` shows the volume."""
    if "dangling" in filters and dangling_wanted(filters["dangling"]) == in_use:
        return False
    if filters.get("driver") and record.driver not in filters["driver"]:
        return False
    if filters.get("name") and not any(part in record.name for part in filters["name"]):
        return False
    labels = record.labels or {}
    return all(label_matches(labels, wanted) for wanted in filters.get("label", ()))


def _label_filters(record: VolumeRecord, filters: Mapping[str, Sequence[str]]) -> bool:
    labels = record.labels or {}
    if not all(label_matches(labels, wanted) for wanted in filters.get("label", ())):
        return False
    return not any(label_matches(labels, wanted) for wanted in filters.get("label!", ()))
