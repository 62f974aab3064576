"""An image for one platform, whole and immutable: what a container is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from barque.oci import digest as digests
from barque.oci.image import Config, Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`id` is the digest of `raw_config`; `config` its member "config": Env, Cmd, Entrypoint...

    Treat `config` and `document` as frozen: they are shared by all who resolved the image.
    """

    id: str
    name_for_display: str  # as it was asked for, familiar
    target: Descriptor  # of the name: a manifest or an index
    manifest: str  # digest of the manifest of this platform
    raw_config: bytes = field(repr=False)
    document: dict[str, Any] = field(repr=False)  # all of the config
    config: dict[str, Any] = field(repr=False)
    diff_ids: tuple[str, ...] = field(repr=False)
    chain_id: str  # key of the snapshot to start from; "" for an image without layers
    platform: str
    size: int  # bytes of its layers, unpacked

    @property
    def created(self) -> str:
        value = self.document.get("created")
        return value if isinstance(value, str) else ""

    @property
    def labels(self) -> dict[str, str]:
        value = self.config.get("Labels")
        return value if isinstance(value, dict) else {}


def build(
    name: str, target: Descriptor, manifest: str, digest: str, config: Config, size: int
) -> Image:
    """`digest` is that of the config's bytes."""
    return Image(
        id=digest,
        name_for_display=name,
        target=target,
        manifest=manifest,
        raw_config=config.raw,
        document=config.document,
        config=config.defaults,
        diff_ids=config.diff_ids,
        chain_id=digests.chain_id(config.diff_ids) if config.diff_ids else "",
        platform=str(config.platform),
        size=size,
    )
