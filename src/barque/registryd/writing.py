"""Push and delete. distribution-spec, "Push" and "Content Management"."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterable, Sequence
from typing import Generic, Protocol, TypeVar

from barque.oci import digest as digests
from barque.registryd import manifests
from barque.registryd.access import Access
from barque.registryd.answers import Endpoints, unknown_blob, unknown_manifest
from barque.registryd.http import Answer, Request
from barque.registryd.names import check_digest, check_name, check_tag
from barque.registryd.refusals import Refusal

MAX_TAGS = 100  # given with one manifest


class Begun(Protocol):
    """An upload under way: so many bytes are there."""

    id: str
    name: str
    lock: asyncio.Lock

    @property
    def size(self) -> int: ...


Upload = TypeVar("Upload", bound=Begun)


class Place(Protocol[Upload]):
    """Where pushes go: a `Directory`, or an engine. All raise Refusal."""

    async def start(self, name: str, algorithm: str) -> Upload:
        """`algorithm`: what its digest is most likely made with."""

    async def find(self, name: str, id: str) -> Upload:
        """BLOB_UPLOAD_UNKNOWN for one that is not there or is another repository's."""

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes]) -> None:
        """When it breaks off, what came before may be kept."""

    async def finish(self, upload: Upload, digest: str) -> None:
        """It becomes a blob; DIGEST_INVALID, and it is dropped, where it is another."""

    async def drop(self, upload: Upload) -> None: ...

    async def mount(self, name: str, digest: str, source: str) -> bool:
        """Takes a blob over from another repository; False where that does not have it."""

    async def put_manifest(
        self,
        name: str,
        digest: str,
        media_type: str,
        raw: bytes,
        tags: Sequence[str],
        needed: Sequence[str],
    ) -> None:
        """MANIFEST_BLOB_UNKNOWN where the repository lacks one of the blobs `needed`."""

    async def remove_tag(self, name: str, tag: str) -> bool:
        """False where there is none; NAME_UNKNOWN."""

    async def remove_manifest(self, name: str, digest: str) -> bool:
        """With all its tags. As `remove_tag`."""

    async def remove_blob(self, name: str, digest: str) -> bool: ...


class Writing(Generic[Upload]):
    def __init__(self, place: Place[Upload], access: Access) -> None:
        self._place, self._access = place, access

    def endpoints(self) -> Endpoints:
        return {
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("start", "POST"): self._start,
            ("upload", "GET"): self._status,
            ("upload", "PATCH"): self._patch,
            ("upload", "PUT"): self._finish,
            ("upload", "DELETE"): self._cancel,
            ("blob", "DELETE"): self._delete_blob,
        }

    async def _put_manifest(self, request: Request, name: str, reference: str) -> Answer:
        by_digest = ":" in reference
        if by_digest:
            check_digest(reference)
        else:
            check_tag(reference)
        raw = await request.body.whole(manifests.MAX_MANIFEST_BYTES)
        if raw is None:
            limit = manifests.MAX_MANIFEST_BYTES
            raise Refusal("SIZE_INVALID", f"manifest is larger than {limit} bytes", status=413)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        taken = manifests.check(raw, kind)
        algorithm = digests.parse(reference)[0] if by_digest else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
        if by_digest and digest != reference:
            raise Refusal("DIGEST_INVALID", f"provided digest did not match manifest: {reference}")
        tags = _tags(request)
        if not by_digest:
            tags = [reference, *tags]
        await self._place.put_manifest(name, digest, taken.media_type, raw, tags, taken.needed)
        headers = {
            "Location": f"/v2/{name}/manifests/{digest}",
            "Docker-Content-Digest": digest,
        }
        if taken.subject:
            headers["OCI-Subject"] = taken.subject
        if request.query.get("tag"):
            headers["OCI-Tag"] = ", ".join(tags)
        return Answer(201, headers)

    async def _delete_manifest(self, request: Request, name: str, reference: str) -> Answer:
        if digests.is_valid(reference):
            done = await self._place.remove_manifest(name, reference)
        else:
            done = await self._place.remove_tag(name, check_tag(reference))
        if not done:
            raise unknown_manifest(reference)
        return Answer(202)

    async def _delete_blob(self, request: Request, name: str, digest: str) -> Answer:
        if not await self._place.remove_blob(name, check_digest(digest)):
            raise unknown_blob(digest)
        return Answer(202)

    async def _start(self, request: Request, name: str) -> Answer:
        if digest := request.first("mount"):
            check_digest(digest)
            source = request.first("from")
            may = source and await self._access.allows(request, check_name(source), "pull")
            if may and await self._place.mount(name, digest, source):
                return _created(name, digest)
        upload = await self._place.start(name, _algorithm(request))
        if digest := request.first("digest"):
            check_digest(digest)
            async with upload.lock:
                await self._place.append(upload, request.body)
                await self._place.finish(upload, digest)
            return _created(name, digest)
        return _under_way(upload, 202)

    async def _status(self, request: Request, name: str, id: str) -> Answer:
        return _under_way(await self._place.find(name, id), 204)

    async def _patch(self, request: Request, name: str, id: str) -> Answer:
        upload = await self._place.find(name, id)
        async with upload.lock:
            _check_range(request, upload)
            await self._place.append(upload, request.body)
        return _under_way(upload, 202)

    async def _finish(self, request: Request, name: str, id: str) -> Answer:
        upload = await self._place.find(name, id)
        digest = request.first("digest")
        check_digest(digest)
        async with upload.lock:
            _check_range(request, upload)
            await self._place.append(upload, request.body)
            await self._place.finish(upload, digest)
        return _created(name, digest)

    async def _cancel(self, request: Request, name: str, id: str) -> Answer:
        upload = await self._place.find(name, id)
        async with upload.lock:
            await self._place.drop(upload)
        return Answer(204)


def _tags(request: Request) -> list[str]:
    """Further names for a manifest, given with it. Raises Refusal."""
    found = request.query.get("tag", [])
    if len(found) > MAX_TAGS:
        raise Refusal("TAG_INVALID", f"more than {MAX_TAGS} tags at once", status=414)
    return [check_tag(tag) for tag in found]


def _algorithm(request: Request) -> str:
    """What the digest of an upload will be made with, where the client says. Raises Refusal."""
    found = request.first("digest-algorithm") or request.first("digest").partition(":")[0]
    if found and found not in digests.LENGTHS:
        raise Refusal("DIGEST_INVALID", f"unsupported digest algorithm: {found[:80]!r}")
    return found or "sha256"


def _check_range(request: Request, upload: Begun) -> None:
    """A chunk must begin where the last one ended. Raises Refusal with 416."""
    text = request.headers.get("content-range", "")
    if not text:
        return
    match = re.fullmatch(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/.*)?", text)
    length = request.body.length
    good = match is not None and int(match[1]) == upload.size
    if good and match is not None and length is not None:
        good = int(match[2]) - int(match[1]) + 1 == length
    if not good:
        where = f"/v2/{upload.name}/blobs/uploads/{upload.id}"
        raise Refusal(
            "BLOB_UPLOAD_INVALID",
            f"chunk {text[:60]!r} does not begin at {upload.size}",
            status=416,
            headers={"Location": where, "Range": f"0-{max(0, upload.size - 1)}"},
        )


def _created(name: str, digest: str) -> Answer:
    where = f"/v2/{name}/blobs/{digest}"
    return Answer(201, {"Location": where, "Docker-Content-Digest": digest})


def _under_way(upload: Begun, status: int) -> Answer:
    return Answer(
        status,
        {
            "Location": f"/v2/{upload.name}/blobs/uploads/{upload.id}",
            "Range": f"0-{max(0, upload.size - 1)}",
            "Docker-Upload-UUID": upload.id,
        },
    )
