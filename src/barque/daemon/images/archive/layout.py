"""What an archive says of its images: `manifest.json` of Docker, `index.json` of OCI. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from barque import errors
from barque.oci import document, reference
from barque.oci.reference import Reference

MAX_IMAGES = 1000
MAX_TAGS = 1000
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True, slots=True)
class DockerImage:
    """One entry of manifest.json: names of members, and what the image is called."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[Reference, ...]


def parse_docker(raw: bytes) -> list[DockerImage]:
    """Raises InvalidArgument for what is not `[{"Config", "RepoTags", "Layers"}]`."""
    try:
        entries = document.parse(raw)
    except ValueError as error:
        raise errors.InvalidArgument(f"invalid archive: manifest.json: {error}") from None
    if not isinstance(entries, list) or len(entries) > MAX_IMAGES:
        raise errors.InvalidArgument("invalid archive: manifest.json is not a list of images")
    if not entries:
        raise errors.InvalidArgument("invalid archive: there is no image in it")
    return [_docker_image(entry) for entry in entries]


def _docker_image(entry: Any) -> DockerImage:
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        raise errors.InvalidArgument("invalid archive: manifest.json has an image without config")
    return DockerImage(
        entry["Config"],
        _strings(entry, "Layers"),
        tuple(tag_of(tag) for tag in _strings(entry, "RepoTags")),
    )


def _strings(entry: dict[str, Any], name: str) -> tuple[str, ...]:
    value = entry.get(name) or []
    if not isinstance(value, list) or len(value) > MAX_TAGS:
        raise errors.InvalidArgument(f"invalid archive: {name} in manifest.json")
    if not all(isinstance(item, str) for item in value):
        raise errors.InvalidArgument(f"invalid archive: {name} in manifest.json")
    return tuple(value)


def tag_of(text: str) -> Reference:
    """A name from an archive: it must have a tag and nothing else."""
    ref = reference.parse(text)
    if ref.digest or not ref.tag:
        raise errors.InvalidArgument(f"invalid archive: tag {text[:200]!r}")
    return ref


def oci_name(annotations: dict[str, str]) -> Reference | None:
    """What an entry of index.json is called; None where it has only a tag, or nothing."""
    for key in (CONTAINERD_NAME, REF_NAME):
        text = annotations.get(key, "")
        if ":" not in text and "/" not in text:
            continue
        try:
            return tag_of(text)
        except errors.InvalidArgument:
            continue
    return None
