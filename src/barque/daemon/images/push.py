"""`docker push`: an image of the store to a registry, blobs before the documents that name them.

Layers go as they are stored: a push and a pull of the same image have the same digests. An index
goes whole where all that it leads to is here, else the image of the one platform that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.documents import (
    MAX_INDEX_DEPTH,
    MAX_MANIFEST_BYTES,
    Documents,
    read_blob,
)
from barque.daemon.images.names import PULLED_LABEL
from barque.daemon.images.naming import Naming
from barque.daemon.images.progress import LayerProgress, Progress
from barque.daemon.images.store import Record, Store
from barque.oci import image as oci
from barque.oci import reference
from barque.oci.image import FOREIGN_PREFIXES, Descriptor, Manifest, Platform
from barque.oci.reference import Reference
from barque.registry import Credentials, Repository, Transport, open_repository

MAX_CONCURRENT_UPLOADS = 5


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index, as it goes."""

    described: Descriptor
    raw: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent, in this order: blobs, then documents, of which the last gets the name."""

    blobs: Sequence[Descriptor]
    documents: Sequence[Document]

    @property
    def target(self) -> Descriptor:
        return self.documents[-1].described


class Pusher:
    def __init__(
        self,
        store: Store,
        naming: Naming,
        documents: Documents,
        transport: Transport,
        concurrent_uploads: int = MAX_CONCURRENT_UPLOADS,
    ) -> None:
        self._store, self._naming = store, naming
        self._documents, self._transport = documents, transport
        self.limit(concurrent_uploads)

    def limit(self, concurrent_uploads: int) -> None:
        """From the next upload on; those under way are not counted."""
        self._uploads = asyncio.Semaphore(concurrent_uploads)

    async def run(
        self,
        ref: Reference,
        platform: Platform | None,
        credentials: Credentials,
        progress: Progress,
    ) -> None:
        """`ref` names an image here and its place there; without a tag, all tags that are here.

        With a platform only the image for it is sent, by itself. Events: push.
        """
        pushed = await self._chosen(ref)
        if not pushed:
            raise errors.NotFound(
                f"An image does not exist locally with the tag: {ref.familiar_name}"
            )
        repository = open_repository(
            self._transport, ref.domain, ref.path, ref.familiar_name, credentials
        )
        progress.status(f"The push refers to repository [{ref.name}]")
        for each, record in pushed:
            await self._push(each, record, platform, repository, progress)

    async def _chosen(self, ref: Reference) -> list[tuple[Reference, Record]]:
        if ref.tag or ref.digest:
            record = await self._naming.record_of(ref)
            return [(ref, record)] if record is not None else []
        catalog = await self._naming.load()
        return [(reference.parse(found.name), found) for found in catalog.tagged(ref.name)]

    async def _push(
        self,
        ref: Reference,
        record: Record,
        platform: Platform | None,
        repository: Repository,
        progress: Progress,
    ) -> None:
        plan = await self._plan(record.target, platform)
        if platform is None and plan.target.digest != record.target.digest:
            progress.line({"progressDetail": {}, "aux": _instead(record.target, plan.target)})
        lines = [
            progress.layer(blob.digest) if blob.media_type in oci.LAYERS else None
            for blob in plan.blobs
        ]
        for line in lines:
            if line:
                line.word("Preparing")
        async with asyncio.TaskGroup() as group:
            for blob, line in zip(plan.blobs, lines, strict=True):
                group.create_task(self._blob(repository, ref, blob, line))
        await self._send_documents(repository, ref, plan)
        target = plan.target
        if target.digest == record.target.digest:
            labels = {**record.labels, PULLED_LABEL: "true"}
            await self._naming.point(record.name, record.target, labels)
        progress.status(f"{ref.tag or ref.digest}: digest: {target.digest} size: {target.size}")
        progress.line(
            {
                "progressDetail": {},
                "aux": {"Tag": ref.tag, "Digest": target.digest, "Size": target.size},
            }
        )
        self._naming.announce("push", ref.familiar, ref.familiar_name, {})

    async def _send_documents(self, repository: Repository, ref: Reference, plan: Plan) -> None:
        """Those that others name by digest, then the one with the name; all get where they are."""
        for document in plan.documents[:-1]:
            described = document.described
            await repository.put_manifest(described.digest, described.media_type, document.raw)
        raw = plan.documents[-1].raw
        await repository.put_manifest(ref.digest or ref.tag, plan.target.media_type, raw)
        for document in plan.documents:
            digest = document.described.digest
            found = await self._store.get_blob(digest)
            origin = names.with_source(found.labels if found else {}, ref.domain, ref.path)
            if found and origin:
                await self._store.label_blob(digest, origin)

    async def _plan(self, target: Descriptor, platform: Platform | None) -> Plan:
        if platform is None and target.media_type in oci.INDEXES:
            try:
                return await self._everything(target)
            except errors.NotFound:
                pass  # not all platforms are here
        found, manifest = await self._documents.manifest(target, platform)
        raw = await read_blob(self._store, found.digest, MAX_MANIFEST_BYTES)
        media_type = manifest.media_type if found.media_type in oci.INDEXES else found.media_type
        described = Descriptor(media_type, found.digest, len(raw))
        blobs = [
            blob
            for blob in _blobs(manifest)
            if not blob.media_type.startswith(FOREIGN_PREFIXES)
            or await self._store.get_blob(blob.digest) is not None
        ]
        return Plan(blobs, [Document(described, raw)])

    async def _everything(self, target: Descriptor, depth: int = 0) -> Plan:
        """An index and all that it leads to. Raises NotFound where something is not here."""
        if depth > MAX_INDEX_DEPTH:
            raise errors.InvalidArgument(f"index {target.digest} is nested too deeply")
        raw = await read_blob(self._store, target.digest, MAX_MANIFEST_BYTES)
        parsed = oci.parse(raw, target.media_type)
        own = Document(Descriptor(parsed.media_type, target.digest, len(raw)), raw)
        if isinstance(parsed, Manifest):
            blobs = _blobs(parsed)
            for blob in blobs:
                foreign = blob.media_type.startswith(FOREIGN_PREFIXES)
                if await self._store.get_blob(blob.digest) is None and not foreign:
                    raise errors.NotFound(f"content {blob.digest} is not here")
            return Plan(blobs, [own])
        plans = [await self._everything(entry, depth + 1) for entry in parsed.manifests]
        every = {blob.digest: blob for plan in plans for blob in plan.blobs}
        documents = {doc.described.digest: doc for plan in plans for doc in plan.documents}
        return Plan(list(every.values()), [*documents.values(), own])

    async def _blob(
        self, repository: Repository, ref: Reference, blob: Descriptor, line: LayerProgress | None
    ) -> None:
        if self._uploads.locked() and line:
            line.word("Waiting")
        async with self._uploads:
            if await repository.has_blob(blob.digest):
                word = "Layer already exists"
            else:
                known = await self._store.get_blob(blob.digest)
                sources = names.sources(known.labels if known else {}, ref.domain)
                mounted = await repository.upload_blob(
                    blob.digest,
                    blob.size,
                    lambda offset: self._counted(blob, line, offset),
                    [source for source in sources if source != ref.path],
                )
                word = f"Mounted from {mounted}" if mounted else "Pushed"
            found = await self._store.get_blob(blob.digest)
            origin = names.with_source(found.labels if found else {}, ref.domain, ref.path)
            if origin:
                await self._store.label_blob(blob.digest, origin)
        if line:
            line.word(word)

    async def _counted(
        self, blob: Descriptor, line: LayerProgress | None, offset: int
    ) -> AsyncGenerator[bytes, None]:
        sent = offset
        async with aclosing(self._store.read(blob.digest, offset)) as chunks:
            async for chunk in chunks:
                sent += len(chunk)
                if line:
                    line.amount("Pushing", sent, blob.size)
                yield chunk


def _instead(index: Descriptor, chosen: Descriptor) -> dict[str, Any]:
    """That one platform goes, for not all of the index is here. API: moby's auxprogress."""
    return {
        "manifestPushedInsteadOfIndex": True,
        "originalIndex": index.document(),
        "selectedManifest": chosen.document(),
    }


def _blobs(manifest: Manifest) -> list[Descriptor]:
    """Layers, then the config. Foreign layers go like any other where they are here."""
    return [*{one.digest: one for one in manifest.layers}.values(), manifest.config]
