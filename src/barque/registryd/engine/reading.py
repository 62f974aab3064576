"""Pulls from an engine. An index may name platforms that it does not have: these are unknown."""

from __future__ import annotations

from collections.abc import AsyncIterator

from barque import errors
from barque.containerd.client import Containerd
from barque.oci import digest as digests
from barque.registry.referrers import described
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
)
from barque.registryd.engine.shelves import DOCUMENTS, Shelves
from barque.registryd.http import Answer, Request
from barque.registryd.names import check_digest, check_tag


class Reading:
    def __init__(self, containerd: Containerd, shelves: Shelves) -> None:
        self._containerd, self._shelves = containerd, shelves

    def endpoints(self) -> Endpoints:
        return reads(
            catalog=self._catalog,
            tags=self._tags,
            manifest=self._get_manifest,
            blob=self._get_blob,
            referrers=self._referrers,
        )

    async def _catalog(self, request: Request) -> Answer:
        found = await self._shelves.names()
        return page(request, "repositories", found, {}, "/v2/_catalog")

    async def _tags(self, request: Request, name: str) -> Answer:
        shelf = await self._shelves.shelf(name, request.first("ns"))
        return page(request, "tags", sorted(shelf.tags), {"name": name}, f"/v2/{name}/tags/list")

    async def _get_manifest(self, request: Request, name: str, reference: str) -> Answer:
        space = request.first("ns")
        digest, kind = reference, None
        if digests.is_valid(reference):
            kind = await self._shelves.kind(name, reference, space)
        else:
            target = await self._shelves.tagged(name, check_tag(reference), space)
            if target is not None:
                digest, kind = target.digest, target.media_type
        raw = await self._shelves.document(digest) if kind in DOCUMENTS else None
        if kind is None or raw is None:
            raise unknown_manifest(reference)
        return manifest_answer(request, kind, digest, raw)

    async def _get_blob(self, request: Request, name: str, digest: str) -> Answer:
        if await self._shelves.kind(name, check_digest(digest), request.first("ns")) is None:
            raise unknown_blob(digest)
        try:
            size = (await self._containerd.content.info(digest)).size
        except errors.NotFound:
            raise unknown_blob(digest) from None
        headers = blob_headers(digest)
        if request.method == "HEAD":
            headers["Content-Length"] = str(size)
            return Answer(200, headers)
        status, first, count = span(request, size, headers)
        return Answer(status, headers, count=count, chunks=self._read(digest, first, count))

    async def _read(self, digest: str, first: int, count: int) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._containerd.content.read(digest, first, count):
                yield chunk
        except errors.BarqueError as error:  # the head has gone: the connection is cut
            raise ConnectionResetError(str(error)) from error

    async def _referrers(self, request: Request, name: str, digest: str) -> Answer:
        check_digest(digest)
        found = {}
        for target in (await self._shelves.shelf(name, request.first("ns"))).targets:
            for other, kind in (await self._shelves.below(target)).items():
                raw = await self._shelves.document(other) if kind in DOCUMENTS else None
                about = described(kind, other, raw) if raw is not None else None
                if about is not None and about[0] == digest:
                    found[other] = about[1]
        return referrers_page(request, name, digest, list(found.values()))
