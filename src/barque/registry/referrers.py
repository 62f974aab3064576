"""What refers to a manifest: signatures, SBOMs, attestations. distribution-spec, "Referrers".

A registry without the endpoint has them in an index under a tag made of the digest; whoever pushes
a manifest with a subject there keeps that index.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from barque import errors
from barque.oci import digest as digests
from barque.oci import document
from barque.oci import image as oci
from barque.registry import failures
from barque.registry.session import Session

MAX_BYTES = 4 << 20
MAX_REFERRERS = 10_000
MAX_PAGES = 100

Document = dict[str, Any]


def fallback_tag(digest: str) -> str:
    """distribution-spec, "Referrers Tag Schema"."""
    algorithm, digits = digests.parse(digest)
    return f"{algorithm[:32]}-{digits[:64]}"


async def fetch(session: Session, digest: str, artifact_type: str = "") -> list[Document]:
    """Descriptors of what refers to `digest`, of one kind or of all; [] for nothing.

    Raises InvalidArgument for an answer that is no index, ResourceExhausted for one without end.
    """
    digests.parse(digest)
    found: list[Document] = []
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    where: str | None = f"referrers/{digest}{query}"
    for _ in range(MAX_PAGES):
        if where is None:
            return _of_kind(found, artifact_type)
        async with session.ask("GET", where, {"Accept": oci.OCI_INDEX}) as answer:
            kind = answer.head.headers.get("content-type", "").partition(";")[0].strip()
            if answer.head.status != 200 or kind != oci.OCI_INDEX:
                if found or answer.head.status not in {200, 404}:
                    raise failures.refused(
                        f"referrers of {digest}: status {answer.head.status}", answer.head.status
                    )
                break  # it knows no such endpoint
            found += _entries(await answer.read(MAX_BYTES))
            where = answer.next_page()
        if len(found) > MAX_REFERRERS:
            raise errors.ResourceExhausted(f"{digest} has more than {MAX_REFERRERS} referrers")
    else:
        raise errors.ResourceExhausted(f"referrers of {digest} have more than {MAX_PAGES} pages")
    return _of_kind(await _tagged(session, digest), artifact_type)


async def add(session: Session, subject: str, described: Document) -> None:
    """Enters a referrer in the index under the tag, for a registry that does not by itself."""
    known = await _tagged(session, subject)
    if any(one["digest"] == described["digest"] for one in known):
        return
    index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [*known, described]}
    where = f"manifests/{fallback_tag(subject)}"
    raw, headers = json.dumps(index).encode(), {"Content-Type": oci.OCI_INDEX}
    async with session.ask("PUT", where, headers, raw, push=True) as answer:
        if answer.head.status != 201:
            raise await failures.push_failure(answer)


def described(media_type: str, digest: str, raw: bytes) -> tuple[str, Document] | None:
    """The subject of a manifest, and what an index of referrers says of it; None without one."""
    try:
        value = document.parse(raw)
        subject = value["subject"]["digest"]
        digests.parse(subject)
    except (ValueError, KeyError, TypeError, errors.InvalidArgument):
        return None
    found: Document = {"mediaType": media_type, "digest": digest, "size": len(raw)}
    config = value.get("config")
    kind = value.get("artifactType") or (config or {}).get("mediaType")
    if isinstance(kind, str) and kind:
        found["artifactType"] = kind
    if isinstance(value.get("annotations"), dict) and value["annotations"]:
        found["annotations"] = value["annotations"]
    return subject, found


async def _tagged(session: Session, digest: str) -> list[Document]:
    headers = {"Accept": oci.OCI_INDEX}
    async with session.ask("GET", f"manifests/{fallback_tag(digest)}", headers) as answer:
        if answer.head.status == 404:
            return []
        raw = await answer.read(MAX_BYTES)
        if answer.head.status != 200:
            _, text = failures.reason(answer.head.status, raw)
            raise failures.refused(text, answer.head.status)
        return _entries(raw)


def _entries(raw: bytes) -> list[Document]:
    """Raises InvalidArgument for what is no index."""
    parsed = oci.parse(raw, oci.OCI_INDEX)
    assert isinstance(parsed, oci.Index)
    own = document.parse(raw).get("manifests") or []
    found = []
    for entry, value in zip(parsed.manifests, own, strict=True):
        kind = value.get("artifactType")
        one = entry.document()
        found.append({**one, "artifactType": kind} if isinstance(kind, str) and kind else one)
    return found


def _of_kind(found: list[Document], wanted: str) -> list[Document]:
    return [one for one in found if not wanted or one.get("artifactType") == wanted]
