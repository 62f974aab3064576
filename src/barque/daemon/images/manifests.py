"""What a name leads to, manifest by manifest, and what of it is here. API: ImageManifestSummary.

target ── index ──> manifests: of a platform, of an attestation, or of what nobody here knows
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.documents import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    SUBJECT_ANNOTATION,
    leaves,
    read_blob,
)
from barque.daemon.images.store import Store
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci.image import Descriptor, Manifest

KIND_ANNOTATION = "vnd.docker.reference.type"
ATTESTATION = "attestation-manifest"


async def parsed(store: Store, entry: Descriptor) -> Manifest | None:
    """The manifest that `entry` is; None when it is not here, or none."""
    if entry.media_type not in oci.MANIFESTS or await store.get_blob(entry.digest) is None:
        return None
    found = oci.parse(await read_blob(store, entry.digest, MAX_MANIFEST_BYTES), entry.media_type)
    return found if isinstance(found, Manifest) else None


async def summaries(
    store: Store,
    target: Descriptor,
    users: Callable[[str], Sequence[str]],
    *,
    identity: bool = False,
) -> list[dict[str, Any]]:
    """One document for each manifest. `users`: the containers made from an image, by its id;
    `identity`: where each came from, too."""
    found = [await _summary(store, entry, users) for entry in await leaves(store, target)]
    for one in found if identity else ():
        blob = await store.get_blob(one["ID"])
        known = names.identity(blob.labels) if blob is not None else {}
        if known and "ImageData" in one:
            one["ImageData"]["Identity"] = known
    return found


async def _summary(
    store: Store, entry: Descriptor, users: Callable[[str], Sequence[str]]
) -> dict[str, Any]:
    manifest = await parsed(store, entry)
    blobs = [manifest.config, *manifest.layers] if manifest else []
    present = [one for one in blobs if await store.get_blob(one.digest) is not None]
    content = sum(one.size for one in present) + (entry.size if manifest else 0)
    found: dict[str, Any] = {
        "ID": entry.digest,
        "Descriptor": entry.document(),
        "Available": manifest is not None and len(present) == len(blobs),
        "Kind": "unknown",
        "Size": {"Content": content, "Total": content},
    }
    if entry.annotations.get(KIND_ANNOTATION) == ATTESTATION:
        found["Kind"] = "attestation"
        found["AttestationData"] = {"For": entry.annotations.get(SUBJECT_ANNOTATION, "")}
        return found
    platform, unpacked = entry.platform, 0
    if manifest is not None and manifest.config in present and _runs(manifest):
        raw = await read_blob(store, manifest.config.digest, MAX_CONFIG_BYTES)
        config = oci.parse_config(raw)
        platform = platform or config.platform
        unpacked = await _unpacked(store, config.diff_ids)
    if platform is not None and platform.os != "unknown":
        found["Kind"] = "image"
        found["ImageData"] = {
            "Platform": platform.document(),
            "Containers": list(users(manifest.config.digest)) if manifest else [],
            "Size": {"Unpacked": unpacked},
        }
        found["Size"]["Total"] += unpacked
    return found


def _runs(manifest: Manifest) -> bool:
    return manifest.config.media_type in oci.CONFIGS and manifest.config.size <= MAX_CONFIG_BYTES


async def _unpacked(store: Store, diff_ids: tuple[str, ...]) -> int:
    """Bytes on the disk of those of its layers that are unpacked."""
    size = 0
    for chain in digests.chain_ids(diff_ids):
        try:
            size += await store.snapshot_size(chain)
        except errors.NotFound:
            break
    return size
