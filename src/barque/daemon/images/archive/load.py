"""`docker load`: images from an archive, as `docker save`, podman, skopeo and buildkit write it.

The archive is read once, as it comes: large members go straight into the store under a lease, where
they stay when an image turns out to need them and are collected when not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.archive import layout
from barque.daemon.images.archive.contents import Contents, blob_path
from barque.daemon.images.archive.others import Others, document, store_layer
from barque.daemon.images.assemble import Assembler
from barque.daemon.images.documents import (
    MAX_CONFIG_BYTES,
    MAX_INDEX_DEPTH,
    MAX_MANIFEST_BYTES,
    Documents,
    choose,
)
from barque.daemon.images.importing import new_manifest
from barque.daemon.images.naming import Naming
from barque.daemon.images.progress import Progress
from barque.daemon.images.store import Store
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci.image import Config, Descriptor, Index, Manifest, Platform
from barque.oci.reference import Reference


class Loader:
    def __init__(
        self, store: Store, assembler: Assembler, naming: Naming, documents: Documents
    ) -> None:
        self._store, self._assembler = store, assembler
        self._naming, self._documents = naming, documents

    async def run(
        self,
        chunks: AsyncIterator[bytes],
        progress: Progress,
        *,
        quiet: bool = False,
        platforms: Sequence[Platform] = (),
    ) -> None:
        """Loads every image of an archive, for `platforms` or for all that it has. Events: load.

        The first platform, or the host's, is unpacked; others are kept as they are.

        Raises InvalidArgument for what is no archive of images, DataLoss where bytes are not those
        of their digest. Images before the one that fails are loaded.
        """
        async with self._store.lease() as lease:
            contents = Contents(self._store, lease)
            await contents.fill(chunks, None if quiet else progress)
            if "index.json" in contents and "oci-layout" in contents:
                await self._layout(contents, progress, platforms)
            elif "manifest.json" in contents:
                await self._docker(contents, progress, platforms)
            else:
                raise errors.InvalidArgument(
                    "invalid archive: neither manifest.json nor index.json is in it"
                )

    async def _docker(
        self, contents: Contents, progress: Progress, platforms: Sequence[Platform]
    ) -> None:
        raw = await contents.document("manifest.json", MAX_MANIFEST_BYTES)
        for image in layout.parse_docker(raw):
            config = oci.parse_config(await contents.document(image.config, MAX_CONFIG_BYTES))
            for platform in platforms:
                _check_platform(config, platform)
            layers = [await contents.layer(name) for name in image.layers]
            manifest = new_manifest(config, digests.sha256(config.raw), layers)
            target, labels = await self._assembler.single(
                manifest, config, contents.lease, contents.made
            )
            await self._name(image.tags, target, labels, config, progress)

    async def _layout(
        self, contents: Contents, progress: Progress, platforms: Sequence[Platform]
    ) -> None:
        index = oci.parse(await contents.document("index.json", MAX_MANIFEST_BYTES), oci.OCI_INDEX)
        assert isinstance(index, Index)
        if not index.manifests:
            raise errors.InvalidArgument("invalid archive: there is no image in it")
        tags = await self._docker_tags(contents)
        for entry in index.manifests[: layout.MAX_IMAGES]:
            await self._entry(contents, entry, tags, progress, platforms)

    async def _docker_tags(self, contents: Contents) -> dict[str, tuple[Reference, ...]]:
        """Names by the digest of the config: newer archives of Docker have both forms."""
        if "manifest.json" not in contents:
            return {}
        raw = await contents.document("manifest.json", MAX_MANIFEST_BYTES)
        found: dict[str, tuple[Reference, ...]] = {}
        for image in layout.parse_docker(raw):
            digest = digests.sha256(await contents.document(image.config, MAX_CONFIG_BYTES))
            found[digest] = (*found.get(digest, ()), *image.tags)
        return found

    async def _entry(
        self,
        contents: Contents,
        entry: Descriptor,
        tags: dict[str, tuple[Reference, ...]],
        progress: Progress,
        platforms: Sequence[Platform],
    ) -> None:
        platform = platforms[0] if platforms else None
        indexes, described, manifest = await self._descend(contents, entry, platform)
        config_raw = await document(contents, manifest.config, MAX_CONFIG_BYTES)
        config = oci.parse_config(config_raw)
        _check_platform(config, platform)
        for layer in manifest.layers:
            await store_layer(contents, layer)
        target, labels = await self._assembler.single(
            manifest, config, contents.lease, contents.made
        )
        if target.digest != described.digest:
            raise errors.DataLoss(f"manifest {described.digest} in the archive has other bytes")
        if indexes:
            await Others(contents, self._assembler).store(entry, described.digest, platforms)
        for index in reversed(indexes):
            await self._assembler.index(index, contents.lease)
        name = layout.oci_name(dict(entry.annotations))
        own = (name,) if name else tags.get(manifest.config.digest, ())
        top = Descriptor(entry.media_type, entry.digest, entry.size)
        await self._name(own, top, labels, config, progress)

    async def _descend(
        self, contents: Contents, entry: Descriptor, platform: Platform | None
    ) -> tuple[list[Index], Descriptor, Manifest]:
        """From an entry to the manifest for this host or `platform`, by the indexes on the way."""
        indexes: list[Index] = []
        while len(indexes) <= MAX_INDEX_DEPTH:
            parsed = oci.parse(
                await document(contents, entry, MAX_MANIFEST_BYTES), entry.media_type
            )
            if isinstance(parsed, Manifest):
                return indexes, entry, parsed
            indexes.append(parsed)
            found = choose(parsed, platform) if platform is not None else None
            if platform is not None and found is None:
                raise errors.NotFound(f"no image for platform {platform} in the archive")
            entry = found or self._documents.choose_present(
                parsed, lambda digest: blob_path(digest) in contents
            )
        raise errors.InvalidArgument(f"index {entry.digest} is nested too deeply")

    async def _name(
        self,
        tags: Iterable[Reference],
        target: Descriptor,
        labels: dict[str, str],
        config: Config,
        progress: Progress,
    ) -> None:
        image_id = labels[names.ID_LABEL]
        found = list(tags)
        if not found:
            await self._naming.keep(target, labels, image_id)
            progress.stream(f"Loaded image ID: {image_id}\n")
            self._naming.announce("load", image_id, image_id, {})
        for ref in found:
            await self._naming.point(names.full_name(ref), target, labels)
            progress.stream(f"Loaded image: {ref.familiar}\n")
            self._naming.announce("load", image_id, ref.familiar, {})


def _check_platform(config: Config, wanted: Platform | None) -> None:
    if wanted is not None and not oci.matches(wanted, config.platform):
        raise errors.NotFound(
            f"the image in the archive is for {config.platform}, not for platform {wanted}"
        )
