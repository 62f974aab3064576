"""The endpoints of distribution-spec 1.1: parse, ask the store, answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from barque.oci import digest as digests
from barque.registryd import manifests
from barque.registryd.access import Access
from barque.registryd.cache import Cache
from barque.registryd.http import Answer, Request
from barque.registryd.metrics import Metrics
from barque.registryd.names import check_digest, check_name, check_tag
from barque.registryd.refusals import Refusal
from barque.registryd.store import Entry, Repository, Store
from barque.registryd.uploads import Upload, Uploads

API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
DEFAULT_PAGE, MAX_PAGE = 1000, 10_000
REFERRERS = "application/vnd.oci.image.index.v1+json"
_ENDPOINTS = (
    ("tags", re.compile(r"/v2/(?P<name>.+)/tags/list")),
    ("manifest", re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")),
    ("start", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?")),
    ("upload", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<id>[^/]+)")),
    ("blob", re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>[^/]+)")),
    ("referrers", re.compile(r"/v2/(?P<name>.+)/referrers/(?P<digest>[^/]+)")),
)
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
Endpoint = Callable[..., Awaitable[Answer]]


class Api:
    def __init__(
        self,
        store: Store,
        uploads: Uploads,
        access: Access,
        metrics: Metrics,
        *,
        read_only: bool = False,
        cache: Cache | None = None,
    ) -> None:
        self._store, self._uploads = store, uploads
        self._access, self._metrics = access, metrics
        self._read_only, self._cache = read_only or cache is not None, cache
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("tags", "GET"): self._tags,
            ("manifest", "GET"): self._get_manifest,
            ("manifest", "HEAD"): self._get_manifest,
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("start", "POST"): self._start,
            ("upload", "GET"): self._status,
            ("upload", "PATCH"): self._patch,
            ("upload", "PUT"): self._finish,
            ("upload", "DELETE"): self._cancel,
            ("blob", "GET"): self._get_blob,
            ("blob", "HEAD"): self._get_blob,
            ("blob", "DELETE"): self._delete_blob,
            ("referrers", "GET"): self._referrers,
        }

    async def answer(self, request: Request) -> Answer:
        """The handler of the server: refusals become answers here and nowhere else."""
        what = "other"
        try:
            what, answer = await self._answer(request)
        except Refusal as refusal:
            headers = {"Content-Type": "application/json", **refusal.headers}
            answer = Answer(refusal.status, headers, refusal.body())
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            full = error.errno in {28, 122}  # ENOSPC, EDQUOT
            text = "no space left on device" if full else (error.strerror or str(error)).lower()
            body = Refusal("UNKNOWN", text, status=507 if full else 500)
            answer = Answer(body.status, {"Content-Type": "application/json"}, body.body())
        answer.headers = {**API_VERSION, **answer.headers}
        self._metrics.count(request.method, what, answer.status)
        return answer

    async def _answer(self, request: Request) -> tuple[str, Answer]:
        if request.path in {"/v2", "/v2/"}:
            await self._access.check(request, "", "")
            return "base", Answer(200, {"Content-Type": "application/json"}, b"{}")
        if self._access.tokens and request.path == self._access.tokens.path:
            return "token", await self._access.give(request)
        if request.path == "/v2/_catalog":
            await self._access.check(request, "registry:catalog:*", "")
            return "catalog", self._catalog(request)
        for what, pattern in _ENDPOINTS:
            if match := pattern.fullmatch(request.path):
                return what, await self._found(request, what, match.groupdict())
        raise Refusal("UNSUPPORTED", "page not found", status=404)

    async def _found(self, request: Request, what: str, parts: dict[str, str]) -> Answer:
        name = check_name(parts.pop("name"))
        writes = request.method in WRITES
        actions = "delete" if request.method == "DELETE" else "pull,push" if writes else "pull"
        await self._access.check(request, name, actions)
        if writes and self._read_only:
            raise Refusal("UNSUPPORTED", "this registry is read-only")
        endpoint = self._endpoints.get((what, request.method))
        if endpoint is None:
            raise Refusal("UNSUPPORTED", f"{request.method} is not supported here")
        return await endpoint(request, name, **parts)

    # Content discovery

    def _catalog(self, request: Request) -> Answer:
        return _page(request, "repositories", self._store.names(), {}, "/v2/_catalog")

    async def _tags(self, request: Request, name: str) -> Answer:
        repository = self._repository(name)
        where = f"/v2/{name}/tags/list"
        return _page(request, "tags", sorted(repository.tags), {"name": name}, where)

    def _repository(self, name: str) -> Repository:
        repository = self._store.repository(name)
        if repository is None:
            raise Refusal("NAME_UNKNOWN", f"repository name not known to registry: {name}")
        return repository

    async def _referrers(self, request: Request, name: str, digest: str) -> Answer:
        check_digest(digest)
        found = self._store.referrers(name, digest)
        headers = {"Content-Type": REFERRERS}
        if kind := request.first("artifactType"):
            found = [one for one in found if one.get("artifactType") == kind]
            headers["OCI-Filters-Applied"] = "artifactType"
        document = {"schemaVersion": 2, "mediaType": REFERRERS, "manifests": found}
        return Answer(200, headers, json.dumps(document).encode())

    # Manifests

    async def _get_manifest(self, request: Request, name: str, reference: str) -> Answer:
        if self._cache is not None:
            await self._cache.manifest(name, reference)
        entry = self._entry(name, reference)
        raw = self._store.read_manifest(name, entry.digest)
        if raw is None:
            raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown: {entry.digest}")
        headers = {
            "Content-Type": entry.media_type,
            "Docker-Content-Digest": entry.digest,
            "ETag": f'"{entry.digest}"',
        }
        if entry.digest in request.headers.get("if-none-match", ""):
            return Answer(304, headers)
        return Answer(200, headers, raw)

    def _entry(self, name: str, reference: str) -> Entry:
        repository = self._repository(name)
        if digests.is_valid(reference):
            entry = repository.entries.get(reference)
        else:
            check_tag(reference)
            entry = repository.entries.get(repository.tags.get(reference, ""))
        if entry is None:
            raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown to registry: {reference}")
        return entry

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
        tags = [] if by_digest else [reference]
        self._store.put_manifest(name, digest, taken.media_type, raw, tags, taken.needed)
        headers = {
            "Location": f"/v2/{name}/manifests/{digest}",
            "Docker-Content-Digest": digest,
        }
        if taken.subject:
            headers["OCI-Subject"] = taken.subject
        return Answer(201, headers)

    async def _delete_manifest(self, request: Request, name: str, reference: str) -> Answer:
        self._repository(name)
        if digests.is_valid(reference):
            done = self._store.remove_manifest(name, reference)
        else:
            done = self._store.remove_tag(name, check_tag(reference))
        if not done:
            raise Refusal("MANIFEST_UNKNOWN", f"manifest unknown to registry: {reference}")
        return Answer(202)

    # Blobs

    async def _get_blob(self, request: Request, name: str, digest: str) -> Answer:
        check_digest(digest)
        size = self._store.blob_size(name, digest)
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest}"',
        }
        if size is None and self._cache is not None:
            if request.method == "GET":
                total, chunks = await self._cache.blob(name, digest)
                return Answer(200, headers, count=total, chunks=chunks)
            headers["Content-Length"] = str(await self._cache.blob_size(name, digest))
            return Answer(200, headers)
        if size is None:
            raise Refusal("BLOB_UNKNOWN", f"blob unknown to registry: {digest}")
        if request.method == "HEAD":
            headers["Content-Length"] = str(size)
            return Answer(200, headers)
        return self._blob(request, name, digest, size, headers)

    def _blob(
        self, request: Request, name: str, digest: str, size: int, headers: dict[str, str]
    ) -> Answer:
        wanted = request.headers.get("range", "")
        first, last, status = 0, size - 1, 200
        if wanted:
            match = re.fullmatch(r"bytes=(\d{1,18})-(\d{0,18})", wanted)
            if match and int(match[1]) < size:
                first, status = int(match[1]), 206
                last = min(size - 1, int(match[2])) if match[2] else size - 1
            if match is None or int(match[1]) >= size or last < first:
                raise Refusal(
                    "SIZE_INVALID",
                    f"range {wanted[:60]} is not satisfiable",
                    status=416,
                    headers={"Content-Range": f"bytes */{size}"},
                )
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        fd = self._store.open_blob(name, digest)
        if fd is None:
            raise Refusal("BLOB_UNKNOWN", f"blob unknown to registry: {digest}")
        return Answer(status, headers, file=fd, offset=first, count=last + 1 - first)

    async def _delete_blob(self, request: Request, name: str, digest: str) -> Answer:
        if not self._store.remove_blob(name, check_digest(digest)):
            raise Refusal("BLOB_UNKNOWN", f"blob unknown to registry: {digest}")
        return Answer(202)

    # Uploads

    async def _start(self, request: Request, name: str) -> Answer:
        if digest := request.first("mount"):
            check_digest(digest)
            source = request.first("from")
            may = source and await self._access.allows(request, check_name(source), "pull")
            if may and self._store.mount(name, digest, source):
                return _created(name, digest)
        upload = self._uploads.start(name)
        if digest := request.first("digest"):
            check_digest(digest)
            async with upload.lock:
                await self._uploads.append(upload, request.body)
                await self._uploads.finish(upload, digest)
            return _created(name, digest)
        return _under_way(upload, 202)

    async def _status(self, request: Request, name: str, id: str) -> Answer:
        return _under_way(await self._uploads.find(name, id), 204)

    async def _patch(self, request: Request, name: str, id: str) -> Answer:
        upload = await self._uploads.find(name, id)
        async with upload.lock:
            _check_range(request, upload)
            await self._uploads.append(upload, request.body)
        return _under_way(upload, 202)

    async def _finish(self, request: Request, name: str, id: str) -> Answer:
        upload = await self._uploads.find(name, id)
        digest = request.first("digest")
        check_digest(digest)
        async with upload.lock:
            _check_range(request, upload)
            await self._uploads.append(upload, request.body)
            await self._uploads.finish(upload, digest)
        return _created(name, digest)

    async def _cancel(self, request: Request, name: str, id: str) -> Answer:
        upload = await self._uploads.find(name, id)
        async with upload.lock:
            self._uploads.drop(upload)
        return Answer(204)


def _check_range(request: Request, upload: Upload) -> None:
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


def _under_way(upload: Upload, status: int) -> Answer:
    return Answer(
        status,
        {
            "Location": f"/v2/{upload.name}/blobs/uploads/{upload.id}",
            "Range": f"0-{max(0, upload.size - 1)}",
            "Docker-Upload-UUID": upload.id,
        },
    )


def _page(
    request: Request, key: str, found: list[str], document: dict[str, object], where: str
) -> Answer:
    """One page of a sorted list: `n` entries behind `last`, with a Link to the next."""
    text = request.first("n")
    count = DEFAULT_PAGE
    if text:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise Refusal("PAGINATION_NUMBER_INVALID", f"invalid number of results {text[:40]!r}")
        count = min(int(text), MAX_PAGE)
    if last := request.first("last"):
        found = [entry for entry in found if entry > last]
    headers = {"Content-Type": "application/json"}
    if len(found) > count > 0:
        query = urlencode({"n": count, "last": found[count - 1]})
        headers["Link"] = f'<{where}?{query}>; rel="next"'
    body = json.dumps({**document, key: found[:count]}).encode()
    return Answer(200, headers, body)
