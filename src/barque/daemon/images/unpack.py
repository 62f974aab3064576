"""Layers become snapshots: one for each chain of layers, shared by all images that begin so.

A layer is verified before its snapshot gets its name: the digest of what was unpacked must be the
diff id that the image's config states (CVE-2014-8178).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from barque import errors
from barque.daemon.images.coming import Bring, Made, as_it_comes
from barque.daemon.images.store import UNCOMPRESSED_LABEL, Store
from barque.oci import digest as digests
from barque.oci.image import FOREIGN_LAYERS, LAYERS, Config, Descriptor, Manifest

T = TypeVar("T")
Ready = dict[str, str]
"""Of one operation: chain id -> key of an active snapshot that has its last layer."""


def check_layers(manifest: Manifest, config: Config) -> None:
    """Raises InvalidArgument or Unsupported where the layers cannot make the image."""
    for layer in manifest.layers:
        if layer.media_type not in LAYERS and layer.media_type not in FOREIGN_LAYERS:
            kind = layer.media_type[:100]
            raise errors.Unsupported(f"layer {layer.digest} has unknown media type {kind!r}")
    if len(manifest.layers) != len(config.diff_ids):
        raise errors.InvalidArgument(
            f"invalid image: {len(manifest.layers)} layers, {len(config.diff_ids)} diff ids"
        )


def _distributed(layer: Descriptor) -> Descriptor:
    """A foreign layer as the archive that it is."""
    kind = FOREIGN_LAYERS.get(layer.media_type)
    return Descriptor(kind, layer.digest, layer.size) if kind else layer


class Unpacker:
    """One chain is unpacked once, however many ask for it at the same time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def has(self, diff_ids: Sequence[str], lease: str) -> bool:
        return await self._store.has_snapshot(digests.chain_id(list(diff_ids)), lease)

    async def ahead(
        self, layer: Descriptor, diff_ids: Sequence[str], lease: str, ready: Ready
    ) -> None:
        """Unpacks `layer` before those below it are there, where the snapshotter can; for `layer`.

        Raises DataLoss when the layer is not what it must be.
        """
        chain = digests.chain_id(list(diff_ids))
        if (
            chain in ready
            or not await self._store.independent_layers()
            or await self.has(diff_ids, lease)
        ):
            return
        ready[chain] = await self._apply(layer, diff_ids, "", lease)

    async def coming(
        self, layer: Descriptor, diff_ids: Sequence[str], lease: str, ready: Ready, bring: Bring[T]
    ) -> None:
        """Brings `layer`, and unpacks it meanwhile where the store can; for `layer`, too."""
        if await self.has(diff_ids, lease):
            await bring(None)
            return
        media_type, first = _distributed(layer).media_type, len(diff_ids) == 1
        _, made = await as_it_comes(self._store, media_type, lease, bring, apart=not first)
        if made is not None and made.diff_id == diff_ids[-1]:
            ready[digests.chain_id(list(diff_ids))] = made.key
        elif made is not None:
            await self._undo(made.key)
        await self.ahead(layer, diff_ids, lease, ready)

    async def layer(
        self,
        layer: Descriptor,
        diff_ids: Sequence[str],
        lease: str,
        ready: Ready | None = None,
    ) -> None:
        """Makes the snapshot of the chain `diff_ids`, whose last is that of `layer`.

        The snapshot below must be there. Raises DataLoss when the layer is not what it must be.
        """
        chain = digests.chain_id(list(diff_ids))
        lock = self._locks.setdefault(chain, asyncio.Lock())
        async with lock:
            key = ready.pop(chain, "") if ready else ""
            if await self._store.has_snapshot(chain, lease):
                if key:  # someone else was faster
                    await self._undo(key)
                return
            parent = digests.chain_id(list(diff_ids[:-1])) if len(diff_ids) > 1 else ""
            late = parent if key else ""
            key = key or await self._apply(layer, diff_ids, parent, lease)
            try:
                await self._store.commit_snapshot(chain, key, lease, late)
            except BaseException:
                await self._undo(key)
                raise
            await self._store.label_blob(layer.digest, {UNCOMPRESSED_LABEL: diff_ids[-1]})

    async def _apply(
        self, layer: Descriptor, diff_ids: Sequence[str], parent: str, lease: str
    ) -> str:
        """The key of an active snapshot with the layer in it. Raises DataLoss."""
        key = f"extract-{secrets.token_hex(8)} {digests.chain_id(list(diff_ids))}"
        try:
            diff_id = await self._store.apply(_distributed(layer), key, parent, lease)
            if diff_id != diff_ids[-1]:
                raise errors.DataLoss(
                    f"layer {layer.digest} unpacks to {diff_id}, "
                    f"the image's config says {diff_ids[-1]}"
                )
        except BaseException:
            await self._undo(key)
            raise
        return key

    async def image(
        self, manifest: Manifest, config: Config, lease: str, made: dict[str, Made] | None = None
    ) -> None:
        """All layers, base first; what is there already costs one question each.

        `made`: what was unpacked as it came, by the digest of its blob.
        """
        check_layers(manifest, config)
        ready: Ready = {}
        for number, layer in enumerate(manifest.layers, start=1):
            one = made.pop(layer.digest, None) if made else None  # it can have one place
            if one is not None and one.diff_id == config.diff_ids[number - 1]:
                ready.setdefault(digests.chain_id(list(config.diff_ids[:number])), one.key)
        layers = [(each, config.diff_ids[:n]) for n, each in enumerate(manifest.layers, start=1)]
        if await self._store.independent_layers():
            begun = [self.ahead(layer, diff_ids, lease, ready) for layer, diff_ids in layers]
            for result in await asyncio.gather(*begun, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
        for layer, diff_ids in layers:
            await self.layer(layer, diff_ids, lease, ready)

    async def written_base(
        self, chunks: AsyncIterator[bytes], media_type: str, lease: str
    ) -> tuple[Descriptor, str]:
        """Stores a first layer and makes its snapshot; the layer, and its diff id."""
        key = f"extract-{secrets.token_hex(8)}"
        try:
            blob, diff_id = await self._store.write_unpacked(chunks, media_type, key, lease)
            await self._store.commit_snapshot(diff_id, key, lease)
        except BaseException:
            await self._undo(key)
            raise
        await self._store.label_blob(blob.digest, {UNCOMPRESSED_LABEL: diff_id})
        return Descriptor(media_type, blob.digest, blob.size), diff_id

    async def _undo(self, key: str) -> None:
        """What failed is what is told; the lease ends the snapshot if we cannot."""
        with suppress(errors.BarqueError):
            await asyncio.shield(self._store.remove_snapshot(key))

    async def size(self, config: Config) -> int:
        """Bytes on disk of all layers of an unpacked image."""
        chains = digests.chain_ids(config.diff_ids)
        return sum([await self._store.snapshot_size(chain) for chain in chains])
