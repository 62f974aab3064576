"""Which repositories an engine's images make, and what is in each.

    docker.io/library/busybox:1       library/busybox:1
    127.0.0.1:5000/app:1              app:1                 (so for all registries of this machine)
    registry.example:443/team/app:1   registry.example/team/app:1

Images of the domain that pushes go to are shown without it, before all others of that name.
Whoever says which registry it means (`?ns=`, as containerd asks mirrors) gets what has that name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from barque import errors
from barque.containerd.client import Containerd
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.images import Image
from barque.oci import image as oci
from barque.oci.reference import DEFAULT_DOMAIN, Reference, parse
from barque.proxied import is_loopback
from barque.registry.addresses import parse as parse_url
from barque.registryd.answers import unknown_name
from barque.registryd.engine.held import Held
from barque.registryd.manifests import MAX_MANIFEST_BYTES, references
from barque.registryd.refusals import Refusal

FRESH_S = 1.0  # what is asked for by digest may have been listed so long ago
MAX_KNOWN = 10_000
DOCUMENTS = oci.INDEXES | oci.MANIFESTS


@dataclass(slots=True)
class Shelf:
    """A repository: its tags, and all that its names lead to."""

    tags: dict[str, Descriptor] = field(default_factory=dict)
    targets: list[Descriptor] = field(default_factory=list)


class Shelves:
    def __init__(
        self,
        containerd: Containerd,
        held: Held,
        domain: str = "",
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._containerd, self._held, self._clock_s = containerd, held, clock_s
        self._domain = domain
        self._shelves: dict[str, Shelf] = {}
        self._listed_s = float("-inf")
        self._inside: dict[str, dict[str, str]] = {}  # target -> digests -> media types

    async def _list(self) -> None:
        images = await self._containerd.images.list()
        shelves: dict[str, Shelf] = {}
        for image in sorted(images, key=self._rank):
            for key, tag in self._places(image):
                shelf = shelves.setdefault(key, Shelf())
                shelf.targets.append(image.target)
                if tag:
                    shelf.tags.setdefault(tag, image.target)
        self._shelves, self._listed_s = shelves, self._clock_s()

    def _rank(self, image: Image) -> tuple[bool, bool]:
        own = bool(self._domain) and image.name.startswith(self._domain + "/")
        return not own, not image.name.startswith(DEFAULT_DOMAIN + "/")

    def _places(self, image: Image) -> list[tuple[str, str]]:
        """The keys of the shelves that an image is on, with its tag, "" for none."""
        try:
            ref = parse(image.name)
        except errors.InvalidArgument:  # dangling, or somebody's own
            return []
        return [(key, ref.tag) for key in (self._shown(ref), f"{ref.domain}\0{ref.path}")]

    def _shown(self, ref: Reference) -> str:
        """The repository that a reference is shown in."""
        if ref.domain in {DEFAULT_DOMAIN, self._domain}:
            return ref.path
        host = parse_url(f"https://{ref.domain}/").host
        return ref.path if is_loopback(host) else f"{host}/{ref.path}"

    def changed(self) -> None:
        """Names were made or removed here: what was listed is not so any more."""
        self._listed_s = float("-inf")

    async def names(self) -> list[str]:
        await self._list()
        return sorted(name for name in self._shelves if "\0" not in name)

    async def shelf(self, name: str, space: str = "") -> Shelf:
        """`space`: the registry that is meant. Raises Refusal."""
        await self._list()
        shelf = self._shelves.get(_key(name, space))
        if shelf is None:
            raise unknown_name(name)
        return shelf

    async def tagged(self, name: str, tag: str, space: str = "") -> Descriptor | None:
        """What a tag leads to; None where there is none, or no such repository."""
        await self._list()
        return self._shelves.get(_key(name, space), Shelf()).tags.get(tag)

    async def kind(self, name: str, digest: str, space: str = "") -> str | None:
        """The media type of what the repository has by this digest; None where it has it not.

        "" for a blob that was pushed and that no name leads to.
        """
        for again in (False, True):
            if again or self._clock_s() - self._listed_s > FRESH_S:
                await self._list()
            shelf = self._shelves.get(_key(name, space), Shelf())
            for target in shelf.targets:
                kind = (await self.below(target)).get(digest)
                if kind is not None:
                    return kind
        return "" if not space and digest in await self._held.digests(name) else None

    async def below(self, target: Descriptor) -> dict[str, str]:
        """All that a target leads to, itself too. It never changes, but more may come here."""
        known = self._inside.get(target.digest)
        if known is not None:
            return known
        found, whole = {target.digest: target.media_type}, True
        queue = [target.digest]
        while queue:
            digest = queue.pop()
            raw = await self.document(digest)
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

    async def document(self, digest: str) -> bytes | None:
        data = bytearray()
        try:
            async for chunk in self._containerd.content.read(digest):
                data += chunk
                if len(data) > MAX_MANIFEST_BYTES:
                    raise Refusal("MANIFEST_INVALID", f"manifest {digest} is too large")
        except errors.NotFound:
            return None
        return bytes(data)


def _key(name: str, space: str) -> str:
    """What a shelf is found by: as it is shown, or within the registry `space`."""
    return f"{space}\0{name}" if space else name


def check_domain(domain: str) -> None:
    """That pushed images can be named `domain/...`. Raises InvalidArgument."""
    try:
        good = parse(f"{domain}/x").domain == domain != DEFAULT_DOMAIN
    except errors.InvalidArgument:
        good = False
    if not good:
        raise errors.InvalidArgument(
            f"invalid name of a registry {domain!r}: expected HOST:PORT or a name with a dot"
        )


def _children(raw: bytes, kind: str) -> Sequence[tuple[str, str]]:
    try:
        parsed = oci.parse(raw, kind)
    except errors.InvalidArgument:
        return [(digest, "") for digest in references(raw)]
    if isinstance(parsed, oci.Index):
        return [(entry.digest, entry.media_type) for entry in parsed.manifests]
    return [(entry.digest, entry.media_type) for entry in (parsed.config, *parsed.layers)]
