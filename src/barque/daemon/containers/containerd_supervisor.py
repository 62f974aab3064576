"""`Supervisor` by a containerd, ours or the real one, whose tasks run in our shim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client import events as containerd_events
from barque.containerd.client.containers import Container
from barque.containerd.client.mounts import Mount
from barque.containerd.client.tasks import Exit, RuntimeOptions, Stdio
from barque.daemon.containers import criu_images, streams
from barque.daemon.containers.host import Runtime
from barque.daemon.containers.supervise import Ended, RootfsMount, Task, TaskEvent
from barque.daemon.containers.supervise import Stdio as StdioRequest
from barque.daemon.moments import rfc3339
from barque.daemon.remapping import Remap
from barque.daemon.storage import GID_LABEL, QUOTA, SIZE_LABEL, UID_LABEL, driver_of
from barque.oci.image import OCI_LAYER

ROOT_LABEL = "containerd.io/gc.root"
OWNER_LABEL = "barque.container"
SIGKILL = 9
OLD_TASK_TRIES, OLD_TASK_PAUSE_S = 200, 0.1


class ContainerdSupervisor:
    """See `supervise.Supervisor` for the contract."""

    def __init__(
        self, containerd: Containerd, snapshotter: str, remap: Remap | None = None
    ) -> None:
        self._containerd = containerd
        self._remap = remap
        self._snapshotter = snapshotter
        self._snapshots = containerd.snapshots.of(snapshotter)

    async def prepare(
        self, container_id: str, parent: str, size: int = 0, *, remapped: bool = True
    ) -> list[RootfsMount]:
        labels = {ROOT_LABEL: "barque", OWNER_LABEL: container_id}
        if remapped and self._remap is not None:
            maps = self._remap.maps
            labels |= {UID_LABEL: maps.uids.text, GID_LABEL: maps.gids.text}
        if size:
            await self._check_quota()
            labels[SIZE_LABEL] = str(size)
        return _mounts(await self._snapshots.prepare(container_id, parent, labels))

    async def view(self, key: str, container_id: str, parent: str) -> None:
        labels = {ROOT_LABEL: "barque", OWNER_LABEL: container_id}
        await self._snapshots.view(key, parent, labels)

    async def _check_quota(self) -> None:
        facts = await self._containerd.snapshotter(self._snapshotter)
        if QUOTA not in facts.capabilities:
            raise errors.Unsupported(
                f"storage option size: storage driver {driver_of(self._snapshotter)} has no quotas "
                "here: that takes btrfs, or overlay2 or erofs on ext4 or xfs with project quotas "
                "(mounted with prjquota)"
            )

    async def carry_over(self, container_id: str, parent: str, driver: str, size: int) -> None:
        await self.remove_snapshot(container_id)  # an earlier try may have ended half way
        source = self._containerd.snapshots.of(driver)
        async with self._containerd.leased() as held:
            view = f"{container_id}-carried"
            with suppress(errors.NotFound):
                await source.remove(view)
            lower = await held.snapshots.of(driver).view(view, parent)
            try:
                upper = await source.mounts(container_id)
                layer = await held.diff.make(
                    lower, upper, media_type=OCI_LAYER, ref=f"carried-{container_id}"
                )
                await self.prepare(container_id, parent, size)
                try:
                    mounts = await self._snapshots.mounts(container_id)
                    await held.diff.apply(layer, mounts)
                except BaseException:
                    await asyncio.shield(self.remove_snapshot(container_id))
                    raise
            finally:
                await asyncio.shield(source.remove(view))

    async def remove_left(self, container_id: str, driver: str) -> None:
        with suppress(errors.NotFound):
            await self._containerd.snapshots.of(driver).remove(container_id)

    async def mounts(self, container_id: str) -> list[RootfsMount]:
        return _mounts(await self._snapshots.mounts(container_id))

    async def remove_snapshot(self, container_id: str) -> None:
        with suppress(errors.NotFound):
            await self._snapshots.remove(container_id)

    async def snapshot_size(self, container_id: str) -> int:
        return (await self._snapshots.usage(container_id)).size

    async def snapshot_owners(self) -> list[str]:
        """The keys of all snapshots of containers, for the sweep at start."""
        filters = [f'labels."{OWNER_LABEL}"']
        return [snapshot.key async for snapshot in self._snapshots.list(filters)]

    async def create(
        self,
        container_id: str,
        spec: Mapping[str, Any],
        runtime: Runtime,
        image: str,
        rootfs: Sequence[RootfsMount],
        stdio: StdioRequest,
        images: str = "",
    ) -> int:
        record = Container(
            id=container_id,
            spec=msgspec.json.encode(spec),
            image=image,
            runtime=runtime.type,
            runtime_binary=runtime.binary,
            snapshotter=self._snapshotter,
            snapshot_key=container_id,
        )
        try:
            await self._containerd.containers.create(record)
        except errors.AlreadyExists:  # what a crash left of an earlier start
            await self.delete(container_id)
            await self._containerd.containers.create(record)
        mounts = [Mount(item.type, item.source, item.options) for item in rootfs]
        streams = await _streams(stdio)
        options = _runtime_options(runtime)
        if not images:
            tasks = self._containerd.tasks
            return await self._in_place_of_old(
                container_id, lambda: tasks.create(container_id, mounts, streams, options)
            )
        async with self._containerd.leased() as held:
            saved = await criu_images.store(held, images)
            return await self._in_place_of_old(
                container_id,
                lambda: held.tasks.create(container_id, mounts, streams, options, saved),
            )

    async def _in_place_of_old(
        self, container_id: str, create: Callable[[], Awaitable[int]]
    ) -> int:
        """A task made; one that a daemon asked for which died is ended as soon as it is there."""
        for _ in range(OLD_TASK_TRIES):
            try:
                return await create()
            except errors.AlreadyExists:
                if await self._delete_task(container_id) is None:
                    await asyncio.sleep(OLD_TASK_PAUSE_S)
        return await create()

    async def start(self, container_id: str) -> int:
        return await self._containerd.tasks.start(container_id)

    async def exec(
        self, container_id: str, exec_id: str, process: Mapping[str, Any], stdio: StdioRequest
    ) -> None:
        tasks, streams = self._containerd.tasks, await _streams(stdio)
        try:
            await tasks.exec(container_id, exec_id, process, streams)
        except errors.Unavailable:  # containerd died; it may have told the shim before
            await self.delete_exec(container_id, exec_id)
            await tasks.exec(container_id, exec_id, process, streams)

    async def start_exec(self, container_id: str, exec_id: str) -> int:
        tasks = self._containerd.tasks
        try:
            return await tasks.start(container_id, exec_id)
        except errors.Unavailable:  # containerd died; the shim may have started it all the same
            found = await tasks.get(container_id, exec_id)
        if found.status == "created":
            try:
                return await tasks.start(container_id, exec_id)
            except errors.Conflict:  # the shim was about to
                found = await tasks.get(container_id, exec_id)
        return found.pid

    async def exec_ended(self, container_id: str, exec_id: str) -> int | None:
        try:
            found = await self._containerd.tasks.get(container_id, exec_id)
        except errors.NotFound:
            return None
        return found.exit.code if found.exit else None

    async def release_input(self, container_id: str, exec_id: str = "") -> None:
        with suppress(errors.BarqueError):
            await self._containerd.tasks.close_io(container_id, exec_id)

    async def kill(self, container_id: str, signal: int, exec_id: str = "") -> None:
        await self._containerd.tasks.kill(container_id, signal, exec_id)

    async def pause(self, container_id: str) -> None:
        await self._containerd.tasks.pause(container_id)

    async def resume(self, container_id: str) -> None:
        await self._containerd.tasks.resume(container_id)

    async def checkpoint(self, container_id: str, directory: str, *, end: bool) -> None:
        async with self._containerd.leased() as held:
            saved = await held.tasks.checkpoint(container_id, end=end)
            await criu_images.fetch(held, saved, directory)

    async def resize(self, container_id: str, exec_id: str, width: int, height: int) -> None:
        await self._containerd.tasks.resize(container_id, width, height, exec_id)

    async def pids(self, container_id: str) -> list[int]:
        return await self._containerd.tasks.pids(container_id)

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        await self._containerd.tasks.update(container_id, resources)

    async def metrics(self, container_id: str) -> tuple[int, Mapping[str, Any]]:
        found = await self._containerd.tasks.metrics(container_id)
        return found.version, found.values

    async def tasks(self) -> list[Task]:
        return [
            Task(
                task.id,
                task.pid,
                task.status,
                task.exit.code if task.exit else 0,
                rfc3339(task.exit.exited_at_ns) if task.exit else "",
            )
            for task in await self._containerd.tasks.list()
        ]

    async def delete(self, container_id: str) -> Ended | None:
        ended = await self._delete_task(container_id)
        with suppress(errors.NotFound):
            await self._containerd.containers.delete(container_id)
        return ended

    async def _delete_task(self, container_id: str) -> Ended | None:
        tasks = self._containerd.tasks
        try:
            try:
                return _ended(await tasks.delete(container_id))
            except errors.Conflict:  # it runs
                with suppress(errors.NotFound):
                    await tasks.kill(container_id, SIGKILL, everyone=True)
                await tasks.wait(container_id)
                return _ended(await tasks.delete(container_id))
        except errors.NotFound:
            return None

    async def delete_exec(self, container_id: str, exec_id: str) -> Ended | None:
        try:
            return _ended(await self._containerd.tasks.delete(container_id, exec_id))
        except errors.NotFound:
            return None

    async def events(self) -> AsyncIterator[TaskEvent]:
        namespace = self._containerd.namespace
        filters = [f'namespace=="{namespace}",topic=="/tasks/{topic}"' for topic in ("exit", "oom")]
        async with aclosing(self._containerd.events.subscribe(filters)) as events:
            async for event in events:
                if (known := _event(event)) is not None:
                    yield known


def _event(event: object) -> TaskEvent | None:
    if isinstance(event, containerd_events.Subscribed):
        return TaskEvent("lost")
    if isinstance(event, containerd_events.TaskOOM):
        return TaskEvent("oom", event.id)
    if isinstance(event, containerd_events.TaskExit):
        at = rfc3339(event.exited_at_ns)
        return TaskEvent("exit", event.id, event.exec_id, event.pid, event.code, at)
    return None


def _mounts(mounts: Sequence[Mount]) -> list[RootfsMount]:
    return [RootfsMount(mount.type, mount.source, tuple(mount.options)) for mount in mounts]


def _ended(found: Exit) -> Ended:
    return Ended(found.code, rfc3339(found.exited_at_ns))


async def _streams(request: StdioRequest) -> Stdio:
    """docs/boundaries.md, section 3: the shim's own stdio, or fifos below a relay of the same."""
    address = f"barque://{quote(request.socket)}"
    if request.options:
        address += f"?{urlencode(request.options, quote_via=quote)}"
    if not request.relayed:
        return Stdio(stdout=address, terminal=request.terminal)
    takes_input = request.options.get("stdin") == "1"
    return await streams.start(
        address, Path(request.socket), stdin=takes_input, terminal=request.terminal
    )


def _runtime_options(runtime: Runtime) -> RuntimeOptions | None:
    options = RuntimeOptions(
        binary_name=runtime.binary,
        root=runtime.root,
        systemd_cgroup=runtime.systemd_cgroup,
        no_pivot_root=runtime.no_pivot_root,
        no_new_keyring=runtime.no_new_keyring,
        io_uid=runtime.io_owner[0],
        io_gid=runtime.io_owner[1],
    )
    return options if options != RuntimeOptions() else None
