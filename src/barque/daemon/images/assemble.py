"""Documents go into the store from the leaves to the root, each with labels that keep its children.

record ──> index ──m.N──> manifest ──config, l.N──> blobs;  config ──snapshot──> top of its chain
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import msgspec

from barque.daemon.images import names
from barque.daemon.images.coming import Made
from barque.daemon.images.store import Blob, Store
from barque.daemon.images.unpack import Unpacker
from barque.daemon.moments import unix_seconds
from barque.oci import digest as digests
from barque.oci.image import Config, Descriptor, Index, Manifest

GC_CONTENT = "containerd.io/gc.ref.content."
GC_SNAPSHOT = "containerd.io/gc.ref.snapshot."


async def _whole(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


class Assembler:
    def __init__(self, store: Store, unpacker: Unpacker) -> None:
        self._store, self._unpacker = store, unpacker

    async def document(self, raw: bytes, lease: str, labels: Mapping[str, str]) -> Blob:
        digest = digests.sha256(raw)
        return await self._store.write(
            _whole(raw), lease, digest=digest, size=len(raw), labels=labels
        )

    async def config(self, config: Config, lease: str) -> Blob:
        """Its snapshots are kept with it: they must be there, or must be made under this lease."""
        labels = {}
        if config.diff_ids:
            top = digests.chain_id(config.diff_ids)
            labels = {GC_SNAPSHOT + self._store.snapshotter: top}
        return await self.document(config.raw, lease, labels)

    async def manifest(self, manifest: Manifest, lease: str) -> Blob:
        labels = {GC_CONTENT + "config": manifest.config.digest}
        for number, layer in enumerate(manifest.layers):
            labels[f"{GC_CONTENT}l.{number}"] = layer.digest
        return await self.document(manifest.raw, lease, labels)

    async def index(self, index: Index, lease: str) -> Blob:
        labels = {f"{GC_CONTENT}m.{n}": entry.digest for n, entry in enumerate(index.manifests)}
        return await self.document(index.raw, lease, labels)

    async def labels(
        self, manifest_digest: str, manifest: Manifest, config: Config
    ) -> dict[str, str]:
        """What a record of this image says of it, once it is unpacked."""
        return {
            names.ID_LABEL: manifest.config.digest,
            names.MANIFEST_LABEL: manifest_digest,
            names.SIZE_LABEL: str(await self._unpacker.size(config)),
            **summary_labels(config),
        }

    async def single(
        self,
        manifest: Manifest,
        config: Config,
        lease: str,
        made: dict[str, Made] | None = None,
    ) -> tuple[Descriptor, dict[str, str]]:
        """An image of one platform whose layers are in the store: unpacked, its documents written.

        Returns what its name is to point at, with the labels for the record. `made`: see
        `Unpacker.image`.
        """
        await self._unpacker.image(manifest, config, lease, made)
        await self.config(config, lease)
        blob = await self.manifest(manifest, lease)
        target = Descriptor(manifest.media_type, blob.digest, blob.size)
        return target, await self.labels(blob.digest, manifest, config)


def summary_labels(config: Config) -> dict[str, str]:
    """What a listing shows of an image, so that it need not read every config."""
    found = {names.CREATED_LABEL: str(unix_seconds(config.document.get("created")))}
    labels = msgspec.json.encode(config.defaults.get("Labels") or {}).decode()
    if len(labels) <= names.MAX_LABELS_CHARACTERS and labels.isascii():
        found[names.LABELS_LABEL] = labels
    return found
