"""`docker save`: images as one tar, an OCI layout that is a docker-archive too.

oci-layout  index.json  manifest.json  repositories  blobs/sha256/<digits>
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.archive.contents import blob_path
from barque.daemon.images.archive.layout import CONTAINERD_NAME, REF_NAME
from barque.daemon.images.documents import Documents
from barque.daemon.images.naming import Naming
from barque.daemon.images.store import Record, Store
from barque.oci import image as oci
from barque.oci import reference
from barque.oci.image import Descriptor, Manifest, Platform
from barque.oci.reference import Reference

BLOCK_BYTES = 512
RECORD_BYTES = 20 * BLOCK_BYTES
LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


@dataclass(frozen=True, slots=True)
class Saved:
    """One image to be saved: what its name leads to in the archive, and its names.

    `manifest` is what a reader of docker-archives gets; `blobs` all that goes, leaves first.
    """

    described: Descriptor
    manifest: Manifest
    tags: tuple[Reference, ...]
    blobs: tuple[Descriptor, ...]


class Saver:
    def __init__(self, store: Store, naming: Naming, documents: Documents) -> None:
        self._store, self._naming, self._documents = store, naming, documents

    async def run(
        self, wanted: Sequence[str], platforms: Sequence[Platform] = ()
    ) -> AsyncIterator[bytes]:
        """The tar of `wanted`: names, ids, or repositories (all their tags).

        One platform of each, or with `platforms` these. What is here for several platforms goes
        with its index. Raises NotFound for any that is not there, before the first byte.
        """
        records: dict[str, list[Reference]] = {}
        targets: dict[str, Descriptor] = {}
        for text in wanted:
            for record, tag in await self._chosen(text):
                targets[record.target.digest] = record.target
                tags = records.setdefault(record.target.digest, [])
                if tag is not None and tag not in tags:
                    tags.append(tag)
        images = [
            await self._saved(targets[digest], tuple(tags), platforms)
            for digest, tags in records.items()
        ]
        return self._tar(images)

    async def _saved(
        self, target: Descriptor, tags: tuple[Reference, ...], platforms: Sequence[Platform]
    ) -> Saved:
        found = [
            await self._documents.manifest(target, platform) for platform in platforms or (None,)
        ]
        for (_, manifest), platform in zip(found, platforms, strict=False):
            await self._documents.check_platform(manifest, platform)
        if not platforms and target.media_type in oci.INDEXES:
            found += await self._documents.others(target, found[0][0].digest)
        (first, manifest), *more = found
        blobs = [one for each in found for one in _blobs(*each)]
        described = Descriptor(manifest.media_type, first.digest, len(manifest.raw))
        if more:
            blobs += await self._documents.beside(target, [one.digest for one, _ in found])
            described = target
        return Saved(described, manifest, tags, tuple(blobs))

    async def _chosen(self, text: str) -> list[tuple[Record, Reference | None]]:
        """The records that `text` stands for, each with the tag to save it under."""
        catalog = await self._naming.load()
        if not names.as_digits(text):
            ref = reference.parse(text)
            if not ref.tag and not ref.digest:  # a repository: every tag of it
                found = catalog.tagged(ref.name)
                if found:
                    return [(record, reference.parse(record.name)) for record in found]
            record = await self._naming.record_of(ref.with_default_tag())
            if record is not None:
                return [(record, None if ref.digest else ref.with_default_tag())]
        image = await self._naming.resolve(text)
        return [(catalog.records_of(image.id)[0], None)]

    async def _tar(self, images: Sequence[Saved]) -> AsyncIterator[bytes]:
        sent: set[str] = set()
        total = 0
        for image in images:
            for blob in image.blobs:
                if blob.digest in sent:
                    continue
                sent.add(blob.digest)
                async with aclosing(self._blob(blob)) as chunks:
                    async for chunk in chunks:
                        total += len(chunk)
                        yield chunk
        for name, raw in _documents(images).items():
            member = _header(name, len(raw)) + raw + _padding(len(raw))
            total += len(member)
            yield member
        yield bytes(2 * BLOCK_BYTES + -(total + 2 * BLOCK_BYTES) % RECORD_BYTES)

    async def _blob(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        yield _header(blob_path(blob.digest), blob.size)
        left = blob.size
        async with aclosing(self._store.read(blob.digest)) as chunks:
            async for chunk in chunks:
                left -= len(chunk)
                yield chunk
        if left:
            raise errors.DataLoss(f"content {blob.digest} has not the size its manifest says")
        yield _padding(blob.size)


def _blobs(described: Descriptor, manifest: Manifest) -> list[Descriptor]:
    own = Descriptor(manifest.media_type, described.digest, len(manifest.raw))
    return [*manifest.layers, manifest.config, own]


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK_BYTES)


def _documents(images: Sequence[Saved]) -> dict[str, bytes]:
    entries, docker = [], []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        described = image.described.document()
        for tag in image.tags or (None,):
            notes = {CONTAINERD_NAME: tag.full, REF_NAME: tag.tag} if tag else {}
            entries.append({**described, "annotations": notes} if notes else described)
        docker.append(
            {
                "Config": blob_path(image.manifest.config.digest),
                "RepoTags": [tag.familiar for tag in image.tags] or None,
                "Layers": [blob_path(layer.digest) for layer in image.manifest.layers],
            }
        )
        for tag in image.tags:
            top = image.manifest.layers[-1].digest if image.manifest.layers else ""
            known = repositories.setdefault(tag.familiar_name, {})
            known[tag.tag] = top.partition(":")[2]
    index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
    found = {
        "oci-layout": LAYOUT,
        "index.json": msgspec.json.encode(index),
        "manifest.json": msgspec.json.encode(docker),
    }
    if repositories:
        found["repositories"] = msgspec.json.encode(repositories)
    return found
