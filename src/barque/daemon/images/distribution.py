"""An image as its registry has it: its descriptor and its platforms. API: DistributionInspect."""

from __future__ import annotations

from typing import Any

from barque.oci import image as oci
from barque.oci.image import Descriptor, Index, Manifest
from barque.oci.reference import Reference
from barque.registry import Source

MAX_CONFIG_BYTES = 8 << 20


async def inspect(source: Source, ref: Reference) -> dict[str, Any]:
    """Raises what `Source.manifest` raises."""
    fetched = await source.manifest(ref.digest or ref.tag)
    known = fetched.media_type in oci.INDEXES or fetched.media_type in oci.MANIFESTS
    parsed = oci.parse(fetched.raw, fetched.media_type if known else "")
    target = Descriptor(parsed.media_type, fetched.digest, len(fetched.raw))
    if isinstance(parsed, Index):
        platforms = [one.platform.document() for one in parsed.manifests if one.platform]
    else:
        platforms = [await platform_of(source, parsed)]
    return {"Descriptor": target.document(), "Platforms": platforms}


async def platform_of(source: Source, manifest: Manifest) -> dict[str, str]:
    """As its config says; empty for what is no image."""
    config = manifest.config
    if config.media_type not in oci.CONFIGS or config.size > MAX_CONFIG_BYTES:
        return {"architecture": "", "os": ""}
    raw = b"".join([chunk async for chunk in source.blob(config.digest, config.size)])
    return oci.parse_config(raw).platform.document()
