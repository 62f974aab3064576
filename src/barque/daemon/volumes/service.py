"""The volumes service: named and anonymous volumes, and which containers use them.

A volume is used from the creation of a container to its removal, and mounted while one of them
runs. Facts are rows; data is in directories of the driver. The directory is made before the row and
taken away (in one step) before the row goes, so a row without its directory is a removal that broke
off. A plugin's own volumes have no row until a container uses them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.networks.filters import check_keys, dangling_wanted
from barque.daemon.volumes import keepers
from barque.daemon.volumes.mounting import READER, Mounting
from barque.daemon.volumes.records import (
    ANONYMOUS_LABEL,
    LOCAL,
    PRUNE_KEYS,
    VolumeRecord,
    check_list,
    label_filters,
    matches,
    new_record,
    parse_create,
)
from barque.daemon.volumes.rows import Rows
from barque.oci.id_maps import IdMap, IdMaps
from barque.volume import plugins
from barque.volume.local import LocalVolumes, is_empty

log = logging.getLogger(__name__)


class Volumes:
    """`subpaths` is where parts of volumes are mounted for containers that run."""

    def __init__(
        self, database: Database, events: Events, local: LocalVolumes, subpaths: Path
    ) -> None:
        self._rows = Rows(database)
        self._events = events
        self._local = local
        self._mounting = Mounting(local, subpaths)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # -- containers

    async def reserve(
        self,
        name: str,
        container_id: str,
        *,
        anonymous: bool = False,
        driver: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """The volume exists, made if need be, and the container uses it from now on.

        Returns its driver; `driver` is asked for only where it is given. Raises Conflict.
        """
        async with self._locks[name]:
            record = self._rows.find(name) if anonymous else await self._seek(name, driver)
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
            _refuse_other_driver(record, driver)
            if self._rows.find(name) == record:
                self._rows.use(name, container_id)
            else:
                self._rows.put(record, container_id)
        if made:
            self._events.publish("volume", "create", name, {"driver": record.driver})
        return record.driver

    async def _make(self, record: VolumeRecord) -> None:
        if record.driver == LOCAL:
            await asyncio.to_thread(self._local.create, record.name, record.size)
            return
        try:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            await asyncio.to_thread(plugin.create, record.name, record.options or {})
        except errors.BarqueError as error:
            raise type(error)(f"create {record.name}: {error}") from error

    async def _seek(self, name: str, driver: str = "") -> VolumeRecord | None:
        """The volume that is known, or that a plugin (`driver`, or any) has made by itself.

        One that its plugin has lost is not there, unless a container uses it.
        """
        record = self._rows.find(name)
        if record is not None and (
            record.driver == LOCAL or self._rows.users(name) or await keepers.has(record)
        ):
            return record
        told = await keepers.find(name, driver) if driver != LOCAL else None
        return told.record if told else None

    async def mount(self, name: str, container_id: str, part: str = "") -> str:
        """The host path of the data of a volume that `container_id` uses and is to run with.

        `part` is a path inside. Undone by `unmount`. Raises NotFound, BarqueError.
        """
        async with self._locks[name]:
            record = self._get(name)
            self._mounting.join(name, container_id)
            path = await self._mounting.mount(record, container_id)
            self._tell("mount", record, container_id)
            if not part:
                return path
            return await self._mounting.bind_part(name, path, part, container_id)

    async def mount_layers(
        self,
        container_id: str,
        place: str,
        layers: Sequence[str],
        part: str = "",
        namespace: str = "",
    ) -> str:
        """The host path of the merged `layers` (directories, top first), or of `part` of them.

        Read-only; `place` tells it from others of the container; `namespace` is the path of a user
        namespace that the files' ids are of. Undone by `unmount`.
        """
        return await self._mounting.merge_layers(container_id, place, layers, part, namespace)

    def _tell(self, action: str, record: VolumeRecord, container_id: str) -> None:
        attributes = {"container": container_id, "driver": record.driver}
        self._events.publish("volume", action, record.name, attributes)

    async def unmount(self, container_id: str) -> None:
        """The container does not run any more. Safe to call twice."""
        await self._mounting.end_parts(container_id)
        for name in self._mounting.mounted_for(container_id):
            async with self._locks[name]:
                self._mounting.leave(name, container_id)
                record = self._rows.find(name)
                if record is not None:
                    await self._mounting.unmount(record, container_id)
                    self._tell("unmount", record, container_id)

    # -- copies: see copies

    @asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator[str]:
        """The path of the volume's data, which stays mounted and there meanwhile."""
        reader = f"{READER}{secrets.token_hex(8)}"
        async with self._locks[name]:
            record = await self._seek(name) or self._get(name)
            self._mounting.join(name, reader)
            try:
                path = await self._mounting.mount(record, reader)
            except BaseException:
                self._mounting.leave(name, reader)
                raise
        try:
            yield path
        finally:
            async with self._locks[name]:
                self._mounting.leave(name, reader)
                await self._mounting.unmount(record, reader)

    def stage(self, size: int = 0) -> Path:
        """A directory to be filled: `_data` in it becomes a volume's, with the limit `size`."""
        return self._local.stage(size)

    def quota_of(self, name: str) -> dict[str, str]:
        """The option of the volume that limits what it holds; {} for none."""
        record = self._rows.find(name)
        options = (record.options or {}) if record and record.driver == LOCAL else {}
        return {"size": options["size"]} if options.get("size") else {}

    async def discard_staged(self, staged: Path) -> None:
        with suppress(errors.BarqueError):
            await asyncio.to_thread(self._local.delete, staged)

    def known(self, name: str) -> bool:
        return self._rows.find(name) is not None

    async def adopt(self, record: VolumeRecord, staged: Path) -> dict[str, Any]:
        """A new volume with what is in `staged`. Raises Conflict when there is one."""
        name = record.name
        async with self._locks[name]:
            self.refuse_known(name)
            self._rows.put(record)
            try:
                await asyncio.to_thread(self._local.install, staged, name)
            except BaseException:
                self._rows.forget(name)
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
        mounted = self._mounting.users(name)
        if mounted:
            raise errors.Conflict(
                f"restore {name}: volume is mounted - [{', '.join(sorted(mounted))}]"
            )
        inside = self._local.mounted_inside(name)
        if inside is not None:
            raise errors.Conflict(f"restore {name}: something is mounted on {inside}")
        return record

    async def populate(
        self, name: str, layers: Sequence[str], path: str, maps: IdMaps | None = None
    ) -> bool:
        """Copy directory `path` of the image in `layers` (directories, top first) into the volume.

        Only into one that is empty; whether anything was copied. See `LocalVolumes.populate`.
        """
        ids = {"uids": _turned(maps.uids), "gids": _turned(maps.gids)} if maps else None
        async with self._locks[name]:
            record = self._get(name)
            if record.driver == LOCAL and self._mounting.plan(record) is None:
                return await asyncio.to_thread(self._local.populate, name, layers, path, ids)
            reader = f"{READER}{secrets.token_hex(8)}"
            place = await self._mounting.mount(record, reader)
            try:
                if record.driver == LOCAL:
                    return await asyncio.to_thread(self._local.populate, name, layers, path, ids)
                data = Path(place)
                return is_empty(data) and await asyncio.to_thread(
                    self._local.fill, name, data, layers, path, ids
                )
            finally:
                await self._mounting.unmount(record, reader)

    def is_untouched(self, name: str) -> bool:
        """Whether `populate` may still copy something into the volume."""
        record = self._get(name)
        if record.read_only:
            return False
        if record.driver != LOCAL or record.plan is not None:
            return True  # seen when it is mounted
        return self._local.is_untouched(record.name)

    def data_path(self, name: str) -> str:
        """Where the data of a volume is on the host; "" for one that is not known."""
        record = self._rows.find(name)
        if record is None or record.driver != LOCAL:
            return ""
        return str(self._local.data_path(record.name))

    async def size_bytes(self, name: str) -> int:
        """What its files take on the disk; -1 for a volume that is not ours to look into."""
        record = self._rows.find(name)
        if record is None or record.driver != LOCAL or record.plan is not None:
            return -1
        return await asyncio.to_thread(self._local.size_bytes, name)

    async def release(self, container_id: str) -> None:
        """The container uses no volume any more. Safe to call twice."""
        if self._rows.uses_any(container_id):
            await self.unmount(container_id)
            self._rows.end_uses(container_id)
        else:  # parts of images are no uses of volumes
            await self._mounting.end_parts(container_id)

    async def restore(self, containers: Iterable[str], running: Iterable[str] = ()) -> None:
        """At start, with the ids of all containers there are: finish what a crash broke off.

        What is mounted for containers that do not run any more is unmounted.
        """
        known, alive = set(containers), set(running)
        for container_id in self._rows.all_users() - known:
            await self.release(container_id)
        for name, user in self._rows.uses():
            if user in alive:
                self._mounting.join(name, user)
        await self._mounting.restore(self._rows.all(), alive)
        for record in self._rows.all():
            if record.driver != LOCAL:
                continue
            if not self._local.exists(record.name):
                self._rows.forget(record.name)  # its removal had begun
            elif record.made_for and record.made_for not in known and not self.users(record.name):
                await self.remove(record.name)
        for name in self._local.sweep(record.name for record in self._rows.all()):
            log.warning("directory %s of no known volume is left alone", name)

    # -- the API

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a volume, or find the one that has the name, as it is; returns the API's Volume.

        Raises InvalidArgument, Conflict, NotFound, Unsupported.
        """
        record = parse_create(body)
        name = record.name
        driver = next((str(body[key] or "") for key in body if key.lower() == "driver"), "")
        async with self._locks[name]:
            found = await self._seek(name, driver)
            if found is not None and self._rows.find(name) is not None:
                _refuse_other_driver(found, driver)
                return await self._whole(found)
            if found is not None:  # the plugin has it: now it is known here too
                record = replace(found, labels=record.labels)
            else:
                await self._make(record)
            self._rows.put(record)
        if found is None:
            self._events.publish("volume", "create", name, {"driver": record.driver})
        return await self._whole(record)

    async def inspect(self, name: str) -> dict[str, Any]:
        """The API's Volume, with what its plugin says. Raises NotFound."""
        record = await self._seek(name)
        if record is None:
            raise errors.NotFound(f"get {name}: no such volume")
        return await self._whole(record)

    async def _whole(self, record: VolumeRecord) -> dict[str, Any]:
        if record.driver == LOCAL:
            return self._document(record)
        return {**self._document(record), "Status": {}, **await keepers.facts(record)}

    def summaries(self, filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """The API's Volumes that are known here and match, by name."""
        check_list(filters)
        used = self._rows.used()
        return [
            self._document(record)
            for record in self._rows.all()
            if matches(record, filters, in_use=record.name in used)
        ]

    async def listed(
        self, filters: Mapping[str, Sequence[str]]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """`summaries` with the volumes that plugins have; and what plugins do not answer.

        Of a plugin that answers only what it has is shown, and what containers use.
        """
        check_list(filters)
        told = await keepers.listed()
        used = self._rows.used()
        shown = {name: (one.record, one.facts) for name, one in told.volumes.items()}
        for record in self._rows.all():
            theirs = told.volumes.get(record.name)
            if theirs is not None and theirs.record.driver == record.driver:
                shown[record.name] = (record, theirs.facts)
            elif record.driver not in told.drivers or record.name in used:
                shown[record.name] = (record, {})
        found = [
            {**self._document(record), **facts}
            for _, (record, facts) in sorted(shown.items())
            if matches(record, filters, in_use=record.name in used)
        ]
        return found, told.warnings

    def users(self, name: str) -> list[str]:
        """The ids of the containers that use the volume."""
        return self._rows.users(name)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove an unused volume with its data. Raises NotFound, Conflict.

        With `force` one that is not there is no failure, and what its plugin does not remove is
        forgotten, and the plugin's words are raised.
        """
        async with self._locks[name]:
            record = await self._seek(name)
            if record is None:
                if self.known(name):  # its plugin has lost it
                    self._rows.forget(name)
                if force:
                    return
                raise errors.NotFound(f"get {name}: no such volume")
            users = [*self.users(name), *self._mounting.readers(name)]
            if users:
                raise errors.Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            try:
                removed = await self._discard(record)
            except errors.BarqueError:
                if force and record.driver != LOCAL:
                    self._rows.forget(name)
                raise
            self._rows.forget(name)
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
        if self._mounting.plan(record) is not None:
            await asyncio.to_thread(self._local.unmount, record.name)
        inside = self._local.mounted_inside(record.name)
        if inside is not None:
            raise errors.Conflict(f"remove {record.name}: something is mounted on {inside}")
        return await asyncio.to_thread(self._local.discard, record.name)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> tuple[list[str], int]:
        """Remove unused volumes of ours: anonymous ones, with `all` every one.

        Plugins' stay, as with Docker. Names, and bytes freed.
        """
        check_keys(filters, PRUNE_KEYS)
        everything = "all" in filters and dangling_wanted(filters["all"])
        removed: list[str] = []
        freed = 0
        for record in self._rows.all():
            if record.driver != LOCAL or not (everything or record.is_anonymous):
                continue
            if not label_filters(record, filters) or self.users(record.name):
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

    def _get(self, name: str) -> VolumeRecord:
        record = self._rows.find(name)
        if record is None:
            raise errors.NotFound(f"get {name}: no such volume")
        return record

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


def _refuse_other_driver(found: VolumeRecord, driver: str) -> None:
    """Docker's words, where `driver` is asked for and another one has the volume."""
    if driver and driver != found.driver:
        raise errors.Conflict(
            f"create {found.name}: driver '{found.driver}' already has volume '{found.name}': "
            "volume name must be unique"
        )


def _turned(ids: IdMap) -> str:
    """For a mount on which an image's ids are written as those of a remapped container."""
    return "".join(f"{host} {inside} {size}\n" for inside, host, size in ids.ranges)
