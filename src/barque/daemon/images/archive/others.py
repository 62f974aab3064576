"""What an index in an archive has beside the manifest that is unpacked: kept, not unpacked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from barque import errors
from barque.daemon.images.archive.contents import Contents, blob_path
from barque.daemon.images.assemble import Assembler
from barque.daemon.images.documents import (
    MAX_CONFIG_BYTES,
    MAX_INDEX_DEPTH,
    MAX_MANIFEST_BYTES,
    MAX_MANIFESTS,
    SUBJECT_ANNOTATION,
)
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci.image import Descriptor, Index, Manifest, Platform


async def document(contents: Contents, described: Descriptor, limit: int) -> bytes:
    """A blob of the archive. Raises DataLoss where it is not what its descriptor says."""
    raw = await contents.document(blob_path(described.digest), limit)
    if len(raw) != described.size or digests.sha256(raw) != described.digest:
        raise errors.DataLoss(f"blob {described.digest} in the archive has other bytes")
    return raw


async def store_layer(contents: Contents, layer: Descriptor) -> None:
    """A layer of the archive comes into the store. Raises DataLoss as `document`."""
    stored = await contents.layer(blob_path(layer.digest))
    if (stored.digest, stored.size) != (layer.digest, layer.size):
        raise errors.DataLoss(f"layer {layer.digest} in the archive has other bytes")


class Others:
    def __init__(self, contents: Contents, assembler: Assembler) -> None:
        self._contents, self._assembler = contents, assembler

    async def store(self, top: Descriptor, known: str, platforms: Sequence[Platform]) -> None:
        """All manifests below `top` that are in the archive, but for `known`; of images, only
        those for `platforms` where these are given. Raises NotFound for one that is missing.
        """
        entries: list[tuple[Descriptor, Manifest]] = []
        await self._descend(top, 0, entries, {known})
        for platform in platforms[1:]:
            if not any(e.platform and oci.matches(platform, e.platform) for e, _ in entries):
                raise errors.NotFound(f"no image for platform {platform} in the archive")
        wanted = {known}
        for entry, manifest in sorted(entries, key=_attests):  # what they are about comes first
            about = entry.annotations.get(SUBJECT_ANNOTATION)
            chosen = not platforms or any(
                entry.platform and oci.matches(platform, entry.platform) for platform in platforms
            )
            if about in wanted or (chosen and about is None):
                wanted.add(entry.digest)
                await self._keep(manifest)

    async def _descend(
        self,
        entry: Descriptor,
        depth: int,
        found: list[tuple[Descriptor, Manifest]],
        seen: set[str],
    ) -> None:
        if entry.digest in seen or blob_path(entry.digest) not in self._contents:
            return
        if depth > MAX_INDEX_DEPTH:
            raise errors.InvalidArgument(f"index {entry.digest} is nested too deeply")
        if len(seen) > MAX_MANIFESTS:
            raise errors.ResourceExhausted(f"image has more than {MAX_MANIFESTS} manifests")
        seen.add(entry.digest)
        raw = await document(self._contents, entry, MAX_MANIFEST_BYTES)
        parsed = oci.parse(raw, entry.media_type)
        if isinstance(parsed, Index):
            for one in parsed.manifests:
                await self._descend(one, depth + 1, found, seen)
            if depth:
                await self._assembler.index(parsed, self._contents.lease)
        elif self._whole(parsed):
            found.append((entry, parsed))

    def _whole(self, manifest: Manifest) -> bool:
        blobs = (manifest.config, *manifest.layers)
        return all(blob_path(blob.digest) in self._contents for blob in blobs)

    async def _keep(self, manifest: Manifest) -> None:
        raw = await document(self._contents, manifest.config, MAX_CONFIG_BYTES)
        lease, config = self._contents.lease, manifest.config.digest
        await self._contents.store.write(_once(raw), lease, digest=config, size=len(raw))
        for layer in manifest.layers:
            await store_layer(self._contents, layer)
        await self._assembler.manifest(manifest, lease)


def _attests(found: tuple[Descriptor, Manifest]) -> bool:
    return SUBJECT_ANNOTATION in found[0].annotations


async def _once(raw: bytes) -> AsyncIterator[bytes]:
    yield raw
