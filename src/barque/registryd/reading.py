"""Pull and discovery, from what is on the disk or at the registry that is cached.

distribution-spec, "Pull" and "Content Discovery".
"""

from __future__ import annotations

from barque.oci import digest as digests
from barque.registryd.answers import (
    Endpoints,
    blob_headers,
    manifest_answer,
    page,
    reads,
    referrers_page,
    span,
    unknown_blob,
    unknown_manifest,
    unknown_name,
)
from barque.registryd.cache import Cache
from barque.registryd.http import Answer, Request
from barque.registryd.names import check_digest, check_tag
from barque.registryd.store import Entry, Repository, Store


class Reading:
    def __init__(self, store: Store, cache: Cache | None = None) -> None:
        self._store, self._cache = store, cache

    def endpoints(self) -> Endpoints:
        return reads(
            catalog=self._catalog,
            tags=self._tags,
            manifest=self._get_manifest,
            blob=self._get_blob,
            referrers=self._referrers,
        )

    async def _catalog(self, request: Request) -> Answer:
        return page(request, "repositories", self._store.names(), {}, "/v2/_catalog")

    async def _tags(self, request: Request, name: str) -> Answer:
        found = await self._cache.tags(name) if self._cache is not None else None
        if found is None:
            found = list(self._repository(name).tags)
        return page(request, "tags", sorted(found), {"name": name}, f"/v2/{name}/tags/list")

    def _repository(self, name: str) -> Repository:
        repository = self._store.repository(name)
        if repository is None:
            raise unknown_name(name)
        return repository

    async def _referrers(self, request: Request, name: str, digest: str) -> Answer:
        check_digest(digest)
        found = await self._cache.referrers(name, digest) if self._cache is not None else None
        if found is None:
            found = self._store.referrers(name, digest)
        return referrers_page(request, name, digest, found)

    async def _get_manifest(self, request: Request, name: str, reference: str) -> Answer:
        if self._cache is not None:
            await self._cache.manifest(name, reference)
        entry = self._entry(name, reference)
        raw = self._store.read_manifest(name, entry.digest)
        if raw is None:
            raise unknown_manifest(entry.digest)
        return manifest_answer(request, entry.media_type, entry.digest, raw)

    def _entry(self, name: str, reference: str) -> Entry:
        """Of an unknown repository too it is the manifest that is unknown, as clients expect."""
        repository = self._store.repository(name) or Repository()
        if digests.is_valid(reference):
            entry = repository.entries.get(reference)
        else:
            check_tag(reference)
            entry = repository.entries.get(repository.tags.get(reference, ""))
        if entry is None:
            raise unknown_manifest(reference)
        return entry

    async def _get_blob(self, request: Request, name: str, digest: str) -> Answer:
        size = self._store.blob_size(name, check_digest(digest))
        headers = blob_headers(digest)
        if size is None and self._cache is not None:
            if request.method == "GET":
                total, chunks = await self._cache.blob(name, digest)
                return Answer(200, headers, count=total, chunks=chunks)
            headers["Content-Length"] = str(await self._cache.blob_size(name, digest))
            return Answer(200, headers)
        if size is None:
            raise unknown_blob(digest)
        if request.method == "HEAD":
            headers["Content-Length"] = str(size)
            return Answer(200, headers)
        status, first, count = span(request, size, headers)
        fd = self._store.open_blob(name, digest)
        if fd is None:
            raise unknown_blob(digest)
        return Answer(status, headers, file=fd, offset=first, count=count)
