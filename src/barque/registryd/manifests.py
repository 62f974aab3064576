"""What a manifest must be to be taken, and what it needs to be there. image-spec, manifest.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from barque.oci import digest as digests
from barque.oci import document
from barque.oci import image as oci
from barque.registryd.refusals import Refusal

MAX_MANIFEST_BYTES = 4 << 20
KINDS = (*sorted(oci.INDEXES), *sorted(oci.MANIFESTS))


@dataclass(frozen=True, slots=True)
class Taken:
    media_type: str
    needed: tuple[str, ...]  # blobs and manifests that must be in the repository
    subject: str  # the digest of the manifest that it refers to, "" for none


def check(raw: bytes, media_type: str) -> Taken:
    """`media_type` is that of the request, "" for none. Raises Refusal."""
    try:
        value = document.parse(raw)
    except ValueError as error:
        raise _invalid(str(error)) from None
    if not isinstance(value, dict):
        raise _invalid("not a JSON object")
    own = value.get("mediaType", "")
    kind = media_type or own
    if own and media_type and own != media_type:
        raise _invalid("its media type is not that of the request")
    if not kind:
        kind = oci.OCI_INDEX if "manifests" in value else oci.OCI_MANIFEST
    if kind not in KINDS:
        raise _invalid(f"unknown media type {str(kind)[:100]!r}")
    if value.get("schemaVersion") != 2:
        raise _invalid("schema version is not 2")
    is_index = kind in oci.INDEXES
    if is_index != ("manifests" in value) or (is_index and ("layers" in value)):
        raise _invalid("its media type does not fit what is in it")
    if is_index:
        needed = [_digest(entry) for entry in _list(value, "manifests")]
    else:
        here = [entry for entry in _list(value, "layers") if not _foreign(entry)]
        needed = [_digest(value.get("config")), *map(_digest, here)]
    subject = value.get("subject")
    return Taken(kind, tuple(dict.fromkeys(needed)), _digest(subject) if subject else "")


def references(raw: bytes) -> list[str]:
    """All that a stored manifest leads to: for the collector, so lenient."""
    try:
        value = document.parse(raw)
    except ValueError:
        return []
    if not isinstance(value, dict):
        return []
    entries = [value.get("config"), *(value.get("layers") or ()), *(value.get("manifests") or ())]
    found = (entry.get("digest") for entry in entries if isinstance(entry, dict))
    return [digest for digest in found if isinstance(digest, str) and digests.is_valid(digest)]


def _invalid(text: str) -> Refusal:
    return Refusal("MANIFEST_INVALID", f"manifest invalid: {text}")


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name) or []
    if not isinstance(found, list) or len(found) > oci.MANIFESTS_MAX:
        raise _invalid(name)
    return found


def _foreign(entry: Any) -> bool:
    """A layer that is fetched from elsewhere need not be here."""
    kind = entry.get("mediaType") if isinstance(entry, dict) else None
    return isinstance(kind, str) and kind.startswith(oci.FOREIGN_PREFIXES)


def _digest(entry: Any) -> str:
    digest = entry.get("digest") if isinstance(entry, dict) else None
    if not isinstance(digest, str) or not digests.is_valid(digest):
        raise _invalid("a descriptor without a digest")
    return digest
