"""One repository of one registry: manifests and blobs by name and digest. distribution-spec.

All that comes is bounded in size and compared with its digest before anyone sees its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from barque import errors
from barque.oci import digest as digests
from barque.oci import document, reference
from barque.registry import failures, ranges, referrers, uploads
from barque.registry.connection import Broken
from barque.registry.session import Session
from barque.registry.uploads import ReadFrom

MAX_MANIFEST_BYTES = 4 << 20
MAX_TAGS = 10_000
TAGS_PAGE = 1000
MAX_RESUMES = 50  # of one blob, each of which brought at least a byte
SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
ACCEPTED = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or index as received; `digest` is over `raw`."""

    media_type: str
    digest: str
    raw: bytes


class Repository:
    """`name` is the repository's familiar name, for messages: `busybox`, `localhost:5000/app`."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name

    async def manifest(self, reference: str) -> Fetched:
        """The manifest or index that a tag or digest names.

        Raises NotFound in Docker's words; DataLoss when the digest asked for, or that the registry
        announced, is not that of the bytes; Unsupported for schema 1.
        """
        headers = {"Accept": ", ".join(ACCEPTED)}
        async with self._session.ask("GET", f"manifests/{reference}", headers) as answer:
            if answer.head.status != 200:
                raw = await answer.read(failures.MAX_ERROR_BYTES)
                raise self._pull_failure(reference, answer.head.status, raw)
            raw = await answer.read(MAX_MANIFEST_BYTES)
            return self._verified(reference, answer.head.headers, raw)

    def _pull_failure(self, reference: str, status: int, raw: bytes) -> errors.BarqueError:
        separator = "@" if digests.is_valid(reference) else ":"
        shown = f"{self._name}{separator}{reference}"
        return failures.pull_failure(self._name, shown, status, raw)

    def _verified(self, reference: str, headers: Mapping[str, str], raw: bytes) -> Fetched:
        media_type = headers.get("content-type", "").partition(";")[0].strip()
        if media_type in SCHEMA_1:
            raise errors.Unsupported(
                f"image {self._name}:{reference} has the old manifest format schema 1, "
                "which is not supported: push it again with a newer tool"
            )
        wanted = reference if digests.is_valid(reference) else ""
        announced = headers.get("docker-content-digest", "")
        for expected in filter(None, (wanted, announced)):
            algorithm = digests.parse(expected)[0]
            actual = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
            if actual != expected:
                raise errors.DataLoss(
                    f"manifest verification failed for digest {expected}: received {actual}"
                )
        digest = wanted or announced or "sha256:" + hashlib.sha256(raw).hexdigest()
        return Fetched(media_type, digest, raw)

    async def blob(
        self, digest: str, size: int, offset: int = 0, *, checked: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a blob from `offset` on, of `size`. A broken transfer goes on where it was.

        Raises DataLoss after the last byte when they are not those of `digest` (from 0: else who
        has the beginning must look), or are fewer or more than `size`: nothing may be made visible
        before the end. Not `checked`: who takes the bytes looks at their digest.
        """
        algorithm = digests.parse(digest)[0]
        hasher = hashlib.new(algorithm) if checked and not offset else None
        received, idle_attempts, resumes = offset, 0, 0
        while True:
            try:
                async with aclosing(self._range(digest, received, size)) as chunks:
                    async for chunk in chunks:
                        received, idle_attempts = received + len(chunk), 0
                        if hasher is not None:
                            hasher.update(chunk)
                        yield chunk
                break
            except Broken:
                idle_attempts, resumes = idle_attempts + 1, resumes + 1
                if idle_attempts >= self._session.attempts or resumes > MAX_RESUMES:
                    raise
                await self._session.pause(idle_attempts)
        if hasher is not None and f"{algorithm}:{hasher.hexdigest()}" != digest:
            raise failures.verification(digest)

    async def _range(self, digest: str, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        async with self._session.ask("GET", f"blobs/{digest}", headers) as answer:
            status = answer.head.status
            if status not in {200, 206}:
                raw = await answer.read(failures.MAX_ERROR_BYTES)
                raise self._blob_failure(digest, status, raw)
            async for chunk in ranges.part(f"blob {digest}", answer, offset, size):
                yield chunk

    def _blob_failure(self, digest: str, status: int, raw: bytes) -> errors.BarqueError:
        code, text = failures.reason(status, raw)
        if status == 404:
            text = text if code else "blob unknown"
            return errors.NotFound(f"blob {digest} of {self._name} not found: {text}")
        return failures.refused(text, status)

    async def tags(self) -> list[str]:
        """All tags, at most `MAX_TAGS`. Raises NotFound for an unknown repository."""
        found: list[str] = []
        where: str | None = f"tags/list?n={TAGS_PAGE}"
        while where is not None and len(found) <= MAX_TAGS:
            async with self._session.ask("GET", where, {}) as answer:
                raw = await answer.read(MAX_MANIFEST_BYTES)
                if answer.head.status != 200:
                    raise failures.pull_failure(self._name, self._name, answer.head.status, raw)
                found += _read_tags(raw)
                where = answer.next_page()
        if len(found) > MAX_TAGS:
            raise errors.ResourceExhausted(f"{self._name} has more than {MAX_TAGS} tags")
        return found

    async def has_blob(self, digest: str) -> bool:
        digests.parse(digest)
        async with self._session.ask("HEAD", f"blobs/{digest}", {}, push=True) as answer:
            return answer.head.status == 200

    async def blob_size(self, digest: str) -> int:
        """Raises NotFound; Unavailable where the registry does not say."""
        digests.parse(digest)
        headers = {"Accept-Encoding": "identity"}
        async with self._session.ask("HEAD", f"blobs/{digest}", headers) as answer:
            if answer.head.status != 200:
                raise self._blob_failure(digest, answer.head.status, b"")
            length = answer.head.headers.get("content-length", "")
            if not length.isdigit():
                raise errors.Unavailable(f"blob {digest} of {self._name}: its size is not told")
            return int(length)

    async def upload_blob(
        self, digest: str, size: int, read: ReadFrom, sources: Sequence[str] = ()
    ) -> str:
        """See `uploads.send`."""
        return await uploads.send(self._session, digest, size, read, sources)

    async def referrers(self, digest: str, artifact_type: str = "") -> list[dict[str, Any]]:
        """See `referrers.fetch`."""
        return await referrers.fetch(self._session, digest, artifact_type)

    async def put_manifest(self, reference: str, media_type: str, raw: bytes) -> None:
        """Names what was uploaded: `reference` is a tag or the digest of `raw`.

        What it refers to is told of it, by us where the registry does not do so by itself.
        """
        headers = {"Content-Type": media_type}
        where = f"manifests/{reference}"
        async with self._session.ask("PUT", where, headers, raw, push=True) as answer:
            if answer.head.status != 201:
                raise await failures.push_failure(answer)
            knows = "oci-subject" in answer.head.headers
        known = digests.is_valid(reference)
        digest = reference if known else "sha256:" + hashlib.sha256(raw).hexdigest()
        found = None if knows else referrers.described(media_type, digest, raw)
        if found is not None:
            await referrers.add(self._session, *found)


def _read_tags(raw: bytes) -> list[str]:
    try:
        found = document.parse(raw)["tags"] or []
    except (ValueError, KeyError, TypeError):
        raise errors.Unavailable("the registry's list of tags cannot be read") from None
    return [tag for tag in found if isinstance(tag, str) and reference.is_tag(tag)]
