"""`docker commit`: what a container changed becomes a layer on its image's, and they a new image.

API: ImageCommit. The container's config is that of the new image, overlaid with what the request
has of its own, then with the `--change` instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from barque.daemon import moments
from barque.daemon.images import changes, names
from barque.daemon.images.assemble import Assembler
from barque.daemon.images.documents import MAX_MANIFEST_BYTES, read_blob
from barque.daemon.images.image import Image
from barque.daemon.images.importing import new_manifest
from barque.daemon.images.naming import Naming
from barque.daemon.images.store import Store
from barque.oci import image as oci
from barque.oci.image import Config, Descriptor, Platform
from barque.oci.reference import Reference

EMPTY_DIFF_ID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
# What an image says of how it starts; the rest of a container's config is the container's own.
MEMBERS = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Healthcheck", "ArgsEscaped"),
    *("Volumes", "WorkingDir", "OnBuild", "Labels", "StopSignal", "StopTimeout", "Shell"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What is to be committed: a container's snapshot, and what is said of it."""

    snapshot: str
    image: Image | None  # that it was made from; None for one without layers
    config: Mapping[str, Any]  # the container's
    places: Sequence[str] = ()  # what was made in it to mount on, which is not of the image
    overrides: Mapping[str, Any] = field(default_factory=dict)  # of the request
    changes: Sequence[str] = ()
    author: str = ""
    comment: str = ""


def merged(overrides: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the request over that of the container, as Docker lays one over the other."""
    own = {name: overrides[name] for name in MEMBERS if overrides.get(name)}
    under = {name: config[name] for name in MEMBERS if config.get(name)}
    found = {**under, **own}
    for name in ("ExposedPorts", "Volumes", "Labels"):
        if name in under and name in own:
            found[name] = {**under[name], **own[name]}
    if "Env" in under and "Env" in own:
        known = {entry.partition("=")[0] for entry in own["Env"]}
        kept = [entry for entry in under["Env"] if entry.partition("=")[0] not in known]
        found["Env"] = [*own["Env"], *kept]
    if "Entrypoint" in own and "Cmd" not in own:
        found.pop("Cmd", None)
    return found


def new_config(
    base: Config | None,
    defaults: Mapping[str, Any],
    diff_id: str,
    wanted: Committed,
    created: str,
    host: Platform,
) -> Config:
    """The config of the new image: the base's steps and one more. An empty layer is none."""
    below: dict[str, Any] = base.document if base else {}
    history = below.get("history")
    step: dict[str, Any] = {
        "created": created,
        "created_by": " ".join(str(word) for word in wanted.config.get("Cmd") or ()),
    }
    if wanted.author:
        step["author"] = wanted.author
    if wanted.comment:
        step["comment"] = wanted.comment
    added = () if diff_id == EMPTY_DIFF_ID else (diff_id,)
    if not added:
        step["empty_layer"] = True
    document: dict[str, Any] = {
        **{name: below[name] for name in ("variant", "os.version") if name in below},
        "architecture": below.get("architecture") or host.architecture,
        "os": below.get("os") or host.os,
        "config": dict(defaults),
        "created": created,
        "history": [*(history if isinstance(history, list) else ()), step],
        "rootfs": {"type": "layers", "diff_ids": [*(base.diff_ids if base else ()), *added]},
    }
    if wanted.author:
        document["author"] = wanted.author
    return oci.parse_config(msgspec.json.encode(document, order="sorted"))


def as_oci(layer: Descriptor) -> Descriptor:
    """A layer of a Docker manifest as one of an OCI manifest: the same bytes."""
    kind = layer.media_type
    if kind.startswith(oci.DOCKER_LAYER):
        kind = oci.OCI_LAYER + kind.removeprefix(oci.DOCKER_LAYER).replace(".", "+")
    return Descriptor(kind, layer.digest, layer.size)


class Committer:
    def __init__(self, store: Store, assembler: Assembler, naming: Naming, host: Platform) -> None:
        self._store, self._assembler = store, assembler
        self._naming, self._host = naming, host

    async def run(self, wanted: Committed, ref: Reference | None) -> str:
        """The id of the new image, named `ref` or dangling.

        Raises InvalidArgument for a change that is not known, before anything is read.
        """
        defaults = changes.apply(merged(wanted.overrides, wanted.config), wanted.changes)
        base, layers = await self._base(wanted.image)
        parent = wanted.image.chain_id if wanted.image else ""
        async with self._store.lease() as lease:
            layer, diff_id = await self._store.difference(
                wanted.snapshot, parent, lease, wanted.places
            )
            created = moments.rfc3339_now()
            config = new_config(base, defaults, diff_id, wanted, created, self._host)
            written = await self._assembler.config(config, lease)
            added = () if diff_id == EMPTY_DIFF_ID else (layer,)
            manifest = new_manifest(config, written.digest, [*map(as_oci, layers), *added])
            target, labels = await self._assembler.single(manifest, config, lease)
            name = names.full_name(ref) if ref else names.dangling_name(target.digest)
            await self._naming.point(name, target, labels)
        return written.digest

    async def _base(self, image: Image | None) -> tuple[Config | None, Sequence[Descriptor]]:
        if image is None:
            return None, ()
        raw = await read_blob(self._store, image.manifest, MAX_MANIFEST_BYTES)
        manifest = oci.parse(raw)
        assert isinstance(manifest, oci.Manifest)
        return oci.parse_config(image.raw_config), manifest.layers
