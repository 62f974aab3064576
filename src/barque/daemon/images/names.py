"""Names of images, and the labels on them. Pure.

A name in containerd's store is a full reference, `docker.io/library/busybox:latest`, or one with a
digest for an image pulled by digest. An image that lost its last name is kept as
`moby-dangling@<digest of its target>`, as Docker's own containerd store does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from barque import errors
from barque.oci import digest as digests
from barque.oci import reference
from barque.oci.reference import Reference

DANGLING = "moby-dangling@"
# On a record, so that one listing tells all; made again from the documents where they are missing.
ID_LABEL = "io.barque.image.id"  # digest of the config
MANIFEST_LABEL = "io.barque.image.manifest"  # of the platform that was unpacked
SIZE_LABEL = "io.barque.image.size"  # bytes of its layers, unpacked
PULLED_LABEL = "io.barque.image.pulled"  # a registry knows the target by its digest
TAGGED_LABEL = "io.barque.image.tagged"  # nanoseconds since 1970
CREATED_LABEL = "io.barque.image.created"  # seconds since 1970
LABELS_LABEL = "io.barque.image.labels"  # the config's Labels as JSON, where they are short
OWN_LABELS = (ID_LABEL, MANIFEST_LABEL, SIZE_LABEL, CREATED_LABEL, LABELS_LABEL)
SOURCE_PREFIX = "containerd.io/distribution.source."  # of a blob, with a registry: repositories
MAX_SOURCES = 10
MAX_LABELS_CHARACTERS = 3500  # containerd refuses labels beyond 4096 bytes


def dangling_name(target: str) -> str:
    return DANGLING + target


def is_dangling(name: str) -> bool:
    return name.startswith(DANGLING)


def parse(text: str) -> Reference:
    """A reference with its default tag. Raises InvalidArgument in Docker's words."""
    return reference.parse(text).with_default_tag()


def full_name(ref: Reference) -> str:
    """The name in the store: a digest makes the tag meaningless."""
    return f"{ref.name}@{ref.digest}" if ref.digest else ref.full


def display(name: str) -> str:
    """As people write it; a name that is no reference (made by others) as it is."""
    if is_dangling(name):
        return name.removeprefix(DANGLING)
    try:
        return reference.parse(name).familiar
    except errors.InvalidArgument:
        return name


def short(digest: str) -> str:
    """Twelve digits, as Docker shows ids."""
    return digest.partition(":")[2][:12]


def as_digits(text: str) -> str:
    """The hex digits of an id or a prefix of one, with or without `sha256:`; "" if it is none."""
    digits = text.removeprefix("sha256:")
    is_hex = 0 < len(digits) <= 64 and digests.HEX_DIGITS.issuperset(digits)
    return digits if is_hex else ""


@dataclass(frozen=True, slots=True)
class Names:
    """What one image is called, as `docker images` shows it."""

    tags: tuple[str, ...]
    digests: tuple[str, ...]


def describe(names: Iterable[tuple[str, str, bool]]) -> Names:
    """From (name, digest of its target, whether a registry knows that digest)."""
    tags, known = [], []
    for name, target, pulled in names:
        if is_dangling(name):
            continue
        try:
            ref = reference.parse(name)
        except errors.InvalidArgument:
            tags.append(name)
            continue
        if ref.digest:
            known.append(f"{ref.familiar_name}@{ref.digest}")
        else:
            tags.append(ref.familiar)
        if pulled:
            known.append(f"{ref.familiar_name}@{target}")
    return Names(tuple(sorted(set(tags))), tuple(sorted(set(known))))


def with_source(labels: Mapping[str, str], domain: str, path: str) -> dict[str, str]:
    """The label that says that repository `path` of `domain` has a blob, as containerd writes it;
    {} where it is there already."""
    name = SOURCE_PREFIX + domain
    known = sources(labels, domain)
    if path in known or len(name) > 80:
        return {}
    return {name: ",".join([path, *known][:MAX_SOURCES])}


def sources(labels: Mapping[str, str], domain: str) -> list[str]:
    return [path for path in labels.get(SOURCE_PREFIX + domain, "").split(",") if path]


def identity(labels: Mapping[str, str]) -> dict[str, Any]:
    """Identity of the Engine API: the repositories that a manifest was pulled from or pushed to,
    by the labels of its blob, which no tag changes."""
    found = [
        {"Repository": f"{label.removeprefix(SOURCE_PREFIX)}/{path}"}
        for label, paths in sorted(labels.items())
        if label.startswith(SOURCE_PREFIX)
        for path in paths.split(",")
        if path
    ]
    return {"Pull": found} if found else {}
