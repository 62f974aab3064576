"""An archive of images as a stream: an OCI image layout or what `docker save` makes, in a tar.

Blobs are kept as they come; what they belong to stands in index.json or manifest.json, wherever in
the archive that is. Untrusted: names are only looked up, never used as paths.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import AsyncIterator
from typing import Any

from barque.containerd.content.blobs import Blob, Blobs
from barque.containerd.grpc import Call
from barque.containerd.transfer.names import FULL_NAME, TAG
from barque.errors import BarqueError, InvalidArgument, ResourceExhausted, Unsupported
from barque.oci import digest as digests
from barque.oci import document, image, tar
from barque.oci import reference as references
from barque.oci.image import Descriptor

DOCUMENTS = ("index.json", "manifest.json", "oci-layout")
DOCUMENT_BYTES_MAX = 8 << 20
MEMBERS_MAX = 50_000
INFLATED_BYTES = 1 << 20  # at once
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
IGNORED_SUFFIXES = ("/VERSION", "/json")


class Archive:
    """Reads one. `index` is the descriptor of the index blob, `images` those that it names."""

    def __init__(self, blobs: Blobs, call: Call) -> None:
        self._blobs, self._call = blobs, call
        self._documents: dict[str, bytes] = {}
        self._members: dict[str, Blob] = {}
        self._compressed: set[str] = set()  # members that are gzip already
        self._links: dict[str, str] = {}
        self._count = 0

    async def read(self, pieces: AsyncIterator[bytes]) -> tuple[Descriptor, list[Descriptor]]:
        """The index blob and the images in it. Raises InvalidArgument for another archive."""
        events = _Events(decompressed(pieces))
        while (entry := await events.entry()) is not None:
            await self._member(entry, events)
        if "index.json" in self._documents:
            found = self._of_layout()
        elif "manifest.json" in self._documents:
            found = await self._of_docker()
        else:
            raise InvalidArgument("archive has neither index.json nor manifest.json")
        return await self._index(found), found

    async def _member(self, entry: tar.Entry, events: _Events) -> None:
        self._count += 1
        if self._count > MEMBERS_MAX:
            raise ResourceExhausted(f"archive has more than {MEMBERS_MAX} members")
        name = posixpath.normpath(entry.name.decode("utf-8", "replace")).lstrip("/")
        if entry.kind in (tar.SYMLINK, tar.LINK):
            base = posixpath.dirname(name) if entry.kind == tar.SYMLINK else ""
            link = entry.link.decode("utf-8", "replace")
            self._links[name] = posixpath.normpath(posixpath.join(base, link))
        elif entry.kind != tar.REGULAR or name.endswith(IGNORED_SUFFIXES):
            return
        elif name in DOCUMENTS:
            self._documents[name] = await events.whole(DOCUMENT_BYTES_MAX)
        elif entry.size:
            await self._blob(name, entry, events)

    async def _blob(self, name: str, entry: tar.Entry, events: _Events) -> None:
        parts = name.split("/")
        expected = f"{parts[1]}:{parts[2]}" if parts[0] == "blobs" and len(parts) == 3 else ""
        if expected:
            digests.parse(expected)
        head: list[bytes] = []

        async def data() -> AsyncIterator[bytes]:
            async for piece in events.data():
                if not head:
                    head.append(piece[:2])
                yield piece

        ref = f"import-{secrets.token_hex(8)}"
        written = await self._blobs.write(
            self._call, ref, data(), expected=expected, total=entry.size
        )
        self._members[name] = written
        if head and head[0] == GZIP:
            self._compressed.add(name)

    def _of_layout(self) -> list[Descriptor]:
        found = image.parse(self._documents["index.json"], image.OCI_INDEX)
        if not isinstance(found, image.Index):
            raise InvalidArgument("index.json is not an image index")
        return list(found.manifests)

    async def _of_docker(self) -> list[Descriptor]:
        """Of each entry of manifest.json a manifest is made, for each of its names."""
        entries = _parsed(self._documents["manifest.json"], list)
        found = []
        for entry in entries:
            if not isinstance(entry, dict):
                raise InvalidArgument("manifest.json: an entry is not an object")
            config = self._described(entry.get("Config"), image.DOCKER_CONFIG)
            layers = [self._layer(name) for name in _list(entry, "Layers")]
            raw = document.dump(
                {
                    "schemaVersion": 2,
                    "mediaType": image.DOCKER_MANIFEST,
                    "config": config.document(),
                    "layers": [layer.document() for layer in layers],
                }
            )
            made = await self._written(image.DOCKER_MANIFEST, raw)
            tags = _list(entry, "RepoTags") or [""]
            found += [
                Descriptor(made.media_type, made.digest, made.size, annotations=_named(tag))
                for tag in tags
            ]
        return found

    def _layer(self, name: str) -> Descriptor:
        gzipped = self._resolved(name) in self._compressed
        return self._described(name, image.DOCKER_LAYER + (".gzip" if gzipped else ""))

    def _described(self, name: Any, kind: str) -> Descriptor:
        found = self._members.get(self._resolved(name))
        if found is None:
            raise InvalidArgument(f"manifest.json names {str(name)[:100]!r}, which is not there")
        return Descriptor(kind, found.digest, found.size)

    def _resolved(self, name: Any) -> str:
        if not isinstance(name, str):
            raise InvalidArgument("manifest.json: a name is not text")
        found: str = posixpath.normpath(name)
        for _ in range(len(self._links) + 1):
            if found not in self._links:
                return found
            found = self._links[found]
        raise InvalidArgument("manifest.json: links of the archive lead in a circle")

    async def _index(self, found: list[Descriptor]) -> Descriptor:
        if "index.json" in self._documents:
            return await self._written(image.OCI_INDEX, self._documents["index.json"])
        entries = [one.document() for one in found]
        raw = document.dump(
            {"schemaVersion": 2, "mediaType": image.OCI_INDEX, "manifests": entries}
        )
        return await self._written(image.OCI_INDEX, raw)

    async def _written(self, kind: str, raw: bytes) -> Descriptor:
        digest = digests.sha256(raw)
        await self._blobs.write(
            self._call, f"import-{secrets.token_hex(8)}", _once(raw), expected=digest
        )
        return Descriptor(kind, digest, len(raw))


def _named(tag: str) -> dict[str, str]:
    if not tag:
        return {}
    try:
        reference = references.parse(tag).with_default_tag()
    except BarqueError as error:
        raise InvalidArgument(f"manifest.json: name {tag[:100]!r}: {error}") from error
    return {FULL_NAME: reference.full, TAG: reference.tag}


def _parsed(raw: bytes, kind: type) -> Any:
    try:
        value = document.parse(raw)
    except ValueError as error:
        raise InvalidArgument(f"manifest.json: {error}") from None
    if not isinstance(value, kind):
        raise InvalidArgument("manifest.json is not a list")
    return value


def _list(entry: dict[str, Any], name: str) -> list[str]:
    found = entry.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InvalidArgument(f"manifest.json: {name} is not a list of texts")
    return found


class _Events:
    """The tar's entries and their data, as bytes come."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._reader = tar.Reader()
        self._next: tar.Event | None = None
        self._ended = False

    async def _event(self) -> tar.Event | None:
        """The next event; None at the end of the stream."""
        while (event := self._reader.next_event()) is None:
            if self._ended:
                return None
            piece = await anext(self._pieces, None)
            if piece is None:
                self._ended = True
                self._reader.end()
            else:
                self._reader.feed(piece)
        return event

    async def entry(self) -> tar.Entry | None:
        """The next entry; what is left of the data before is passed over."""
        event, self._next = self._next or await self._event(), None
        while event is not None and not isinstance(event, tar.Entry):
            event = await self._event() if not isinstance(event, tar.End) else None
        if event is None:
            async for _ in self._pieces:  # padding
                pass
        return event

    async def data(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._event(), tar.Data):
            yield bytes(event.payload)
        self._next = event

    async def whole(self, limit: int) -> bytes:
        found = bytearray()
        async for piece in self.data():
            found += piece
            if len(found) > limit:
                raise ResourceExhausted(f"a document of the archive has more than {limit} bytes")
        return bytes(found)


async def decompressed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The archive, which may be gzip. Raises Unsupported for zstd."""
    first = b""
    async for piece in pieces:
        first += piece
        if len(first) >= len(ZSTD):
            break
    if first.startswith(ZSTD):
        raise Unsupported("archives compressed by zstd are not supported in an import")
    if not first.startswith(GZIP):
        if first:
            yield first
        async for piece in pieces:
            yield piece
        return
    async for piece in _gunzipped(first, pieces):
        yield piece


async def _gunzipped(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    from isal import isal_zlib

    inflater: Any = isal_zlib.decompressobj(31)
    broken: Any = isal_zlib.error  # a class; its stub says an instance
    try:
        yield inflater.decompress(first)
        async for piece in pieces:
            while piece:  # a piece of few bytes may stand for many
                if data := inflater.decompress(piece, INFLATED_BYTES):
                    yield data
                piece = inflater.unconsumed_tail
        yield inflater.flush()
    except broken as error:
        raise InvalidArgument(f"archive is broken: {error}") from error


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
