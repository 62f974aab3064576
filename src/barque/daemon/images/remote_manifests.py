"""Manifests at registries, without an image here: read for `docker manifest`, and lists sent there.

A list may name manifests of other repositories of the same registry: their blobs are mounted into
that of the list, for a manifest must lie beside the list that names it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from barque import errors
from barque.daemon.images.distribution import platform_of
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci import reference
from barque.oci.image import Descriptor, Index, Manifest
from barque.oci.reference import Reference
from barque.registry import Fetched, ReadFrom, Repository

MAX_LIST_BYTES = 4 << 20
Open = Callable[[Reference], Repository]


async def read(open_repository: Open, text: str) -> dict[str, Any]:
    """The manifest or index of a reference: its bytes, its descriptor with the platform."""
    ref = reference.parse(text).with_default_tag()
    repository = open_repository(ref)
    fetched, parsed = await _fetched(repository, ref)
    target = Descriptor(parsed.media_type, fetched.digest, len(fetched.raw)).document()
    if isinstance(parsed, Manifest):
        target["platform"] = await platform_of(repository, parsed)
    return {
        "Ref": ref.full,
        "Descriptor": target,
        "Raw": base64.b64encode(fetched.raw).decode(),
    }


async def push(open_repository: Open, text: str, raw: bytes, sources: Sequence[str]) -> str:
    """Sends an index; its digest. `sources` are the references of what is in it.

    Raises InvalidArgument for what is no index, for a source of another registry, and for one that
    the index does not name.
    """
    ref = reference.parse(text).with_default_tag()
    if len(raw) > MAX_LIST_BYTES:
        raise errors.ResourceExhausted(f"manifest list is larger than {MAX_LIST_BYTES} bytes")
    index = oci.parse(raw)
    if not isinstance(index, Index):
        raise errors.InvalidArgument("invalid manifest list: it has no manifests")
    target = open_repository(ref)
    named = {entry.digest for entry in index.manifests}
    for source in sources:
        await _carry(open_repository, reference.parse(source), ref, target, named)
    await target.put_manifest(ref.digest or ref.tag, index.media_type, raw)
    return digests.sha256(raw)


async def _carry(
    open_repository: Open, source: Reference, ref: Reference, target: Repository, named: set[str]
) -> None:
    """What a source has comes to the repository of the list, unless it is there already."""
    source = source.with_default_tag()
    if source.domain != ref.domain:
        raise errors.InvalidArgument(
            "cannot use source images from a different registry than the target image: "
            f"{source.domain} != {ref.domain}"
        )
    repository = open_repository(source)
    fetched, parsed = await _fetched(repository, source)
    if fetched.digest not in named:
        raise errors.InvalidArgument(
            f"manifest {fetched.digest} of {source.familiar} is not listed"
        )
    if source.path == ref.path:
        return
    if isinstance(parsed, Index):
        raise errors.InvalidArgument(f"{source.familiar} is a manifest list")
    for blob in (*parsed.layers, parsed.config):
        if blob.media_type.startswith(oci.FOREIGN_PREFIXES):
            continue
        if not await target.has_blob(blob.digest):
            await target.upload_blob(
                blob.digest, blob.size, _reading(repository, blob), [source.path]
            )
    await target.put_manifest(fetched.digest, parsed.media_type, fetched.raw)


def _reading(repository: Repository, blob: Descriptor) -> ReadFrom:
    """For a registry that does not share blobs between repositories."""

    async def chunks(offset: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(repository.blob(blob.digest, blob.size, offset)) as found:
            async for chunk in found:
                yield chunk

    return chunks


async def _fetched(repository: Repository, ref: Reference) -> tuple[Fetched, Manifest | Index]:
    fetched = await repository.manifest(ref.digest or ref.tag)
    known = fetched.media_type in oci.INDEXES or fetched.media_type in oci.MANIFESTS
    return fetched, oci.parse(fetched.raw, fetched.media_type if known else "")
