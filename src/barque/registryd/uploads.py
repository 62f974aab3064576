"""Uploads under way: bytes in a file, their hash beside them in memory, made again after a restart.

distribution-spec, "Pushing a blob in chunks". An upload belongs to one repository.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Any

from barque.oci import digest as digests
from barque.registryd.refusals import Refusal
from barque.registryd.store import Store

ID_BYTES = 16
HASHED_BYTES = 1 << 20
MAX_UPLOADS = 1024


@dataclass(slots=True)
class Upload:
    id: str
    name: str
    fd: int
    size: int = 0
    algorithm: str = "sha256"
    hasher: Any = field(default_factory=hashlib.sha256)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    def __init__(self, store: Store) -> None:
        self._store, self._paths = store, store.paths
        self._open: dict[str, Upload] = {}

    def close(self) -> None:
        for upload in self._open.values():
            os.close(upload.fd)
        self._open.clear()

    def start(self, name: str, algorithm: str = "sha256") -> Upload:
        """`algorithm`: what its digest is most likely made with."""
        if len(self._open) >= MAX_UPLOADS:
            self._forget_oldest()
        id = secrets.token_hex(ID_BYTES)
        self._paths.upload_name(id).write_text(name)
        fd = os.open(
            self._paths.upload(id), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
        )
        upload = Upload(id, name, fd, 0, algorithm, hashlib.new(algorithm))
        self._open[id] = upload
        return upload

    def _forget_oldest(self) -> None:
        """Its file stays: who goes on with it finds it there."""
        for id, upload in self._open.items():
            if not upload.lock.locked():
                os.close(upload.fd)
                del self._open[id]
                return

    async def find(self, name: str, id: str) -> Upload:
        """Raises Refusal for one that is not there or is another repository's."""
        known = self._open.get(id)
        if known is None:
            known = await self._recovered(id)
        if known is None or known.name != name:
            raise Refusal("BLOB_UPLOAD_UNKNOWN", f"blob upload unknown to registry: {id[:64]}")
        return known

    async def _recovered(self, id: str) -> Upload | None:
        if len(id) != 2 * ID_BYTES or not digests.HEX_DIGITS.issuperset(id):
            return None
        try:
            name = self._paths.upload_name(id).read_text()
            fd = os.open(self._paths.upload(id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        upload = Upload(id, name, fd)
        await asyncio.to_thread(_hash_again, upload)
        return self._open.setdefault(id, upload)

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes]) -> None:
        """Adds bytes. When it breaks off, what came before is kept."""
        pending, size = [], 0
        async for chunk in chunks:
            pending.append(chunk)
            size += len(chunk)
            if size >= HASHED_BYTES:
                await asyncio.to_thread(_write, upload, pending)
                pending, size = [], 0
        if pending:
            await asyncio.to_thread(_write, upload, pending)

    async def finish(self, upload: Upload, digest: str) -> None:
        """It becomes a blob. Raises Refusal (and drops it) where it is not what `digest` says."""
        algorithm, digits = digests.parse(digest)
        if algorithm == upload.algorithm:
            found = upload.hasher.hexdigest()
        else:
            found = await asyncio.to_thread(_hash_as, upload, algorithm)
        if found != digits:
            self.drop(upload)
            raise Refusal(
                "DIGEST_INVALID", f"provided digest did not match uploaded content: {digest}"
            )
        await asyncio.to_thread(os.fsync, upload.fd)
        path = self._paths.upload(upload.id)
        self._store.add_blob(upload.name, digest, path)
        self.drop(upload)

    def drop(self, upload: Upload) -> None:
        if self._open.pop(upload.id, None) is not None:
            os.close(upload.fd)
        for path in (self._paths.upload(upload.id), self._paths.upload_name(upload.id)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _write(upload: Upload, pending: list[bytes]) -> None:
    for chunk in pending:
        view = memoryview(chunk)
        while view:
            written = os.pwrite(upload.fd, view, upload.size)
            upload.hasher.update(view[:written])
            upload.size += written
            view = view[written:]


def _hash_again(upload: Upload) -> None:
    while data := os.pread(upload.fd, HASHED_BYTES, upload.size):
        upload.hasher.update(data)
        upload.size += len(data)


def _hash_as(upload: Upload, algorithm: str) -> str:
    hasher, offset = hashlib.new(algorithm), 0
    while data := os.pread(upload.fd, HASHED_BYTES, offset):
        hasher.update(data)
        offset += len(data)
    return hasher.hexdigest()
