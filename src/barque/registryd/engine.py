"""The images of an engine as a registry, straight from containerd's content: to be read only.

    docker.io/library/busybox:1       library/busybox:1
    127.0.0.1:5000/app:1              app:1                 (so for all registries of this machine)
    registry.example:443/team/app:1   registry.example/team/app:1

Whoever says which registry it means (`?ns=`, as containerd asks mirrors) gets what has that name.
Nothing is copied. An index may name platforms that the engine does not have: these are unknown.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.images import Image
from barque.oci import digest as digests
from barque.oci import image as oci
from barque.oci.reference import DEFAULT_DOMAIN, Reference, parse
from barque.registry.addresses import is_loopback
from barque.registry.addresses import parse as parse_url
from barque.registry.referrers import described
from barque.registryd.answers import (
    Endpoints,
    blob_headers,
    manifest_answer,
    page,
    referrers_page,
    span,
    unknown_blob,
    unknown_manifest,
    unknown_name,
)
from barque.registryd.http import Answer, Request
from barque.registryd.manifests import MAX_MANIFEST_BYTES, references
from barque.registryd.names import check_digest, check_tag
from barque.registryd.refusals import Refusal

FRESH_S = 1.0  # what is asked for by digest may have been listed so long ago
MAX_KNOWN = 10_000
DOCUMENTS = oci.INDEXES | oci.MANIFESTS


@dataclass(slots=True)
class _Shelf:
    """A repository: its tags, and all that its names lead to."""

    tags: dict[str, Descriptor] = field(default_factory=dict)
    targets: list[Descriptor] = field(default_factory=list)


def names_of(ref: Reference) -> list[str]:
    """The repositories that a reference is shown in."""
    if ref.domain == DEFAULT_DOMAIN:
        return [ref.path]
    host = parse_url(f"https://{ref.domain}/").host
    return [ref.path] if is_loopback(host) else [f"{host}/{ref.path}"]


class Engine:
    def __init__(
        self, containerd: Containerd, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._containerd, self._clock_s = containerd, clock_s
        self._shelves: dict[str, _Shelf] = {}
        self._listed_s = float("-inf")
        self._inside: dict[str, dict[str, str]] = {}  # target -> digests -> media types

    def endpoints(self) -> Endpoints:
        return {
            ("catalog", "GET"): self._catalog,
            ("tags", "GET"): self._tags,
            ("manifest", "GET"): self._get_manifest,
            ("manifest", "HEAD"): self._get_manifest,
            ("blob", "GET"): self._get_blob,
            ("blob", "HEAD"): self._get_blob,
            ("referrers", "GET"): self._referrers,
        }

    # What there is

    async def _list(self) -> None:
        images = await self._containerd.images.list()
        shelves: dict[str, _Shelf] = {}
        ordered = sorted(images, key=lambda image: not image.name.startswith(DEFAULT_DOMAIN + "/"))
        for image in ordered:
            for key, tag in _places(image):
                shelf = shelves.setdefault(key, _Shelf())
                shelf.targets.append(image.target)
                if tag:
                    shelf.tags.setdefault(tag, image.target)
        self._shelves, self._listed_s = shelves, self._clock_s()

    async def _shelf(self, request: Request, name: str) -> _Shelf:
        await self._list()
        space = request.first("ns")
        shelf = self._shelves.get(f"{space}\0{name}" if space else name)
        if shelf is None:
            raise unknown_name(name)
        return shelf

    async def _kind(self, request: Request, name: str, digest: str) -> str | None:
        """The media type of what the repository has by this digest; None where it has it not."""
        for again in (False, True):
            if again or self._clock_s() - self._listed_s > FRESH_S:
                await self._list()
            space = request.first("ns")
            shelf = self._shelves.get(f"{space}\0{name}" if space else name, _Shelf())
            for target in shelf.targets:
                kind = (await self._below(target)).get(digest)
                if kind is not None:
                    return kind
        return None

    async def _below(self, target: Descriptor) -> dict[str, str]:
        """All that a target leads to, itself too. It never changes, but more may come here."""
        known = self._inside.get(target.digest)
        if known is not None:
            return known
        found, whole = {target.digest: target.media_type}, True
        queue = [target.digest]
        while queue:
            digest = queue.pop()
            raw = await self._document(digest)
            if raw is None:
                whole = False
                continue
            for child, kind in _children(raw, found[digest]):
                if child not in found and len(found) < MAX_KNOWN:
                    found[child] = kind
                    queue += [child] if kind in DOCUMENTS else []
        if whole:
            if len(self._inside) >= MAX_KNOWN:
                self._inside.clear()
            self._inside[target.digest] = found
        return found

    async def _document(self, digest: str) -> bytes | None:
        data = bytearray()
        try:
            async for chunk in self._containerd.content.read(digest):
                data += chunk
                if len(data) > MAX_MANIFEST_BYTES:
                    raise Refusal("MANIFEST_INVALID", f"manifest {digest} is too large")
        except errors.NotFound:
            return None
        return bytes(data)

    # The endpoints

    async def _catalog(self, request: Request) -> Answer:
        await self._list()
        found = sorted(name for name in self._shelves if "\0" not in name)
        return page(request, "repositories", found, {}, "/v2/_catalog")

    async def _tags(self, request: Request, name: str) -> Answer:
        found = sorted((await self._shelf(request, name)).tags)
        return page(request, "tags", found, {"name": name}, f"/v2/{name}/tags/list")

    async def _get_manifest(self, request: Request, name: str, reference: str) -> Answer:
        digest, kind = reference, None
        if digests.is_valid(reference):
            kind = await self._kind(request, name, reference)
        else:
            target = (await self._shelf(request, name)).tags.get(check_tag(reference))
            if target is not None:
                digest, kind = target.digest, target.media_type
        raw = await self._document(digest) if kind in DOCUMENTS else None
        if kind is None or raw is None:
            raise unknown_manifest(reference)
        return manifest_answer(request, kind, digest, raw)

    async def _get_blob(self, request: Request, name: str, digest: str) -> Answer:
        if await self._kind(request, name, check_digest(digest)) is None:
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
        await self._list()
        found = {}
        for target in (await self._shelf(request, name)).targets:
            for other, kind in (await self._below(target)).items():
                raw = await self._document(other) if kind in DOCUMENTS else None
                about = described(kind, other, raw) if raw is not None else None
                if about is not None and about[0] == digest:
                    found[other] = about[1]
        return referrers_page(request, name, digest, list(found.values()))


def _places(image: Image) -> list[tuple[str, str]]:
    """The keys of the shelves that an image is on, with its tag, "" for none."""
    try:
        ref = parse(image.name)
    except errors.InvalidArgument:  # dangling, or somebody's own
        return []
    keys = [*names_of(ref), f"{ref.domain}\0{ref.path}"]
    return [(key, ref.tag) for key in keys]


def _children(raw: bytes, kind: str) -> Sequence[tuple[str, str]]:
    try:
        parsed = oci.parse(raw, kind)
    except errors.InvalidArgument:
        return [(digest, "") for digest in references(raw)]
    if isinstance(parsed, oci.Index):
        return [(entry.digest, entry.media_type) for entry in parsed.manifests]
    return [(entry.digest, entry.media_type) for entry in (parsed.config, *parsed.layers)]


async def open_engine(address: str, namespace: str, stack: AsyncExitStack) -> Endpoints:
    """Raises Unavailable where no containerd answers there."""
    containerd = await Containerd.connect(address.removeprefix("unix://"), namespace)
    stack.callback(containerd.close)
    await containerd.version()
    return Engine(containerd).endpoints()
