"""A registry that holds what another one has: fetched when first asked for, then from here.

A tag is asked for again each time, so that it moves when it moves there; while the other registry
does not answer, what is here goes on being served. Many who want one blob at once cause one fetch,
and read from its file while it grows; its last bytes are given out once its digest was found right.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from barque import errors
from barque.oci import digest as digests
from barque.registry import Credentials, Repository, Transport, open_repository
from barque.registryd import manifests
from barque.registryd.refusals import Refusal
from barque.registryd.store import Repository as Stored
from barque.registryd.store import Store
from barque.registryd.uploads import Upload, Uploads

READ_BYTES = 1 << 20


@dataclass(slots=True)
class _Fetch:
    upload: Upload
    size: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        return self.task is not None and self.task.done()

    def tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Cache:
    def __init__(
        self,
        store: Store,
        uploads: Uploads,
        transport: Transport,
        domain: str,
        credentials: Credentials,
    ) -> None:
        self._store, self._uploads = store, uploads
        self._transport, self._domain, self._credentials = transport, domain, credentials
        self._repositories: dict[str, Repository] = {}
        self._fetches: dict[tuple[str, str], _Fetch] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[None]] = {}

    def close(self) -> None:
        for fetch in self._fetches.values():
            if fetch.task is not None:
                fetch.task.cancel()

    def _repository(self, name: str) -> Repository:
        known = self._repositories.get(name)
        if known is None:
            if len(self._repositories) > 1024:
                self._repositories.clear()
            known = open_repository(self._transport, self._domain, name, name, self._credentials)
            self._repositories[name] = known
        return known

    async def manifest(self, name: str, reference: str) -> None:
        """Sees to it that the store has what the other registry has. Raises Refusal."""
        known = self._store.repository(name)
        if known is None or reference not in known.entries:
            await self._asked(name, reference, known)
        found = self._store.repository(name)
        if found is not None:  # used now: it does not expire
            self._store.blob_size(name, found.tags.get(reference, reference))

    async def _asked(self, name: str, reference: str, known: Stored | None) -> None:
        """As `manifest`; what is `known` is good while the other registry does not answer."""
        key = (name, reference)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(name, reference))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        try:
            await asyncio.shield(task)
        except errors.NotFound as error:
            raise Refusal("MANIFEST_UNKNOWN", str(error)) from error
        except errors.BarqueError as error:
            if known is not None and (reference in known.entries or reference in known.tags):
                return
            raise Refusal("UNAVAILABLE", str(error)) from error

    async def _ask(self, name: str, reference: str) -> None:
        fetched = await self._repository(name).manifest(reference)
        taken = manifests.check(fetched.raw, fetched.media_type)
        tags = [] if digests.is_valid(reference) else [reference]
        known = self._store.repository(name)
        if known is None or any(known.tags.get(tag) != fetched.digest for tag in tags or [""]):
            self._store.put_manifest(
                name, fetched.digest, taken.media_type, fetched.raw, tags, needed=()
            )

    async def tags(self, name: str) -> list[str] | None:
        """Those of the other registry; None where it does not answer. Raises Refusal."""
        try:
            return await self._repository(name).tags()
        except errors.NotFound as error:
            raise Refusal("NAME_UNKNOWN", str(error)) from error
        except errors.BarqueError:
            return None

    async def referrers(self, name: str, digest: str) -> list[dict[str, Any]] | None:
        """As `tags`."""
        try:
            return await self._repository(name).referrers(digest)
        except errors.BarqueError:
            return None

    async def blob_size(self, name: str, digest: str) -> int:
        """Raises Refusal."""
        fetch = self._fetches.get((name, digest))
        if fetch is not None:
            return fetch.size
        try:
            return await self._repository(name).blob_size(digest)
        except errors.NotFound as error:
            raise Refusal("BLOB_UNKNOWN", str(error)) from error
        except errors.BarqueError as error:
            raise Refusal("UNAVAILABLE", str(error)) from error

    async def blob(self, name: str, digest: str) -> tuple[int, AsyncIterator[bytes]]:
        """Its size, and its bytes as they arrive. Raises Refusal."""
        size = await self.blob_size(name, digest)
        key = (name, digest)
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = self._fetches[key] = _Fetch(self._uploads.start(name), size)
            fetch.task = asyncio.create_task(self._fetch(fetch, name, digest))
            fetch.task.add_done_callback(lambda _: self._ended(key))
        return size, self._tail(fetch, os.dup(fetch.upload.fd))

    def _ended(self, key: tuple[str, str]) -> None:
        fetch = self._fetches.pop(key)
        fetch.tell()
        if fetch.task is not None and not fetch.task.cancelled():
            fetch.task.exception()  # those who read find out; it is not ours to log

    async def _fetch(self, fetch: _Fetch, name: str, digest: str) -> None:
        try:
            async with aclosing(self._repository(name).blob(digest, fetch.size)) as chunks:
                async for chunk in chunks:
                    await self._uploads.append(fetch.upload, _one(chunk))
                    fetch.tell()
            await self._uploads.finish(fetch.upload, digest)
        except BaseException:
            self._uploads.drop(fetch.upload)
            raise

    async def _tail(self, fetch: _Fetch, fd: int) -> AsyncIterator[bytes]:
        """The bytes of a file that grows. Raises ConnectionError when it will never be whole."""
        try:
            offset = 0
            while offset < fetch.size:
                changed = fetch.changed
                ready = fetch.upload.size
                if not fetch.over and ready >= fetch.size:
                    ready -= 1  # the last byte waits for the digest
                if offset < ready:
                    data = os.pread(fd, min(READ_BYTES, ready - offset), offset)
                    offset += len(data)
                    yield data
                elif fetch.over:
                    raise ConnectionResetError("the other registry broke off")
                else:
                    await changed.wait()
                if fetch.over and fetch.task is not None and fetch.task.exception() is not None:
                    raise ConnectionResetError("the other registry broke off")
        finally:
            os.close(fd)


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
