"""The volumes service: named and anonymous volumes, and which containers use them.

A volume is used from the creation of a container to its removal, and mounted while one of them
runs. Facts are rows; data is in directories of the driver. The directory is made before the row and
taken away (in one step) before the row goes, so a row without its directory is a removal that broke
off.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.networks.filters import check_keys, dangling_wanted
from barque.daemon.volumes.records import (
    ANONYMOUS_LABEL,
    LIST_KEYS,
    LOCAL,
    PRUNE_KEYS,
    VolumeRecord,
    label_filters,
    matches,
    new_record,
    parse_create,
)
from barque.oci.id_maps import IdMap, IdMaps
from barque.volume import plugins, subpath
from barque.volume.local import LocalVolumes
from barque.volume.options import MountPlan, read_only_plan

READER = "copy-"  # how those are called that read a volume to copy it

log = logging.getLogger(__name__)


class Volumes:
    """`subpaths` is where parts of volumes are mounted for containers that run."""

    def __init__(
        self, database: Database, events: Events, local: LocalVolumes, subpaths: Path
    ) -> None:
        self._database = database
        self._events = events
        self._local = local
        self._subpaths = subpaths
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._mounted: defaultdict[str, set[str]] = defaultdict(set)  # volume -> who runs with it

    # -- containers

    async def reserve(
        self,
        name: str,
        container_id: str,
        *,
        anonymous: bool = False,
        driver: str = LOCAL,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """The volume exists, made if need be, and the container uses it from now on."""
        async with self._locks[name]:
            record = self._find(name)
            made = record is None
            if record is None:
                if anonymous:
                    labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
                record = new_record(
                    name,
                    driver or LOCAL,
                    labels or None,
                    options or None,
                    made_for=container_id if anonymous else "",
                )
                await self._make(record)
            with self._database.transaction() as tx:
                if made:
                    tx.execute("INSERT INTO volumes VALUES (?, ?)", (name, record.dump()))
                tx.execute("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", (name, container_id))
        if made:
            self._events.publish("volume", "create", name, {"driver": record.driver})

    async def _make(self, record: VolumeRecord) -> None:
        if record.driver == LOCAL:
            await asyncio.to_thread(self._local.create, record.name, record.size)
            return
        try:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            await asyncio.to_thread(plugin.create, record.name, record.options or {})
        except errors.BarqueError as error:
            raise type(error)(f"create {record.name}: {error}") from error

    async def mount(self, name: str, container_id: str, part: str = "") -> str:
        """The host path of the data of a volume that `container_id` uses and is to run with.

        `part` is a path inside. Undone by `unmount`. Raises NotFound, BarqueError.
        """
        async with self._locks[name]:
            record = self._get(name)
            self._mounted[name].add(container_id)
            path = await self._mount(record, container_id)
            self._tell("mount", record, container_id)
            if not part:
                return path
            target = (
                self._subpaths
                / container_id
                / hashlib.sha256(f"{name}/{part}".encode()).hexdigest()[:16]
            )
            await asyncio.to_thread(subpath.unbind, target)
            await asyncio.to_thread(subpath.bind, path, part, target)
            return str(target)

    async def mount_layers(
        self, container_id: str, place: str, layers: Sequence[str], part: str = ""
    ) -> str:
        """The host path of the merged `layers` (directories, top first), or of `part` of them.

        Read-only; `place` tells it from others of the container. Undone by `unmount`.
        """
        directory = self._subpaths / container_id
        target, inner = (
            directory / f"{kind}-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
            for kind in ("image", "part")
        )
        await asyncio.to_thread(subpath.unbind, target)
        await asyncio.to_thread(subpath.merge, layers, target)
        if not part:
            return str(target)
        await asyncio.to_thread(subpath.unbind, inner)
        await asyncio.to_thread(subpath.bind, str(target), part, inner)
        return str(inner)

    def _tell(self, action: str, record: VolumeRecord, container_id: str) -> None:
        attributes = {"container": container_id, "driver": record.driver}
        self._events.publish("volume", action, record.name, attributes)

    async def _mount(self, record: VolumeRecord, user: str) -> str:
        if record.driver != LOCAL:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            return await asyncio.to_thread(plugin.mount, record.name, user)
        if not self._local.exists(record.name):
            raise errors.NotFound(f"get {record.name}: no such volume: its directory is gone")
        plan = self._plan(record)
        if plan is not None:
            await asyncio.to_thread(self._local.mount, record.name, plan)
        return str(self._local.data_path(record.name))

    def _plan(self, record: VolumeRecord) -> MountPlan | None:
        """What is mounted on the volume's data while it is used; None for nothing."""
        if record.read_only:
            return read_only_plan(str(self._local.data_path(record.name)))
        return record.plan

    async def unmount(self, container_id: str) -> None:
        """The container does not run any more. Safe to call twice."""
        directory = self._subpaths / container_id
        if directory.is_dir():
            await asyncio.to_thread(self._unbind_parts, directory)
        for name in [name for name, users in self._mounted.items() if container_id in users]:
            async with self._locks[name]:
                self._mounted[name].discard(container_id)
                record = self._find(name)
                if record is not None:
                    await self._unmount(record, container_id)
                    self._tell("unmount", record, container_id)
                if not self._mounted[name]:
                    del self._mounted[name]

    async def _unmount(self, record: VolumeRecord, user: str) -> None:
        """Of a plugin every use ends; a mount of ours with the last one."""
        if record.driver != LOCAL:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            await asyncio.to_thread(plugin.unmount, record.name, user)
        elif self._plan(record) is not None and not self._mounted.get(record.name):
            await asyncio.to_thread(self._local.unmount, record.name)

    # -- copies: see copies

    @asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator[str]:
        """The path of the volume's data, which stays mounted and there meanwhile."""
        reader = f"{READER}{secrets.token_hex(8)}"
        async with self._locks[name]:
            record = self._get(name)
            self._mounted[name].add(reader)
            try:
                path = await self._mount(record, reader)
            except BaseException:
                self._mounted[name].discard(reader)
                raise
        try:
            yield path
        finally:
            async with self._locks[name]:
                self._mounted[name].discard(reader)
                await self._unmount(record, reader)
                if not self._mounted[name]:
                    del self._mounted[name]

    def stage(self, size: int = 0) -> Path:
        """A directory to be filled: `_data` in it becomes a volume's, with the limit `size`."""
        return self._local.stage(size)

    def quota_of(self, name: str) -> dict[str, str]:
        """The option of the volume that limits what it holds; {} for none."""
        record = self._find(name)
        options = (record.options or {}) if record and record.driver == LOCAL else {}
        return {"size": options["size"]} if options.get("size") else {}

    async def discard_staged(self, staged: Path) -> None:
        with suppress(errors.BarqueError):
            await asyncio.to_thread(self._local.delete, staged)

    def known(self, name: str) -> bool:
        return self._find(name) is not None

    async def adopt(self, record: VolumeRecord, staged: Path) -> dict[str, Any]:
        """A new volume with what is in `staged`. Raises Conflict when there is one."""
        name = record.name
        async with self._locks[name]:
            self.refuse_known(name)
            with self._database.transaction() as tx:
                tx.execute("INSERT INTO volumes VALUES (?, ?)", (name, record.dump()))
            try:
                await asyncio.to_thread(self._local.install, staged, name)
            except BaseException:
                self._forget(name)
                raise
        self._events.publish("volume", "create", name, {"driver": record.driver})
        return self._document(record)

    def refuse_known(self, name: str) -> None:
        if self.known(name):
            raise errors.Conflict(f"create {name}: conflict: volume name must be unique")

    async def replace(self, name: str, staged: Path) -> dict[str, Any]:
        """The volume has what is in `staged`, which gets what it had; see `check_replaceable`."""
        async with self._locks[name]:
            record = self.check_replaceable(name)
            await asyncio.to_thread(self._local.swap, staged, name)
        return self._document(record)

    def check_replaceable(self, name: str) -> VolumeRecord:
        """Raises NotFound, Conflict, Unsupported for one whose data cannot be exchanged now."""
        record = self._get(name)
        if record.driver != LOCAL or record.plan is not None:
            raise errors.Unsupported(
                f"restore {name}: what its driver mounts cannot be exchanged: restore another "
                "volume and copy from it"
            )
        if record.read_only:
            raise errors.Conflict(f"restore {name}: it is a snapshot, which never changes")
        if self._mounted.get(name):
            users = ", ".join(sorted(self._mounted[name]))
            raise errors.Conflict(f"restore {name}: volume is mounted - [{users}]")
        inside = self._local.mounted_inside(name)
        if inside is not None:
            raise errors.Conflict(f"restore {name}: something is mounted on {inside}")
        return record

    def _unbind_parts(self, directory: Path) -> None:
        for target in list(directory.iterdir()):
            subpath.unbind(target)
        with suppress(OSError):
            directory.rmdir()

    async def populate(
        self, name: str, layers: Sequence[str], path: str, maps: IdMaps | None = None
    ) -> bool:
        """Copy directory `path` of the image in `layers` (directories, top first) into the volume.

        Only into one that is empty; whether anything was copied. See `LocalVolumes.populate`.
        """
        ids = {"uids": _turned(maps.uids), "gids": _turned(maps.gids)} if maps else None
        async with self._locks[name]:
            record = self._get(name)
            if self._plan(record) is None:
                return await asyncio.to_thread(self._local.populate, record.name, layers, path, ids)
            await self._mount(record, "")
            try:
                return await asyncio.to_thread(self._local.populate, record.name, layers, path, ids)
            finally:
                await self._unmount(record, "")

    def is_untouched(self, name: str) -> bool:
        """Whether `populate` may still copy something into the volume."""
        record = self._get(name)
        if record.driver != LOCAL or record.read_only:
            return False
        return record.plan is not None or self._local.is_untouched(record.name)

    def data_path(self, name: str) -> str:
        """Where the data of a volume is on the host; "" for one that is not known."""
        record = self._find(name)
        if record is None or record.driver != LOCAL:
            return ""
        return str(self._local.data_path(record.name))

    async def size_bytes(self, name: str) -> int:
        """What its files take on the disk; -1 for a volume that is not ours to look into."""
        record = self._find(name)
        if record is None or record.driver != LOCAL or record.plan is not None:
            return -1
        return await asyncio.to_thread(self._local.size_bytes, name)

    async def release(self, container_id: str) -> None:
        """The container uses no volume any more. Safe to call twice."""
        if not self._database.one(
            "SELECT 1 FROM volume_uses WHERE container = ? LIMIT 1", container_id
        ):
            return
        await self.unmount(container_id)
        with self._database.transaction(durable=False) as tx:
            tx.execute("DELETE FROM volume_uses WHERE container = ?", (container_id,))

    async def restore(self, containers: Iterable[str], running: Iterable[str] = ()) -> None:
        """At start, with the ids of all containers there are: finish what a crash broke off.

        What is mounted for containers that do not run any more is unmounted.
        """
        known, alive = set(containers), set(running)
        rows = self._database.query("SELECT DISTINCT container FROM volume_uses")
        for (container_id,) in rows:
            if container_id not in known:
                await self.release(container_id)
        await self._restore_mounts(alive)
        for record in self._all():
            if record.driver != LOCAL:
                continue
            if not self._local.exists(record.name):
                self._forget(record.name)  # its removal had begun
            elif record.made_for and record.made_for not in known and not self.users(record.name):
                await self.remove(record.name)
        for name in self._local.sweep(record.name for record in self._all()):
            log.warning("directory %s of no known volume is left alone", name)

    async def _restore_mounts(self, alive: set[str]) -> None:
        for name, user in self._database.query("SELECT volume, container FROM volume_uses"):
            if user in alive:
                self._mounted[name].add(user)
        for record in self._all():
            if self._plan(record) is not None and not self._mounted.get(record.name):
                await asyncio.to_thread(self._local.unmount, record.name)
        if self._subpaths.is_dir():
            for directory in [d for d in self._subpaths.iterdir() if d.name not in alive]:
                await asyncio.to_thread(self._unbind_parts, directory)

    # -- the API

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a volume, or find the one that has the name; returns the API's Volume.

        Raises InvalidArgument, Conflict, NotFound, Unsupported.
        """
        record = parse_create(body)
        async with self._locks[record.name]:
            found = self._find(record.name)
            if found is not None:
                if _differs(record, found):
                    raise errors.Conflict(
                        f"create {record.name}: conflict: volume name must be unique"
                    )
                return self._document(found)
            await self._make(record)
            with self._database.transaction() as tx:
                tx.execute("INSERT INTO volumes VALUES (?, ?)", (record.name, record.dump()))
        self._events.publish("volume", "create", record.name, {"driver": record.driver})
        return self._document(record)

    async def inspect(self, name: str) -> dict[str, Any]:
        """The API's Volume, with what its plugin says. Raises NotFound."""
        record = self._get(name)
        document = self._document(record)
        if record.driver != LOCAL:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            told = await asyncio.to_thread(plugin.get, name)
            document["Mountpoint"] = told.get("Mountpoint") or ""
            document["Status"] = told.get("Status") or {}
            document["Scope"] = await asyncio.to_thread(plugin.scope)
        return document

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

    def _readers(self, name: str) -> list[str]:
        return [user for user in self._mounted.get(name, ()) if user.startswith(READER)]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove an unused volume with its data. Raises NotFound, Conflict.

        With `force` one that is not there is no failure, and what its plugin does not remove is
        forgotten, and the plugin's words are raised.
        """
        async with self._locks[name]:
            record = self._find(name)
            if record is None:
                if force:
                    return
                raise errors.NotFound(f"get {name}: no such volume")
            users = [*self.users(name), *self._readers(name)]
            if users:
                raise errors.Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            try:
                removed = await self._discard(record)
            except errors.BarqueError:
                if force and record.driver != LOCAL:
                    self._forget(name)
                raise
            self._forget(name)
        self._locks.pop(name, None)
        if removed is not None:
            await asyncio.to_thread(self._local.delete, removed)
        self._events.publish("volume", "destroy", name, {"driver": record.driver})

    async def _discard(self, record: VolumeRecord) -> Path | None:
        """Take the volume away in one step; what is then to be deleted."""
        if record.driver != LOCAL:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            await asyncio.to_thread(plugin.remove, record.name)
            return None
        if self._plan(record) is not None:
            await asyncio.to_thread(self._local.unmount, record.name)
        inside = self._local.mounted_inside(record.name)
        if inside is not None:
            raise errors.Conflict(f"remove {record.name}: something is mounted on {inside}")
        return await asyncio.to_thread(self._local.discard, record.name)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> tuple[list[str], int]:
        """Remove unused volumes: anonymous ones, with `all` every one. Names and bytes freed."""
        check_keys(filters, PRUNE_KEYS)
        everything = "all" in filters and dangling_wanted(filters["all"])
        removed: list[str] = []
        freed = 0
        for record in self._all():
            if not (everything or record.is_anonymous) or not label_filters(record, filters):
                continue
            if self.users(record.name):
                continue
            size = max(0, await self.size_bytes(record.name))
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
            "Mountpoint": self.data_path(record.name),
            "Name": record.name,
            "Options": None if record.options is None else dict(record.options),
            "Scope": "local",
        }


def _differs(wanted: VolumeRecord, found: VolumeRecord) -> bool:
    """Whether a request for a volume that is there asks for another kind."""
    if wanted.driver != found.driver:
        return True
    return bool(wanted.options) and dict(wanted.options or {}) != dict(found.options or {})


def _turned(ids: IdMap) -> str:
    """For a mount on which an image's ids are written as those of a remapped container."""
    return "".join(f"{host} {inside} {size}\n" for inside, host, size in ids.ranges)
