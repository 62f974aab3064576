"""`writing.Place` in a directory: blobs and manifests of the store, files of uploads."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence

from barque.registryd.answers import unknown_name
from barque.registryd.store import Store
from barque.registryd.uploads import Upload, Uploads


class Directory:
    def __init__(self, store: Store, uploads: Uploads) -> None:
        self._store, self._uploads = store, uploads

    async def start(self, name: str, algorithm: str) -> Upload:
        return self._uploads.start(name, algorithm)

    async def find(self, name: str, id: str) -> Upload:
        return await self._uploads.find(name, id)

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes]) -> None:
        await self._uploads.append(upload, chunks)

    async def finish(self, upload: Upload, digest: str) -> None:
        await self._uploads.finish(upload, digest)

    async def drop(self, upload: Upload) -> None:
        self._uploads.drop(upload)

    async def mount(self, name: str, digest: str, source: str) -> bool:
        return self._store.mount(name, digest, source)

    async def put_manifest(
        self,
        name: str,
        digest: str,
        media_type: str,
        raw: bytes,
        tags: Sequence[str],
        needed: Sequence[str],
    ) -> None:
        self._store.put_manifest(name, digest, media_type, raw, tags, needed)

    async def remove_tag(self, name: str, tag: str) -> bool:
        self._check(name)
        return self._store.remove_tag(name, tag)

    async def remove_manifest(self, name: str, digest: str) -> bool:
        self._check(name)
        return self._store.remove_manifest(name, digest)

    def _check(self, name: str) -> None:
        if self._store.repository(name) is None:
            raise unknown_name(name)

    async def remove_blob(self, name: str, digest: str) -> bool:
        return self._store.remove_blob(name, digest)
