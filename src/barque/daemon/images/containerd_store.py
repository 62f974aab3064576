"""`Store` over containerd's services, ours or the real one's."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.content import Writer
from barque.containerd.client.descriptors import Descriptor as Target
from barque.containerd.client.diff import APART, FOLLOW, PLACES
from barque.containerd.client.events import ImageChanged, Subscribed
from barque.containerd.client.images import Image
from barque.containerd.client.leases import CONTENT, Resource
from barque.daemon.images import names
from barque.daemon.images.store import UNCOMPRESSED_LABEL, Begun, Blob, Record
from barque.daemon.storage import REBASE
from barque.oci.image import OCI_LAYER, Descriptor

DEFAULT_SNAPSHOTTER = "overlayfs"
TOPICS = 'topic~="^/images/"'
LEASE_LABEL = "io.barque.operation"
INGEST_PREFIX = "barque-image-"
FETCH_PREFIX = "barque-fetch-"  # with a digest: gone on with, by the next daemon too
FETCHED_LIFETIME_NS = 24 * 3600 * 10**9
RESUMED_BYTES = 1 << 20  # a smaller blob is fetched anew
ABORT_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds
DIFFERENCE = OCI_LAYER + "+gzip"
WRITE_BYTES = 2 << 20
CAUSE_LIMIT_S = 10.0
LEASE_LIFETIME_S = 24 * 3600.0
DRIVERS_LABEL = "io.barque.image.drivers"  # snapshotters that a name is shown with; absent: any


class ContainerdStore:
    """A name belongs to the snapshotters it was made with, and is shown with these only."""

    def __init__(self, containerd: Containerd, snapshotter: str = DEFAULT_SNAPSHOTTER) -> None:
        self._containerd = containerd
        self._snapshots = containerd.snapshots.of(snapshotter)
        self._snapshotter = snapshotter
        # What containerd's differ and snapshotter can; until asked.
        self._differ: frozenset[str] | None = None
        self._snapshotting: frozenset[str] | None = None

    @property
    def snapshotter(self) -> str:
        return self._snapshotter

    async def get_image(self, name: str) -> Record | None:
        image = await self._image(name)
        return _record(image) if image is not None and self._shows(image) else None

    async def list_images(self) -> list[Record]:
        found = await self._containerd.images.list()
        return [_record(image) for image in found if self._shows(image)]

    async def list_hidden(self) -> list[Record]:
        found = await self._containerd.images.list()
        return [_record(image) for image in found if not self._shows(image)]

    async def put_image(self, record: Record) -> None:
        target = Target(record.target.media_type, record.target.digest, record.target.size)
        before = await self._image(record.name)
        drivers = {self._snapshotter}
        if before is not None:
            if before.target.digest == target.digest:
                drivers |= _drivers(before)
            else:
                await self._keep_for_others(before)
        await self._put(Image(record.name, target, record.labels), drivers)

    async def delete_image(self, name: str, *, collect: bool) -> None:
        image = await self._image(name)
        others = _drivers(image) - {self._snapshotter} if image is not None else set()
        if image is not None and others:
            await self._put(image, others)
            await self._let_go(image)
            return
        with suppress(errors.NotFound):
            await self._containerd.images.delete(name, sync=collect)

    async def _image(self, name: str) -> Image | None:
        try:
            return await self._containerd.images.get(name)
        except errors.NotFound:
            return None

    def _shows(self, image: Image) -> bool:
        drivers = _drivers(image)
        return not drivers or self._snapshotter in drivers

    async def _put(self, image: Image, drivers: set[str]) -> None:
        labels = {**image.labels, DRIVERS_LABEL: ",".join(sorted(drivers))}
        await self._containerd.images.put(Image(image.name, image.target, labels))

    async def _keep_for_others(self, image: Image) -> None:
        """Other snapshotters lose a name to one of ours: its image is a dangling one there."""
        others = _drivers(image) - {self._snapshotter}
        if not others:
            return
        name = names.dangling_name(image.target.digest)
        there = await self._image(name)
        known = _drivers(there) if there is not None else set()
        await self._put(Image(name, image.target, image.labels), others | known)

    async def _let_go(self, image: Image) -> None:
        """The last of our names of an image is gone: others keep it, but not our snapshots."""
        config = image.labels.get(names.ID_LABEL, "")
        for other in await self._containerd.images.list():
            if other.labels.get(names.ID_LABEL, "") == config and self._shows(other):
                return
        if config:
            with suppress(errors.NotFound):
                label = f"containerd.io/gc.ref.snapshot.{self._snapshotter}"
                await self._containerd.content.set_labels(config, {label: ""})

    async def get_blob(self, digest: str, lease: str = "") -> Blob | None:
        if lease:
            await self._containerd.leases.add(lease, Resource(CONTENT, digest))
        try:
            info = await self._containerd.content.info(digest)
        except errors.NotFound:
            return None
        return Blob(info.digest, info.size, info.labels)

    async def read(self, digest: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        async for chunk in self._containerd.content.read(digest, offset):
            yield chunk

    async def write(
        self,
        chunks: AsyncIterator[bytes],
        lease: str,
        *,
        digest: str = "",
        size: int = 0,
        labels: Mapping[str, str] | None = None,
        begun: Begun | None = None,
    ) -> Blob:
        ref = INGEST_PREFIX + secrets.token_hex(8)
        return await self._write(ref, chunks, lease, digest, size, labels, begun)

    async def _write(
        self,
        ref: str,
        chunks: AsyncIterator[bytes],
        lease: str,
        digest: str = "",
        size: int = 0,
        labels: Mapping[str, str] | None = None,
        begun: Begun | None = None,
    ) -> Blob:
        content = self._containerd.with_lease(lease).content
        try:
            async with content.writer(ref, size=size, digest=digest) as writer:
                if not writer.offset:  # else another namespace has it, whole: the ref is new
                    if begun is not None:
                        begun(ref)
                    await _write(writer, chunks)
                digest = digest or await writer.digest()
                await writer.commit(digest=digest, size=size, labels=labels)
            return Blob(digest, writer.offset, labels or {})
        except errors.AlreadyExists:
            return await self._already(ref, digest, lease, labels)
        except BaseException:
            await _through(self._abort(ref))
            raise

    async def write_unpacked(
        self, chunks: AsyncIterator[bytes], media_type: str, key: str, lease: str
    ) -> tuple[Blob, str]:
        if not await self._differ_can(FOLLOW):
            blob = await self.write(chunks, lease)
            layer = Descriptor(media_type, blob.digest, blob.size)
            return blob, await self.apply(layer, key, "", lease)
        held = self._containerd.with_lease(lease)
        mounts = await held.snapshots.of(self._snapshotter).prepare(key, "")
        ref = INGEST_PREFIX + secrets.token_hex(8)
        begun = asyncio.Event()

        async def apply() -> str:
            await begun.wait()
            return (await held.diff.apply_written(media_type, ref, mounts)).digest

        writing = self._write(ref, chunks, lease, begun=lambda _: begun.set())
        return await _fed(asyncio.create_task(writing), asyncio.create_task(apply()))

    async def fetch(
        self,
        open_at: Callable[[int], AsyncGenerator[bytes, None]],
        lease: str,
        *,
        digest: str,
        size: int,
        labels: Mapping[str, str] | None = None,
        begun: Begun | None = None,
    ) -> Blob:
        ref = FETCH_PREFIX + digest
        if size < RESUMED_BYTES:
            return await self._write_from_start(open_at, lease, digest, size, labels)
        resumed = fresh = False
        pauses = list(ABORT_PAUSES)
        while pauses:
            writer: Writer | None = None
            try:
                content = self._containerd.with_lease(lease).content
                async with content.writer(ref, size=size, digest=digest) as writer:
                    if fresh or writer.offset > size:
                        await writer.restart()
                    resumed = writer.offset > 0
                    if begun is not None:
                        begun(ref)
                    if writer.offset < size:
                        async with aclosing(open_at(writer.offset)) as chunks:
                            await _write(writer, chunks)
                    await writer.commit(digest=digest, size=size, labels=labels)
                return Blob(digest, size, labels or {})
            except errors.AlreadyExists:
                return await self._already(ref, digest, lease, labels)
            except errors.ResourceExhausted:  # the room is wanted, not what came so far
                await _through(self._abort(ref))
                raise
            except errors.DataLoss:
                await _through(self._abort(ref))
                if fresh or not resumed:
                    raise
                fresh = True
            except errors.Unavailable:
                if writer is not None:
                    raise
                await asyncio.sleep(pauses.pop(0))  # a stream that broke off may hold it yet
        return await self._write_from_start(open_at, lease, digest, size, labels)

    async def _write_from_start(
        self,
        open_at: Callable[[int], AsyncGenerator[bytes, None]],
        lease: str,
        digest: str,
        size: int,
        labels: Mapping[str, str] | None,
    ) -> Blob:
        async with aclosing(open_at(0)) as chunks:
            return await self.write(chunks, lease, digest=digest, size=size, labels=labels)

    async def _already(
        self, ref: str, digest: str, lease: str, labels: Mapping[str, str] | None
    ) -> Blob:
        blob = await self.get_blob(digest, lease)
        if blob is None:
            raise errors.NotFound(f"content {digest}: removed while it was fetched")
        await self._abort(ref)
        if labels:
            await self.label_blob(digest, labels)
        return blob

    async def _abort(self, ref: str) -> None:
        """Give up an ingest; the broken-off stream of its writer may hold it for a moment more."""
        for pause in ABORT_PAUSES:
            try:
                await self._containerd.content.abort(ref)
            except errors.NotFound:
                return
            except errors.BarqueError:  # containerd's own says it in several ways
                await asyncio.sleep(pause)
            else:
                return

    async def drop_blob(self, digest: str) -> None:
        with suppress(errors.NotFound):
            await self._containerd.content.delete(digest)
        # containerd's own keeps the bytes, and would take them for the new ones, until it collects
        lease = await self._containerd.leases.create()
        await self._containerd.leases.delete(lease.id, sync=True)

    async def label_blob(self, digest: str, labels: Mapping[str, str]) -> None:
        await self._containerd.content.set_labels(digest, labels)

    async def has_snapshot(self, key: str, lease: str = "") -> bool:
        if lease:
            kind = f"snapshots/{self._snapshotter}"
            await self._containerd.leases.add(lease, Resource(kind, key))
        try:
            await self._snapshots.stat(key)
        except errors.NotFound:
            return False
        return True

    async def snapshot_size(self, key: str) -> int:
        return (await self._snapshots.usage(key)).size

    async def apply(self, layer: Descriptor, key: str, parent: str, lease: str) -> str:
        held = self._containerd.with_lease(lease)
        mounts = await held.snapshots.of(self._snapshotter).prepare(key, parent)
        target = Target(layer.media_type, layer.digest, layer.size)
        return (await held.diff.apply(target, mounts)).digest

    async def applies_coming(self) -> bool:
        return await self._differ_can(FOLLOW) and await self._snapshotter_can(REBASE, APART)

    async def apply_coming(
        self, ref: str, media_type: str, key: str, lease: str, *, apart: bool
    ) -> str:
        held = self._containerd.with_lease(lease)
        mounts = await held.snapshots.of(self._snapshotter).prepare(key, "")
        return (await held.diff.apply_written(media_type, ref, mounts, apart=apart)).digest

    async def independent_layers(self) -> bool:
        return await self._snapshotter_can(REBASE)

    async def _snapshotter_can(self, *any_of: str) -> bool:
        if self._snapshotting is None:
            facts = await self._containerd.snapshotter(self._snapshotter)
            self._snapshotting = facts.capabilities
        return not self._snapshotting.isdisjoint(any_of)

    async def commit_snapshot(self, name: str, key: str, lease: str, parent: str = "") -> None:
        try:
            held = self._containerd.with_lease(lease).snapshots.of(self._snapshotter)
            await held.commit(name, key, parent=parent)
        except errors.AlreadyExists:
            await self.has_snapshot(name, lease)
            await self.remove_snapshot(key)

    async def _differ_can(self, capability: str) -> bool:
        if self._differ is None:
            self._differ = await self._containerd.differ_capabilities()
        return capability in self._differ

    async def difference(
        self, key: str, parent: str, lease: str, places: Sequence[str] = ()
    ) -> tuple[Descriptor, str]:
        held = self._containerd.with_lease(lease)
        snapshots = held.snapshots.of(self._snapshotter)
        word = secrets.token_hex(8)
        upper = await snapshots.mounts(key)
        lower = await snapshots.view(f"view-{word}", parent)
        if not await self._differ_can(PLACES):
            places = ()
        try:
            made = await held.diff.make(
                lower, upper, media_type=DIFFERENCE, ref=INGEST_PREFIX + word, places=places
            )
        finally:
            await asyncio.shield(self.remove_snapshot(f"view-{word}"))
        blob = await self.get_blob(made.digest, lease)
        diff_id = blob.labels.get(UNCOMPRESSED_LABEL, "") if blob else ""
        if not diff_id:
            raise errors.DataLoss(f"layer {made.digest}: containerd did not tell its diff id")
        return Descriptor(made.media_type, made.digest, made.size), diff_id

    async def remove_snapshot(self, key: str) -> None:
        with suppress(errors.NotFound):
            await self._snapshots.remove(key)

    async def recover(self) -> None:
        for lease in await self._containerd.leases.list([f'labels."{LEASE_LABEL}"==images']):
            with suppress(errors.NotFound):
                await self._containerd.leases.delete(lease.id)
        for status in await self._containerd.content.statuses():
            old = status.updated_ns < time.time_ns() - FETCHED_LIFETIME_NS
            if status.ref.startswith(INGEST_PREFIX) or (
                old and status.ref.startswith(FETCH_PREFIX)
            ):
                await self._abort(status.ref)

    async def changes(self) -> AsyncGenerator[str | None, None]:
        namespace = self._containerd.namespace
        async with aclosing(self._containerd.events.subscribe([TOPICS])) as events:
            async for event in events:
                if isinstance(event, Subscribed):
                    yield None
                elif isinstance(event, ImageChanged) and event.namespace == namespace:
                    yield event.name

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[str]:
        leases = self._containerd.leases
        labels = {LEASE_LABEL: "images"}
        lease = await leases.create(labels=labels, lifetime_s=LEASE_LIFETIME_S)
        try:
            yield lease.id
        finally:
            with suppress(errors.BarqueError):  # it ends by itself
                await asyncio.shield(leases.delete(lease.id))


async def _through(cleaning: Coroutine[Any, Any, None]) -> None:
    """To its end, however often we are cancelled meanwhile."""
    task = asyncio.create_task(cleaning)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


async def _fed(writing: asyncio.Task[Blob], applying: asyncio.Task[str]) -> tuple[Blob, str]:
    """Their results. The failure of one ends the other and is told: that of the writer, where who
    reads only says that it gave up.
    """
    tasks: list[asyncio.Task[Any]] = [writing, applying]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if applying.done() and isinstance(applying.exception(), errors.Unavailable):
            await asyncio.wait([writing], timeout=CAUSE_LIMIT_S)
        for task in tasks:
            if task.done():
                task.result()
        return writing.result(), applying.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(writer: Writer, chunks: AsyncIterator[bytes]) -> None:
    """All of `chunks`. A write waits for its answer: so they are large, and the next is read
    meanwhile.
    """
    under_way: asyncio.Task[None] | None = None
    try:
        async for parts in _gathered(chunks):
            if under_way is not None:
                await under_way
            under_way = asyncio.create_task(writer.write(*parts))
        if under_way is not None:
            await under_way
    except BaseException:
        if under_way is not None and not under_way.done():
            under_way.cancel()
            await asyncio.wait([under_way])
        raise


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    pending: list[bytes] = []
    size = 0
    async for chunk in chunks:
        pending.append(chunk)
        size += len(chunk)
        if size >= WRITE_BYTES:
            yield pending
            pending, size = [], 0
    if pending:
        yield pending


def _drivers(image: Image) -> set[str]:
    return set(filter(None, image.labels.get(DRIVERS_LABEL, "").split(",")))


def _record(image: Image) -> Record:
    target = image.target
    return Record(
        image.name,
        Descriptor(target.media_type, target.digest, target.size),
        {key: value for key, value in image.labels.items() if key != DRIVERS_LABEL},
    )
