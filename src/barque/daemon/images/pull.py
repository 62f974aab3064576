"""`docker pull`: from a registry into the store, verified, unpacked, named.

    manifest ── index? ── manifest of the platform ── config ┐
                                       layers, several at once ┴─> unpacked in order ──> named

All under one lease. The name changes last: a pull that breaks off leaves the old image as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.assemble import Assembler
from barque.daemon.images.attestations import Attestations
from barque.daemon.images.documents import MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, choose_any
from barque.daemon.images.naming import Naming
from barque.daemon.images.progress import LayerProgress, Progress
from barque.daemon.images.store import Begun, Store
from barque.daemon.images.unpack import Ready, Unpacker, check_layers
from barque.oci import image as oci
from barque.oci.image import Config, Descriptor, Index, Manifest, Platform
from barque.oci.reference import DEFAULT_DOMAIN, Reference
from barque.registry import (
    Credentials,
    Fetched,
    ReadFrom,
    Source,
    Transport,
    authenticate,
    foreign_blob,
    open_source,
    verification,
)

MAX_CONCURRENT_DOWNLOADS = 3
MAX_INDEXES = 16  # of one image: each is a question to the registry


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference led to at the registry."""

    target: Descriptor
    indexes: tuple[Index, ...]  # that led to it, outermost first
    digest: str  # of the manifest
    manifest: Manifest


class Puller:
    def __init__(
        self,
        store: Store,
        unpacker: Unpacker,
        assembler: Assembler,
        naming: Naming,
        transport: Transport,
        host: Platform,
        concurrent_downloads: int = MAX_CONCURRENT_DOWNLOADS,
    ) -> None:
        self._store, self._unpacker, self._assembler = store, unpacker, assembler
        self._naming, self._transport, self._host = naming, transport, host
        self._attestations = Attestations(store)
        self._downloads = asyncio.Semaphore(concurrent_downloads)
        self._blobs: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def repository(self, ref: Reference, credentials: Credentials) -> Source:
        return open_source(self._transport, ref.domain, ref.path, ref.familiar_name, credentials)

    def limit(self, concurrent_downloads: int) -> None:
        """From the next download on; those under way are not counted."""
        self._downloads = asyncio.Semaphore(concurrent_downloads)

    async def authenticate(self, server: str, credentials: Credentials) -> None:
        """Asks a registry (a domain or URL, "" for Docker Hub) whether it takes `credentials`."""
        domain = server.partition("://")[2] or server
        domain = domain.partition("/")[0] or DEFAULT_DOMAIN
        await authenticate(self._transport, domain, credentials)

    async def run(
        self,
        ref: Reference,
        platform: Platform | None,
        credentials: Credentials,
        progress: Progress,
    ) -> str:
        """Returns the image's id. `ref` has a tag or a digest. Events: pull."""
        repository = self.repository(ref, credentials)
        found = await self._find(repository, ref, platform)
        wanted = ref.digest or ref.tag
        progress.status(f"Pulling from {ref.path}", wanted)
        image_id = found.manifest.config.digest
        name = names.full_name(ref)
        record = await self._naming.record_of(ref)
        changed = True
        if (
            record is None
            or record.target.digest != found.target.digest
            or record.labels.get(names.ID_LABEL) != image_id
        ):
            async with self._store.lease() as lease:
                labels = await self._fetch(repository, ref, found, platform, lease, progress)
                labels[names.PULLED_LABEL] = "true"
                changed = await self._naming.point(name, found.target, labels)
        else:
            changed = False
        progress.status(f"Digest: {found.target.digest}")
        word = "Downloaded newer image" if changed else "Image is up to date"
        progress.status(f"Status: {word} for {ref.familiar}")
        await self._announce(ref, name)
        return image_id

    async def _announce(self, ref: Reference, name: str) -> None:
        image = await self._naming.resolve(names.display(name))
        self._naming.announce("pull", ref.familiar, ref.familiar_name, image.labels)

    async def _find(self, repository: Source, ref: Reference, platform: Platform | None) -> Found:
        fetched = await repository.manifest(ref.digest or ref.tag)
        parsed = _parse(fetched)
        target = Descriptor(parsed.media_type, fetched.digest, len(fetched.raw))
        if isinstance(parsed, Manifest):
            return Found(target, (), fetched.digest, parsed)
        wanted = [platform] if platform else oci.runnable(self._host)
        found = await _below(repository, (parsed,), wanted, [fetched.digest])
        if found is None:
            raise errors.NotFound(
                f"no matching manifest for {wanted[0]} in the manifest list entries "
                f"of {ref.familiar}"
            )
        indexes, entry, manifest = found
        return Found(target, indexes, entry.digest, manifest)

    async def _fetch(
        self,
        repository: Source,
        ref: Reference,
        found: Found,
        platform: Platform | None,
        lease: str,
        progress: Progress,
    ) -> dict[str, str]:
        """Everything below the name; returns the labels for its record."""
        manifest = found.manifest
        config = await self._config(repository, manifest.config)
        check_layers(manifest, config)
        if platform is not None and not oci.matches(platform, config.platform):
            raise errors.NotFound(
                f"image was found but its platform ({config.platform}) does not match "
                f"the specified platform ({platform})"
            )
        async with asyncio.TaskGroup() as group:
            notes = group.create_task(
                self._attestations.fetch(repository, found.indexes, found.digest, lease)
            )
            await self._layers(repository, ref, manifest, config, lease, progress)
            await notes
        await self._assembler.config(config, lease)
        blob = await self._assembler.manifest(manifest, lease)
        if origin := names.with_source(blob.labels, ref.domain, ref.path):
            await self._store.label_blob(blob.digest, origin)
        for index in reversed(found.indexes):
            await self._assembler.index(index, lease)
        return await self._assembler.labels(found.digest, manifest, config)

    async def _layers(
        self,
        repository: Source,
        ref: Reference,
        manifest: Manifest,
        config: Config,
        lease: str,
        progress: Progress,
    ) -> None:
        """All fetched at once; each is a snapshot once those below it are."""
        lines = [progress.layer(layer.digest) for layer in manifest.layers]
        for line in lines:
            line.word("Pulling fs layer")
        ready: Ready = {}
        async with asyncio.TaskGroup() as group:

            async def arrive(number: int, layer: Descriptor) -> None:
                bring = partial(self._download, repository, ref, layer, lease, lines[number - 1])
                await self._unpacker.coming(layer, config.diff_ids[:number], lease, ready, bring)

            arrivals = [
                group.create_task(arrive(number, layer))
                for number, layer in enumerate(manifest.layers, start=1)
            ]
            for number, layer in enumerate(manifest.layers, start=1):
                await arrivals[number - 1]
                diff_ids, line = config.diff_ids[:number], lines[number - 1]
                await self._extract(layer, diff_ids, lease, line, ready)

    async def _config(self, repository: Source, described: Descriptor) -> Config:
        """Read whole before any layer: what cannot be run is refused early."""
        if described.media_type not in oci.CONFIGS:
            kind = described.media_type[:100]
            raise errors.InvalidArgument(
                f"invalid image: its config has media type {kind!r}, it is no container image"
            )
        if described.size > MAX_CONFIG_BYTES:
            raise errors.ResourceExhausted(
                f"image config {described.digest} is larger than {MAX_CONFIG_BYTES} bytes"
            )
        raw = bytearray()
        async with aclosing(repository.blob(described.digest, described.size)) as chunks:
            async for chunk in chunks:
                raw += chunk
        return oci.parse_config(bytes(raw))

    async def _download(
        self,
        repository: Source,
        ref: Reference,
        layer: Descriptor,
        lease: str,
        line: LayerProgress,
        begun: Begun | None,
    ) -> None:
        lock = self._blobs.setdefault(layer.digest, asyncio.Lock())
        if lock.locked() or self._downloads.locked():
            line.word("Waiting")
        async with lock, self._downloads:  # the same layer of two pulls comes once
            known = await self._store.get_blob(layer.digest, lease)
            origin = names.with_source(known.labels if known else {}, ref.domain, ref.path)
            if known is not None:
                if origin:
                    await self._store.label_blob(layer.digest, origin)
                return
            read = self._source(repository, ref, layer)
            try:
                await self._store.fetch(
                    lambda offset: _counted(read, layer, line, offset),
                    lease,
                    digest=layer.digest,
                    size=layer.size,
                    labels=origin,
                    begun=begun,
                )
            except errors.DataLoss as error:
                if not str(error).startswith("unexpected commit digest"):  # containerd's words
                    raise
                raise verification(layer.digest) from error
            line.word("Download complete")

    def _source(self, repository: Source, ref: Reference, layer: Descriptor) -> ReadFrom:
        """A foreign layer is where its URLs say, where it has any. The store looks at digests."""
        if layer.media_type in oci.FOREIGN_LAYERS and layer.urls:
            return lambda offset: foreign_blob(
                self._transport, ref.domain, layer.urls, layer.digest, layer.size, offset
            )
        return lambda offset: repository.blob(layer.digest, layer.size, offset, checked=False)

    async def _extract(
        self,
        layer: Descriptor,
        diff_ids: tuple[str, ...],
        lease: str,
        line: LayerProgress,
        ready: Ready,
    ) -> None:
        if await self._unpacker.has(diff_ids, lease):
            line.word("Already exists")
            return
        line.amount("Extracting", 0, layer.size)
        await self._unpacker.layer(layer, diff_ids, lease, ready)
        line.amount("Extracting", layer.size, layer.size)
        line.word("Pull complete")


async def _below(
    repository: Source, indexes: tuple[Index, ...], wanted: Sequence[Platform], asked: list[str]
) -> tuple[tuple[Index, ...], Descriptor, Manifest] | None:
    """The manifest for `wanted` below the last of `indexes`, with the indexes on the way.

    What the index itself has for the platform comes before what an index in it may have. `asked`:
    the digests of all indexes so far, each of which is read once.
    """
    own = choose_any(indexes[-1], wanted)
    nested = (one for one in indexes[-1].manifests if one.media_type in oci.INDEXES)
    for entry in [own] if own is not None else nested:
        if entry.digest in asked:
            continue
        inner = await repository.manifest(entry.digest)
        if len(inner.raw) != entry.size:
            raise errors.DataLoss(f"manifest {entry.digest} has not the size its index says")
        parsed = _parse(inner, entry.media_type)
        if isinstance(parsed, Manifest):
            return indexes, entry, parsed
        if len(indexes) == MAX_INDEX_DEPTH:
            raise errors.InvalidArgument(f"index {entry.digest} is nested too deeply")
        asked.append(entry.digest)
        if len(asked) > MAX_INDEXES:
            raise errors.ResourceExhausted(f"image has more than {MAX_INDEXES} nested indexes")
        if found := await _below(repository, (*indexes, parsed), wanted, asked):
            return found
    return None


def _parse(fetched: Fetched, media_type: str = "") -> Manifest | Index:
    kind = media_type or fetched.media_type
    known = kind in oci.INDEXES or kind in oci.MANIFESTS
    return oci.parse(fetched.raw, kind if known else "")


async def _counted(
    read: ReadFrom, layer: Descriptor, line: LayerProgress, offset: int
) -> AsyncGenerator[bytes, None]:
    received = offset
    async with aclosing(read(offset)) as chunks:
        async for chunk in chunks:
            received += len(chunk)
            line.amount("Downloading", received, layer.size)
            yield chunk
    line.word("Verifying Checksum")
