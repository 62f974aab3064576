"""Who is called what: the catalog and the store change together, and events tell.

Every change of a name goes through here, one at a time; the changes are short.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from barque import errors
from barque.daemon.events import Events
from barque.daemon.images import names
from barque.daemon.images.catalog import Catalog
from barque.daemon.images.documents import Documents
from barque.daemon.images.image import Image
from barque.daemon.images.store import Record, Store
from barque.oci.image import Descriptor
from barque.oci.reference import Reference

MAX_RESOLVED = 4096  # images kept parsed


class Naming:
    def __init__(
        self,
        store: Store,
        documents: Documents,
        events: Events,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store, self._documents, self._events = store, documents, events
        self._clock_ns = clock_ns
        self.catalog = Catalog()
        self._loaded = False
        self._changing = asyncio.Lock()
        self._resolved: dict[str, Image] = {}  # by name in the store

    async def load(self) -> Catalog:
        """The catalog, listed from the store on the first call."""
        if not self._loaded:
            async with self._changing:
                await self._load()
        return self.catalog

    async def _load(self) -> None:
        if self._loaded:
            return
        for record in await self._store.list_images():
            await self._enter(record)
        self._loaded = True

    async def _enter(self, record: Record) -> None:
        image_id = await self._documents.identify(record)
        if image_id:
            self.catalog.put(record, image_id)

    async def refresh(self, name: str) -> None:
        """Someone else may have changed this name."""
        async with self._changing:
            if not self._loaded:
                self._resolved.pop(name, None)
                return
            record, known = await self._store.get_image(name), self.catalog.record(name)
            if _same(record, known):
                return
            self._resolved.pop(name, None)
            if record is None:
                self.catalog.drop(name)
            else:
                await self._enter(record)

    async def reload(self) -> None:
        """Anything may have changed: containerd was out of sight."""
        async with self._changing:
            self._resolved.clear()
            self.catalog = Catalog()
            self._loaded = False
            await self._load()

    # Reading

    async def resolve(self, text: str) -> Image:
        """The image of a name, an id, or the beginning of an id. Raises NotFound in Docker's words.

        A name that was asked for before costs no question to the store.
        """
        digits = names.as_digits(text)
        if len(digits) == 64:
            return await self._by_id(text, digits)
        try:
            ref = names.parse(text)
        except errors.InvalidArgument:
            if digits:
                return await self._by_id(text, digits)
            raise
        name = names.full_name(ref)
        known = self._resolved.get(name)
        if known is not None:
            return known
        record = await self._record(ref, name)
        if record is not None:
            return await self._image(record, name, ref.familiar)
        if digits:
            return await self._by_id(text, digits, ref.familiar)
        raise errors.NotFound(f"No such image: {ref.familiar}")

    async def _record(self, ref: Reference, name: str) -> Record | None:
        if self._loaded:
            found = self.catalog.record(name)
            if found is None and ref.digest:
                found = self.catalog.with_digest(ref.name, ref.digest)
            return found
        record = await self._store.get_image(name)
        if record is None and ref.digest:
            record = (await self.load()).with_digest(ref.name, ref.digest)
        return record

    async def _image(self, record: Record, name: str, display: str) -> Image:
        try:
            image = await self._documents.image(record, display)
        except errors.NotFound as error:
            raise errors.NotFound(f"No such image: {display}: {error}") from error
        if len(self._resolved) >= MAX_RESOLVED:
            self._resolved.clear()
        self._resolved[name] = image
        return image

    async def _by_id(self, text: str, digits: str, display: str = "") -> Image:
        catalog = await self.load()
        found = catalog.ids_with_prefix(digits)
        if len(found) != 1:
            raise errors.NotFound(f"No such image: {display or text}")
        record = catalog.records_of(found[0])[0]
        known = self._resolved.get(record.name)
        if known is not None and known.id == found[0]:
            return replace(known, name_for_display=text)
        return replace(
            await self._image(record, record.name, names.display(record.name)),
            name_for_display=text,
        )

    async def locate(self, text: str) -> tuple[str, Record | None]:
        """The id of the image that `text` means, with the record when it is a name and no id.

        As `resolve`, but an image whose documents are lost is found too.
        """
        catalog = await self.load()
        digits, shown = names.as_digits(text), text
        if len(digits) < 64:
            try:
                ref = names.parse(text)
            except errors.InvalidArgument:
                if not digits:
                    raise
            else:
                shown = ref.familiar
                record = await self._record(ref, names.full_name(ref))
                if record is not None and (image_id := catalog.id_of(record.name)):
                    return image_id, record
        found = catalog.ids_with_prefix(digits) if digits else []
        if len(found) != 1:
            raise errors.NotFound(f"No such image: {shown}")
        return found[0], None

    async def record_of(self, ref: Reference) -> Record | None:
        """The record that a reference names by itself, not by an id."""
        await self.load()
        return await self._record(ref, names.full_name(ref))

    # Changing

    async def point(self, name: str, target: Descriptor, labels: Mapping[str, str]) -> bool:
        """Makes `name` the name of an image; False if it was so already.

        An image that loses its last name by this is kept as a dangling one.
        """
        await self.load()
        async with self._changing:
            before = self.catalog.record(name)
            if before is not None and before.target.digest == target.digest:
                kept = {**before.labels, **labels}
                if kept != dict(before.labels):
                    await self._put(Record(name, before.target, kept))
                return False
            if before is not None:
                await self._keep_dangling(before)
            await self._put(Record(name, target, dict(labels)))
            await self._forget_dangling(target.digest, name)
            return True

    async def keep(self, target: Descriptor, labels: Mapping[str, str], image_id: str) -> None:
        """An image that came without a name: dangling, unless it has one here already."""
        if not (await self.load()).records_of(image_id):
            await self.point(names.dangling_name(target.digest), target, labels)

    async def _put(self, record: Record) -> None:
        await self._store.put_image(record)
        self._resolved.pop(record.name, None)
        await self._enter(record)

    async def _keep_dangling(self, record: Record) -> None:
        image_id = self.catalog.id_of(record.name)
        others = self.catalog.records_of(image_id) if image_id else []
        if len(others) == 1:
            await self._put(replace(record, name=names.dangling_name(record.target.digest)))

    async def _forget_dangling(self, target: str, name: str) -> None:
        dangling = names.dangling_name(target)
        if name != dangling and self.catalog.record(dangling) is not None:
            await self._drop(dangling, collect=False)

    async def _drop(self, name: str, *, collect: bool) -> None:
        await self._store.delete_image(name, collect=collect)
        self.catalog.drop(name)
        self._resolved.pop(name, None)

    async def remove(self, name: str, *, collect: bool) -> None:
        """Takes one name away; with the last one of an image, `collect` frees what it held."""
        async with self._changing:
            await self._drop(name, collect=collect)

    async def tag(self, image: Image, ref: Reference) -> None:
        """One more name for an image. Event: tag."""
        catalog = await self.load()
        known = catalog.records_of(image.id)
        if not known:
            raise errors.NotFound(f"No such image: {image.name_for_display}")
        source = next((r for r in known if r.target.digest == image.target.digest), known[0])
        labels = {k: v for k, v in source.labels.items() if k in names.OWN_LABELS}
        labels[names.TAGGED_LABEL] = str(self._clock_ns())
        await self.point(names.full_name(ref), source.target, labels)
        self.announce("tag", image.id, ref.familiar, image.labels)

    def announce(self, action: str, actor: str, name: str, labels: Mapping[str, str]) -> None:
        """Publishes an event of an image: its labels are attributes, as Docker has it."""
        self._events.publish("image", action, actor, {**labels, "name": name})

    def announce_prune(self, reclaimed: int) -> None:
        self._events.publish("image", "prune", "", {"reclaimed": str(reclaimed)})


def _same(record: Record | None, other: Record | None) -> bool:
    if record is None or other is None:
        return record is other
    same_target = record.target.digest == other.target.digest
    return same_target and dict(record.labels) == dict(other.labels)
