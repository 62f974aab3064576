"""A root file system from the client becomes an image of one layer: `docker import -`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import msgspec

from barque import errors
from barque.daemon.images import changes, names
from barque.daemon.images.archive import compression
from barque.daemon.images.assemble import Assembler
from barque.daemon.images.naming import Naming
from barque.daemon.images.progress import Progress
from barque.daemon.images.store import Store
from barque.daemon.images.unpack import Unpacker
from barque.daemon.moments import rfc3339_now
from barque.oci import image as oci
from barque.oci.image import Config, Descriptor, Manifest, Platform
from barque.oci.reference import Reference
from barque.registry import Transport
from barque.registry.addresses import Address


def new_config(
    platform: Platform, defaults: dict[str, Any], diff_id: str, message: str, created: str
) -> Config:
    """The config of an imported image."""
    history: dict[str, Any] = {"created": created}
    if message:
        history["comment"] = message
    document = {
        **platform.document(),
        "config": defaults,
        "created": created,
        "history": [history],
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    return oci.parse_config(msgspec.json.encode(document, order="sorted"))


def new_manifest(config: Config, digest: str, layers: Sequence[Descriptor]) -> Manifest:
    """`digest` is that of the config's bytes."""
    described = Descriptor(oci.OCI_CONFIG, digest, len(config.raw))
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": described.document(),
        "layers": [layer.document() for layer in layers],
    }
    raw = msgspec.json.encode(document)
    return Manifest(raw, oci.OCI_MANIFEST, described, tuple(layers))


class Importer:
    def __init__(
        self,
        store: Store,
        unpacker: Unpacker,
        assembler: Assembler,
        naming: Naming,
        host: Platform,
    ) -> None:
        self._store, self._unpacker, self._assembler = store, unpacker, assembler
        self._naming, self._host = naming, host

    async def run(
        self,
        chunks: AsyncIterator[bytes],
        ref: Reference | None,
        message: str,
        change: Sequence[str],
        platform: Platform | None,
        progress: Progress,
        source: str = "-",
    ) -> str:
        """Returns the id of the new image, named `ref` or dangling. Event: import.

        `source` is for the message: where the archive comes from.

        The archive may be compressed by gzip or zstd, and is kept so; xz and bzip2 are undone.
        Raises InvalidArgument for a change that is not known, before anything is read.
        """
        defaults = changes.apply({}, change)
        async with self._store.lease() as lease:
            layer, diff_id = await self._layer(chunks, lease)
            config = new_config(
                platform or self._host,
                defaults,
                diff_id,
                message or f"Imported from {source}",
                rfc3339_now(),
            )
            written = await self._assembler.config(config, lease)
            manifest = new_manifest(config, written.digest, [layer])
            target, labels = await self._assembler.single(manifest, config, lease)
            name = names.full_name(ref) if ref else names.dangling_name(target.digest)
            await self._naming.point(name, target, labels)
        progress.status(written.digest)
        self._naming.announce("import", written.digest, written.digest, {})
        return written.digest

    async def _layer(self, chunks: AsyncIterator[bytes], lease: str) -> tuple[Descriptor, str]:
        kind, stream = await compression.layer_stream(chunks)
        return await self._unpacker.written_base(stream, oci.OCI_LAYER + kind, lease)


async def download(
    transport: Transport, address: Address, progress: Progress
) -> AsyncGenerator[bytes, None]:
    """The archive at a URL that the user named; without credentials. Raises Unavailable."""
    progress.status(f"Downloading from {address.shown}")
    line = progress.item("")
    async with transport.exchange("GET", address, {}) as answer:
        if answer.head.status != 200:
            raise errors.Unavailable(f"{address.shown}: got HTTP status {answer.head.status}")
        length = answer.head.headers.get("content-length", "0")
        total, received = int(length) if length.isdigit() else 0, 0
        async for chunk in answer.chunks():
            received += len(chunk)
            line.amount("Importing", received, total)
            yield chunk
