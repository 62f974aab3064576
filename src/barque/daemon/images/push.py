"""`docker push`: one image of the store to a registry, blobs before the documents that name them.

Layers go as they are stored: a push and a pull of the same image have the same digests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from barque import errors
from barque.daemon.images.documents import MAX_MANIFEST_BYTES, Documents, read_blob
from barque.daemon.images.names import PULLED_LABEL
from barque.daemon.images.naming import Naming
from barque.daemon.images.progress import LayerProgress, Progress
from barque.daemon.images.store import Record, Store
from barque.oci import image as oci
from barque.oci import reference
from barque.oci.image import Descriptor, Manifest
from barque.oci.reference import Reference
from barque.registry import Credentials, Repository, Transport, open_repository


class Pusher:
    def __init__(
        self, store: Store, naming: Naming, documents: Documents, transport: Transport
    ) -> None:
        self._store, self._naming = store, naming
        self._documents, self._transport = documents, transport

    async def run(self, ref: Reference, credentials: Credentials, progress: Progress) -> None:
        """`ref` names an image here and its place there; without a tag, all tags that are here.

        Events: push.
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
            await self._push(each, record, repository, progress)

    async def _chosen(self, ref: Reference) -> list[tuple[Reference, Record]]:
        if ref.tag or ref.digest:
            record = await self._naming.record_of(ref)
            return [(ref, record)] if record is not None else []
        catalog = await self._naming.load()
        return [(reference.parse(found.name), found) for found in catalog.tagged(ref.name)]

    async def _push(
        self, ref: Reference, record: Record, repository: Repository, progress: Progress
    ) -> None:
        target, manifest = await self._whole(record.target)
        for layer in manifest.layers:
            await self._blob(repository, layer, progress.layer(layer.digest))
        await self._blob(repository, manifest.config, None)
        await repository.put_manifest(ref.digest or ref.tag, target.media_type, manifest.raw)
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

    async def _whole(self, target: Descriptor) -> tuple[Descriptor, Manifest]:
        """The manifest to push. Of an index, only the platform that is here can be."""
        found, manifest = await self._documents.manifest(target)
        raw = await read_blob(self._store, found.digest, MAX_MANIFEST_BYTES)
        media_type = manifest.media_type if found.media_type in oci.INDEXES else found.media_type
        return Descriptor(media_type, found.digest, len(raw)), manifest

    async def _blob(
        self, repository: Repository, blob: Descriptor, line: LayerProgress | None
    ) -> None:
        if await repository.has_blob(blob.digest):
            if line:
                line.word("Layer already exists")
            return
        if line:
            line.word("Preparing")
        await repository.upload_blob(blob.digest, blob.size, lambda: self._counted(blob, line))
        if line:
            line.word("Pushed")

    async def _counted(self, blob: Descriptor, line: LayerProgress | None) -> AsyncIterator[bytes]:
        sent = 0
        async with aclosing(self._store.read(blob.digest)) as chunks:
            async for chunk in chunks:
                sent += len(chunk)
                if line:
                    line.amount("Pushing", sent, blob.size)
                yield chunk
