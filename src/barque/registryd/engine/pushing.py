"""Pushes to an engine: blobs become containerd's, tags its images' names, all below one domain.

    library/app:1     registry.example:5000/library/app:1
    library/app@...   registry.example:5000/library/app@sha256:...   (also once its tag has moved)

A push never takes a name of another domain over. What it brings is unpacked when it is first run.
An upload is an ingest of containerd's: it outlives this process, and a lease bounds its life.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.content import Writer
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.images import Image
from barque.oci import digest as digests
from barque.registryd.engine.held import Held
from barque.registryd.engine.shelves import Shelves
from barque.registryd.refusals import Refusal

ID_BYTES = 16
BATCH_BYTES = 1 << 20
MAX_OPEN = 256
PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds: a stream that broke off
BY_DIGEST_LABEL = "io.barque.registry.by-digest"  # a name that only keeps what has no other
GC_CONTENT = "containerd.io/gc.ref.content."


@dataclass(slots=True)
class Upload:
    id: str
    name: str
    writer: Writer
    stack: AsyncExitStack
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def size(self) -> int:
        return self.writer.offset


class Pushing:
    """`writing.Place` on containerd."""

    def __init__(self, containerd: Containerd, shelves: Shelves, held: Held, domain: str) -> None:
        self._containerd, self._shelves, self._held = containerd, shelves, held
        self._domain = domain
        self._open: dict[str, Upload] = {}

    async def close(self) -> None:
        for upload in tuple(self._open.values()):
            await self._forget(upload)

    # Uploads

    async def start(self, name: str, algorithm: str) -> Upload:
        if algorithm != "sha256":
            raise _unsupported(algorithm)
        return await self._opened(name, secrets.token_hex(ID_BYTES))

    async def find(self, name: str, id: str) -> Upload:
        known = self._open.get(id)
        if known is not None and known.name == name:
            return known
        unknown = Refusal("BLOB_UPLOAD_UNKNOWN", f"blob upload unknown to registry: {id[:64]}")
        if known or len(id) != 2 * ID_BYTES or not digests.HEX_DIGITS.issuperset(id):
            raise unknown
        try:
            await self._containerd.content.status(_ref(name, id))
        except errors.NotFound:
            raise unknown from None
        return await self._opened(name, id)

    async def _opened(self, name: str, id: str) -> Upload:
        content = self._containerd.with_lease(await self._held.lease(name)).content
        pauses = list(PAUSES)
        while True:
            stack = AsyncExitStack()
            try:
                writer = await stack.enter_async_context(content.writer(_ref(name, id)))
                break
            except errors.Unavailable:
                if not pauses:
                    raise
                await asyncio.sleep(pauses.pop(0))
        upload = Upload(id, name, writer, stack)
        if id in self._open:  # two asked at once: containerd lets one of them in at a time
            await stack.aclose()
            return self._open[id]
        self._open[id] = upload
        await self._bound()
        return upload

    async def _bound(self) -> None:
        """What is not open stays in containerd: who goes on with it finds it there."""
        for upload in tuple(self._open.values()):
            if len(self._open) <= MAX_OPEN:
                return
            if not upload.lock.locked():
                await self._forget(upload)

    async def _forget(self, upload: Upload) -> None:
        self._open.pop(upload.id, None)
        with suppress(errors.BarqueError):
            await upload.stack.aclose()

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes]) -> None:
        pending = bytearray()
        try:
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= BATCH_BYTES:
                    await upload.writer.write(bytes(pending))
                    pending.clear()
            if pending:
                await upload.writer.write(bytes(pending))
            await upload.writer.digest()  # all of it has been taken
        except errors.BarqueError:
            await self._forget(upload)
            raise

    async def finish(self, upload: Upload, digest: str) -> None:
        algorithm = digests.parse(digest)[0]
        if algorithm != "sha256":
            await self.drop(upload)
            raise _unsupported(algorithm)
        try:
            await upload.writer.commit(digest=digest)
        except errors.AlreadyExists:
            pass
        except errors.DataLoss:
            text = f"provided digest did not match uploaded content: {digest}"
            raise Refusal("DIGEST_INVALID", text) from None
        finally:
            await self.drop(upload)
        if not await self._held.add(upload.name, digest):
            raise errors.Unavailable(f"blob {digest} was removed while it came")

    async def drop(self, upload: Upload) -> None:
        await self._forget(upload)
        with suppress(errors.NotFound):
            await self._containerd.content.abort(_ref(upload.name, upload.id))

    async def mount(self, name: str, digest: str, source: str) -> bool:
        there = await self._shelves.kind(source, digest) is not None
        return there and await self._held.add(name, digest)

    # Manifests

    async def put_manifest(
        self,
        name: str,
        digest: str,
        media_type: str,
        raw: bytes,
        tags: Sequence[str],
        needed: Sequence[str],
    ) -> None:
        if not digest.startswith("sha256:"):
            raise _unsupported(digest.partition(":")[0])
        for blob in needed:
            here = await self._shelves.kind(name, blob) is not None
            if not here or not await self._held.add(name, blob):
                raise Refusal("MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {blob}")
        labels = {f"{GC_CONTENT}{number}": blob for number, blob in enumerate(needed)}
        content = self._containerd.with_lease(await self._held.lease(name)).content
        await content.put(f"barque-registry-{secrets.token_hex(8)}", raw, digest, labels)
        target = Descriptor(media_type, digest, len(raw))
        for tag in tags:
            await self._point(name, tag, target)
        if not tags:
            await self._keep(name, target)
        for blob in needed:
            await self._let_go(name, blob)
        self._shelves.changed()

    async def _point(self, name: str, tag: str, target: Descriptor) -> None:
        full = f"{self._domain}/{name}:{tag}"
        before = await self._image(full)
        if before is not None and before.target.digest != target.digest:
            await self._keep(name, before.target)
        await self._containerd.images.put(Image(full, target))

    async def _image(self, full: str) -> Image | None:
        try:
            return await self._containerd.images.get(full)
        except errors.NotFound:
            return None

    async def _keep(self, name: str, target: Descriptor) -> None:
        """A manifest is had by its digest when no tag leads to it."""
        full = f"{self._domain}/{name}@{target.digest}"
        with suppress(errors.AlreadyExists):
            await self._containerd.images.create(Image(full, target, {BY_DIGEST_LABEL: "1"}))

    async def _let_go(self, name: str, digest: str) -> None:
        """An index leads to it now."""
        image = await self._image(f"{self._domain}/{name}@{digest}")
        if image is not None and BY_DIGEST_LABEL in image.labels:
            with suppress(errors.NotFound):
                await self._containerd.images.delete(image.name)

    async def remove_tag(self, name: str, tag: str) -> bool:
        shelf = await self._shelves.shelf(name)
        image = await self._image(f"{self._domain}/{name}:{tag}")
        if image is None:
            if tag in shelf.tags:
                raise _not_ours(f"{name}:{tag}")
            return False
        await self._keep(name, image.target)
        return await self._remove([image])

    async def remove_manifest(self, name: str, digest: str) -> bool:
        await self._shelves.shelf(name)
        own = f"{self._domain}/{name}"
        found = [
            image
            for image in await self._containerd.images.list([f"target.digest=={digest}"])
            if image.name.startswith((f"{own}:", f"{own}@"))
        ]
        if not found and await self._shelves.kind(name, digest):
            raise _not_ours(f"{name}@{digest}")
        await self._held.remove(name, digest)
        return await self._remove(found)

    async def _remove(self, images: Sequence[Image]) -> bool:
        for image in images:
            with suppress(errors.NotFound):
                await self._containerd.images.delete(image.name)
        self._shelves.changed()
        return bool(images)

    async def remove_blob(self, name: str, digest: str) -> bool:
        before = await self._shelves.kind(name, digest) is not None
        await self._held.remove(name, digest)
        if await self._shelves.kind(name, digest) is not None:
            raise Refusal("UNSUPPORTED", f"an image of {name} has blob {digest}")
        return before


def _ref(name: str, id: str) -> str:
    """Of an ingest: an upload belongs to one repository."""
    return f"barque-registry-{id}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _unsupported(algorithm: str) -> Refusal:
    return Refusal("DIGEST_INVALID", f"an engine has digests of sha256 only, not of {algorithm}")


def _not_ours(text: str) -> Refusal:
    return Refusal("UNSUPPORTED", f"{text} was not pushed here: it is removed at the engine")
