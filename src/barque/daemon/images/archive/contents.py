"""What came in an archive of images: small members in memory, large ones in the store already.

Names of members are keys of a table here and nothing else: no file is made of them, and links lead
only to other keys (CVE-2014-9356, CVE-2014-9358).
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from barque import errors
from barque.daemon.images.archive import compression
from barque.daemon.images.archive.members import Member, members
from barque.daemon.images.coming import Made, as_it_comes
from barque.daemon.images.progress import Progress
from barque.daemon.images.store import Blob, Store
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci.image import Descriptor

SMALL_BYTES = 1 << 20  # kept in memory: documents, tiny layers
MAX_SMALL_BYTES = 64 << 20  # of all small members together
MAX_MEMBERS = 100_000
MAX_LINKS = 16
_SUFFIXES = {"": "", "gzip": "+gzip", "zstd": "+zstd"}


def key_of(name: str) -> str:
    """A member's name as a key: `./a//b` and `/a/b` are `a/b`; what leads out leads nowhere."""
    return posixpath.normpath("/" + name).lstrip("/")


@dataclass(slots=True)
class Contents:
    store: Store
    lease: str
    small: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, tuple[Blob, str]] = field(default_factory=dict)  # with its compression
    made: dict[str, Made] = field(default_factory=dict)  # unpacked as it came; by digest
    links: dict[str, str] = field(default_factory=dict)
    _small_bytes: int = 0
    _members: int = 0

    async def fill(self, chunks: AsyncIterator[bytes], progress: Progress | None) -> None:
        """Takes a whole tar, compressed or not. Raises InvalidArgument for what is none."""
        async for member in members(compression.plain(chunks)):
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise errors.ResourceExhausted(f"archive has more than {MAX_MEMBERS} members")
            await self._take(member, progress)

    async def _take(self, member: Member, progress: Progress | None) -> None:
        key = key_of(member.name)
        if member.link:
            base = posixpath.dirname(key) if member.symbolic else ""
            self.links[key] = key_of(posixpath.join("/", base, member.link))
        elif member.is_file and member.size <= SMALL_BYTES:
            self._small_bytes += member.size
            if self._small_bytes > MAX_SMALL_BYTES:
                raise errors.ResourceExhausted(
                    f"archive has more than {MAX_SMALL_BYTES} bytes of small members"
                )
            self.small[key] = b"".join([chunk async for chunk in member.chunks])
        elif member.is_file:
            self.large[key] = await self._store_member(key, member, progress)

    async def _store_member(
        self, key: str, member: Member, progress: Progress | None
    ) -> tuple[Blob, str]:
        head, stream = await compression.peek(member.chunks)
        kind = compression.kind_of(head)
        if kind in {"xz", "bzip2"}:
            raise errors.Unsupported(f"member {key[:200]!r} is compressed by {kind}")
        line = progress.item(_shown(key)) if progress else None

        async def counted() -> AsyncIterator[bytes]:
            done = 0
            async for chunk in stream:
                done += len(chunk)
                if line:
                    line.amount("Loading layer", done, member.size)
                yield chunk

        media_type = oci.OCI_LAYER + _SUFFIXES[kind]  # which it most likely is
        bring = partial(self.store.write, counted(), self.lease, digest=_stated(key))
        blob, made = await as_it_comes(
            self.store, media_type, self.lease, lambda begun: bring(begun=begun), apart=True
        )
        if made is not None:
            self.made[blob.digest] = made
        return blob, kind

    def _resolve(self, name: str) -> str:
        key = key_of(name)
        for _ in range(MAX_LINKS):
            if key not in self.links or key in self.small or key in self.large:
                return key
            key = self.links[key]
        raise errors.InvalidArgument(f"invalid archive: too many links at {name[:200]!r}")

    def __contains__(self, name: str) -> bool:
        key = self._resolve(name)
        return key in self.small or key in self.large

    async def document(self, name: str, limit: int) -> bytes:
        """A member whole. Raises InvalidArgument when it is missing or larger than `limit`."""
        key = self._resolve(name)
        if key in self.small:
            return self.small[key]
        if key not in self.large:
            raise errors.InvalidArgument(f"invalid archive: {name[:200]!r} is missing")
        blob, _ = self.large[key]
        if blob.size > limit:
            raise errors.InvalidArgument(f"invalid archive: {name[:200]!r} is too large")
        async with aclosing(self.store.read(blob.digest)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def layer(self, name: str) -> Descriptor:
        """A member as a layer in the store; what it is tells its first bytes."""
        key = self._resolve(name)
        if key in self.large:
            blob, kind = self.large[key]
        elif key in self.small:
            raw = self.small[key]
            kind = compression.kind_of(raw[: compression.MAGIC_BYTES])
            blob = await self.store.write(_whole(raw), self.lease, digest=digests.sha256(raw))
        else:
            raise errors.InvalidArgument(f"invalid archive: layer {name[:200]!r} is missing")
        if kind not in _SUFFIXES:
            raise errors.Unsupported(f"layer {name[:200]!r} is compressed by {kind}")
        return Descriptor(oci.OCI_LAYER + _SUFFIXES[kind], blob.digest, blob.size)


def blob_path(digest: str) -> str:
    """Where an OCI layout has a blob."""
    return "blobs/" + digest.replace(":", "/")


def _stated(key: str) -> str:
    """The digest that a member of an OCI layout has by its name; "" for any other."""
    if not key.startswith("blobs/"):
        return ""
    digest = key.removeprefix("blobs/").replace("/", ":")
    return digest if digests.is_valid(digest) else ""


def _shown(key: str) -> str:
    """Twelve characters for a progress line: digits of the digest or of the layer's directory."""
    stated = _stated(key)
    return (stated.partition(":")[2] if stated else key)[:12]


async def _whole(raw: bytes) -> AsyncIterator[bytes]:
    yield raw
