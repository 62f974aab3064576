"""`image verify`: every byte of an image against its digest, and what is damaged fetched again.

    index ──> manifests that are here ──> config, layers        each blob read whole, once

The snapshots that were unpacked from the layers are not read: file systems keep no digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.assemble import GC_CONTENT, Assembler
from barque.daemon.images.documents import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_MANIFESTS,
    read_blob,
)
from barque.daemon.images.naming import Naming
from barque.daemon.images.progress import Progress
from barque.daemon.images.store import Store
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci import reference
from barque.oci.image import Descriptor, Index
from barque.oci.reference import Reference
from barque.registry import Source

Open = Callable[[Reference], Source]


@dataclass(slots=True)
class Report:
    checked: int = 0
    size: int = 0
    corrupt: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {
            "Checked": self.checked,
            "Bytes": self.size,
            "Corrupt": self.corrupt,
            "Missing": self.missing,
            "Repaired": self.repaired,
        }


class Verifier:
    def __init__(self, store: Store, naming: Naming, assembler: Assembler) -> None:
        self._store, self._naming, self._assembler = store, naming, assembler

    async def run(self, text: str, progress: Progress, open_source: Open | None = None) -> None:
        """The last line's `aux` is the report. With `open_source`, damage is repaired from the
        registries that the image's names have; what cannot be had again stays in the report.
        """
        image_id, record = await self._naming.locate(text)
        records = self._naming.catalog.records_of(image_id)
        records = [record] if record is not None else records
        sources: list[Source] = []
        if open_source is not None:
            sources = [open_source(ref) for ref in _references([one.name for one in records])]
        async with self._store.lease() as lease:
            work = _Work(self._store, self._assembler, progress, sources, lease)
            for target in {one.target.digest: one.target for one in records}.values():
                await work.tree(target)
        progress.line({"aux": work.report.document()})


def _references(found: list[str]) -> list[Reference]:
    wanted: dict[str, Reference] = {}
    for name in found:
        if not names.is_dangling(name):
            try:
                ref = reference.parse(name)
            except errors.InvalidArgument:  # a name that others made
                continue
            wanted.setdefault(ref.name, ref)
    return list(wanted.values())


class _Work:
    def __init__(
        self,
        store: Store,
        assembler: Assembler,
        progress: Progress,
        sources: list[Source],
        lease: str,
    ) -> None:
        self._store, self._assembler, self._progress = store, assembler, progress
        self._sources, self._lease = sources, lease
        self._done: dict[str, bool] = {}
        self.report = Report()

    async def tree(self, entry: Descriptor, *, optional: bool = False) -> None:
        """`entry` and all below it; an optional one may be absent, as other platforms' are."""
        if optional and await self._store.get_blob(entry.digest) is None:
            return
        if entry.digest in self._done or not await self._sound(entry):
            return
        if entry.media_type not in oci.INDEXES and entry.media_type not in oci.MANIFESTS:
            return
        if len(self._done) > MAX_MANIFESTS * 10:
            raise errors.ResourceExhausted(f"image {entry.digest} has too many parts")
        raw = await read_blob(self._store, entry.digest, MAX_MANIFEST_BYTES)
        found = oci.parse(raw, entry.media_type)
        if isinstance(found, Index):
            for one in found.manifests:
                await self.tree(one, optional=True)
        else:
            for one in (found.config, *found.layers):
                if not one.media_type.startswith(oci.FOREIGN_PREFIXES):
                    await self.tree(one)

    async def _sound(self, entry: Descriptor) -> bool:
        """Whether it is what its digest says, in the end."""
        trouble = await self._trouble(entry)
        self._done[entry.digest] = not trouble
        self.report.checked += 1
        self.report.size += entry.size
        line = self._progress.layer(entry.digest)
        if not trouble:
            line.word("Verified")
            return True
        line.word(trouble)
        if self._sources and await self._repaired(entry):
            self.report.repaired.append(entry.digest)
            line.word("Repaired")
            return True
        (self.report.missing if trouble == "Missing" else self.report.corrupt).append(entry.digest)
        return False

    async def _trouble(self, entry: Descriptor) -> str:
        """What is wrong with a blob: "" for nothing."""
        blob = await self._store.get_blob(entry.digest, self._lease)
        if blob is None:
            return "Missing"
        hasher, size = hashlib.new(digests.parse(entry.digest)[0]), 0
        line = self._progress.layer(entry.digest)
        try:
            async with aclosing(self._store.read(entry.digest)) as chunks:
                async for chunk in chunks:
                    hasher.update(chunk)
                    size += len(chunk)
                    line.amount("Verifying", size, entry.size)
        except errors.Unavailable:
            raise
        except errors.BarqueError:  # a file that is gone or shorter than it was
            return "Corrupt"
        same = f"{hasher.name}:{hasher.hexdigest()}" == entry.digest and size == entry.size
        return "" if same else "Corrupt"

    async def _repaired(self, entry: Descriptor) -> bool:
        """Fetch it again from the first registry that has it."""
        known = await self._store.get_blob(entry.digest)
        labels = dict(known.labels) if known else {}
        for name, digest in labels.items():  # what only this blob leads to is to stay meanwhile
            if name.startswith(GC_CONTENT):
                await self._store.get_blob(digest, self._lease)
        await self._store.drop_blob(entry.digest)
        for source in self._sources:
            try:
                await self._fetch(source, entry, labels)
            except errors.BarqueError as error:
                self._progress.layer(entry.digest).word(f"Not repaired: {error}")
            else:
                return True
        return False

    async def _fetch(self, source: Source, entry: Descriptor, labels: dict[str, str]) -> None:
        """A document gets the labels that it must have, a layer those that it had."""
        if entry.media_type in oci.INDEXES or entry.media_type in oci.MANIFESTS:
            raw = (await source.manifest(entry.digest)).raw
            found = oci.parse(raw, entry.media_type)
            if isinstance(found, Index):
                await self._assembler.index(found, self._lease)
            else:
                await self._assembler.manifest(found, self._lease)
            return
        chunks = source.blob(entry.digest, entry.size)
        if entry.media_type in oci.CONFIGS and entry.size <= MAX_CONFIG_BYTES:
            async with aclosing(chunks):
                raw = b"".join([chunk async for chunk in chunks])
            await self._assembler.config(oci.parse_config(raw), self._lease)
            return
        async with aclosing(chunks):
            await self._store.write(
                chunks, self._lease, digest=entry.digest, size=entry.size, labels=labels
            )
