"""Volumes mounted while somebody runs with them, and parts of them for single containers."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from barque import errors
from barque.daemon.volumes.records import LOCAL, VolumeRecord
from barque.volume import plugins, subpath
from barque.volume.local import LocalVolumes
from barque.volume.options import MountPlan, read_only_plan

READER = "copy-"  # how those are called that read a volume to copy it
DIGITS = 16


class Mounting:
    """`subpaths` is where parts are mounted. Who changes a volume holds its lock."""

    def __init__(self, local: LocalVolumes, subpaths: Path) -> None:
        self._local = local
        self._subpaths = subpaths
        self._users: defaultdict[str, set[str]] = defaultdict(set)  # volume -> who runs with it

    def plan(self, record: VolumeRecord) -> MountPlan | None:
        """What is mounted on the volume's data while it is used; None for nothing."""
        if record.read_only:
            return read_only_plan(str(self._local.data_path(record.name)))
        return record.plan

    def users(self, name: str) -> set[str]:
        return set(self._users.get(name, ()))

    def readers(self, name: str) -> list[str]:
        return [user for user in self.users(name) if user.startswith(READER)]

    def mounted_for(self, user: str) -> list[str]:
        """The names of the volumes that `user` runs with."""
        return [name for name, users in self._users.items() if user in users]

    def join(self, name: str, user: str) -> None:
        """`user` runs with the volume from now on, whatever its mount says."""
        self._users[name].add(user)

    def leave(self, name: str, user: str) -> None:
        self._users[name].discard(user)
        if not self._users[name]:
            del self._users[name]

    async def mount(self, record: VolumeRecord, user: str) -> str:
        """The host path of the volume's data."""
        if record.driver != LOCAL:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            return await asyncio.to_thread(plugin.mount, record.name, user)
        if not self._local.exists(record.name):
            raise errors.NotFound(f"get {record.name}: no such volume: its directory is gone")
        plan = self.plan(record)
        if plan is not None:
            await asyncio.to_thread(self._local.mount, record.name, plan)
        return str(self._local.data_path(record.name))

    async def unmount(self, record: VolumeRecord, user: str) -> None:
        """Of a plugin every use ends; a mount of ours with the last one."""
        if record.driver != LOCAL:
            plugin = await asyncio.to_thread(plugins.find, record.driver)
            await asyncio.to_thread(plugin.unmount, record.name, user)
        elif self.plan(record) is not None and not self._users.get(record.name):
            await asyncio.to_thread(self._local.unmount, record.name)

    # -- parts

    async def bind_part(self, name: str, path: str, part: str, user: str) -> str:
        """Where `part` of the volume, whose data is at `path`, is mounted for `user`."""
        target = self._subpaths / user / _digest(f"{name}/{part}")
        await asyncio.to_thread(subpath.unbind, target)
        await asyncio.to_thread(subpath.bind, path, part, target)
        return str(target)

    async def merge_layers(
        self, user: str, place: str, layers: Sequence[str], part: str, namespace: str
    ) -> str:
        """Where the merged `layers` (directories, top first), or `part` of them, are mounted."""
        directory = self._subpaths / user
        target, inner = (directory / f"{kind}-{_digest(place)}" for kind in ("image", "part"))
        await asyncio.to_thread(subpath.unbind, target)
        await asyncio.to_thread(subpath.merge, layers, target, namespace)
        if not part:
            return str(target)
        await asyncio.to_thread(subpath.unbind, inner)
        await asyncio.to_thread(subpath.bind, str(target), part, inner)
        return str(inner)

    async def end_parts(self, user: str) -> None:
        """Undo `bind_part` and `merge_layers`. Safe to run twice."""
        directory = self._subpaths / user
        if directory.is_dir():
            await asyncio.to_thread(_unbind_all, directory)

    async def restore(self, records: Sequence[VolumeRecord], alive: set[str]) -> None:
        """At start, after `join` of who is alive: the mounts of all others go."""
        for record in records:
            if self.plan(record) is not None and not self._users.get(record.name):
                await asyncio.to_thread(self._local.unmount, record.name)
        if self._subpaths.is_dir():
            for directory in [d for d in self._subpaths.iterdir() if d.name not in alive]:
                await asyncio.to_thread(_unbind_all, directory)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _unbind_all(directory: Path) -> None:
    for target in list(directory.iterdir()):
        subpath.unbind(target)
    with suppress(OSError):
        directory.rmdir()
