"""Attestations of an image: in-toto statements in manifests beside its own, in the same index.

    index ──> manifest of a platform
          └─> attestation manifest ──layers──> statements
              (annotation vnd.docker.reference.digest: the manifest above)

Source: BuildKit, docs/attestations/attestation-storage.md; API: ImageAttestations.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from barque import errors
from barque.daemon.images.assemble import GC_CONTENT
from barque.daemon.images.documents import (
    MAX_MANIFEST_BYTES,
    SUBJECT_ANNOTATION,
    leaves,
    read_blob,
)
from barque.daemon.images.manifests import ATTESTATION, KIND_ANNOTATION
from barque.daemon.images.store import Store
from barque.oci import image as oci
from barque.oci.image import Descriptor, Index, Manifest
from barque.registry import Source

STATEMENT = "application/vnd.in-toto+json"
PREDICATE_ANNOTATION = "in-toto.io/predicate-type"
MAX_STATEMENT_BYTES = 64 << 20
MAX_ATTESTATIONS = 16  # manifests of one image

log = logging.getLogger(__name__)


def of_manifest(entries: Sequence[Descriptor], manifest: str) -> list[Descriptor]:
    """Those of `entries` that attest something of the manifest with this digest."""
    return [
        entry
        for entry in entries
        if entry.annotations.get(KIND_ANNOTATION) == ATTESTATION
        and entry.annotations.get(SUBJECT_ANNOTATION) == manifest
    ][:MAX_ATTESTATIONS]


class Attestations:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def fetch(
        self, repository: Source, indexes: Sequence[Index], manifest: str, lease: str
    ) -> None:
        """Those of a manifest that is pulled come with it. They are no part of what runs: one that
        its registry does not have, or that is damaged, is left out.
        """
        for index in indexes:
            for entry in of_manifest(index.manifests, manifest):
                try:
                    await self._one(repository, entry, lease)
                except errors.BarqueError as error:
                    log.warning("attestation %s of %s: %s", entry.digest, manifest, error)

    async def _one(self, repository: Source, entry: Descriptor, lease: str) -> None:
        if await self._store.get_blob(entry.digest, lease) is not None:
            return
        fetched = await repository.manifest(entry.digest)
        parsed = oci.parse(fetched.raw, entry.media_type)
        if not isinstance(parsed, Manifest) or len(fetched.raw) != entry.size:
            raise errors.DataLoss(f"manifest {entry.digest} is not what its index says")
        labels = {}
        for number, blob in enumerate((parsed.config, *parsed.layers)):
            if blob.size > MAX_STATEMENT_BYTES:
                raise errors.ResourceExhausted(f"attestation {blob.digest} is too large")
            await self._blob(repository, blob, lease)
            labels[f"{GC_CONTENT}a.{number}"] = blob.digest
        await self._store.write(
            _whole(fetched.raw), lease, digest=entry.digest, size=entry.size, labels=labels
        )

    async def _blob(self, repository: Source, blob: Descriptor, lease: str) -> None:
        if await self._store.get_blob(blob.digest, lease) is not None:
            return
        async with aclosing(repository.blob(blob.digest, blob.size)) as chunks:
            await self._store.write(chunks, lease, digest=blob.digest, size=blob.size)

    async def statements(
        self, target: Descriptor, manifest: str, kinds: Sequence[str], *, whole: bool
    ) -> list[dict[str, Any]]:
        """AttestationStatements of a manifest below `target`, of `kinds` or of all; `whole`: with
        the statements. Raises NotFound where one is not here.
        """
        found = []
        for entry in of_manifest(await leaves(self._store, target), manifest):
            raw = await read_blob(self._store, entry.digest, MAX_MANIFEST_BYTES)
            parsed = oci.parse(raw, entry.media_type)
            for layer in parsed.layers if isinstance(parsed, Manifest) else ():
                kind = layer.annotations.get(PREDICATE_ANNOTATION, "")
                if layer.media_type == STATEMENT and (not kinds or kind in kinds):
                    found.append(await self._statement(layer, kind, whole=whole))
        return found

    async def _statement(self, layer: Descriptor, kind: str, *, whole: bool) -> dict[str, Any]:
        one: dict[str, Any] = {"Descriptor": layer.document(), "PredicateType": kind}
        if await self._store.get_blob(layer.digest) is None:
            raise errors.NotFound(f"attestation statement {layer.digest} is not here")
        if whole:
            raw = await read_blob(self._store, layer.digest, MAX_STATEMENT_BYTES)
            try:
                msgspec.json.decode(raw, type=dict[str, Any])
            except (msgspec.DecodeError, RecursionError):
                raise errors.DataLoss(f"attestation statement {layer.digest} is no JSON") from None
            one["Statement"] = msgspec.Raw(raw)
        return one


async def _whole(raw: bytes) -> AsyncGenerator[bytes, None]:
    yield raw
