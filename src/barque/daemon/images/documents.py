"""From a record in the store to the image it names: index, manifest, config."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing

from barque import errors
from barque.daemon.images import names
from barque.daemon.images.image import Image, build
from barque.daemon.images.store import Record, Store
from barque.oci import image as oci
from barque.oci.image import Descriptor, Index, Manifest, Platform

MAX_MANIFEST_BYTES = 4 << 20
MAX_CONFIG_BYTES = 8 << 20
MAX_INDEX_DEPTH = 4  # an index in an index is legal, and a chain of them an attack
SUBJECT_ANNOTATION = "vnd.docker.reference.digest"  # what an attestation is about
MAX_MANIFESTS = 1000  # of one image, however its indexes are nested


async def read_blob(store: Store, digest: str, limit: int) -> bytes:
    """A whole blob. Raises NotFound when it is not there, ResourceExhausted when it is larger."""
    data = bytearray()
    async with aclosing(store.read(digest)) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > limit:
                raise errors.ResourceExhausted(f"content {digest} is larger than {limit} bytes")
    return bytes(data)


def choose(index: Index, wanted: Platform) -> Descriptor | None:
    """The first manifest for `wanted`: the exact variant before any that will do."""
    offered = [entry for entry in index.manifests if entry.platform is not None]
    for entry in offered:
        if entry.platform == wanted:
            return entry
    fitting = (e for e in offered if e.platform is not None and oci.matches(wanted, e.platform))
    return next(fitting, None)


async def leaves(store: Store, target: Descriptor) -> list[Descriptor]:
    """Every manifest below `target`, here or not, in the order of the indexes.

    An index that is not here counts as one; one that is met again is passed over. Raises
    InvalidArgument for indexes nested too deeply, ResourceExhausted for too many of them.
    """
    found: list[Descriptor] = []
    await _descend(store, target, 0, found, set())
    return found


async def _descend(
    store: Store, entry: Descriptor, depth: int, found: list[Descriptor], seen: set[str]
) -> None:
    if max(len(found), len(seen)) >= MAX_MANIFESTS:
        raise errors.ResourceExhausted(f"image has more than {MAX_MANIFESTS} manifests")
    if entry.media_type not in oci.INDEXES or await store.get_blob(entry.digest) is None:
        found.append(entry)
        return
    if depth == MAX_INDEX_DEPTH:
        raise errors.InvalidArgument(f"index {entry.digest} is nested too deeply")
    if entry.digest in seen:
        return
    seen.add(entry.digest)
    index = oci.parse(await read_blob(store, entry.digest, MAX_MANIFEST_BYTES), entry.media_type)
    assert isinstance(index, Index)
    for one in index.manifests:
        await _descend(store, one, depth + 1, found, seen)


def choose_any(index: Index, wanted: Sequence[Platform]) -> Descriptor | None:
    """The first manifest for the best of `wanted` that the index has."""
    return next((found for one in wanted if (found := choose(index, one)) is not None), None)


class Documents:
    """Reads documents for one host's platform."""

    def __init__(self, store: Store, host: Platform) -> None:
        self._store, self._host = store, host
        self._runnable = oci.runnable(host)

    def _choose(self, index: Index, wanted: Platform | None) -> Descriptor | None:
        return choose(index, wanted) if wanted else choose_any(index, self._runnable)

    async def manifest(
        self, target: Descriptor, wanted: Platform | None = None, depth: int = 0
    ) -> tuple[Descriptor, Manifest]:
        """The manifest of `target` for `wanted`; None is the host's, else any that is here."""
        raw = await read_blob(self._store, target.digest, MAX_MANIFEST_BYTES)
        parsed = oci.parse(raw, target.media_type)
        if isinstance(parsed, Manifest):
            return target, parsed
        if depth == MAX_INDEX_DEPTH:
            raise errors.InvalidArgument(f"index {target.digest} is nested too deeply")
        entry = self._choose(parsed, wanted)
        if wanted is None and (entry is None or await self._store.get_blob(entry.digest) is None):
            entry = await self._present(parsed) or entry
        if entry is None:
            entry = await self._nested(target, wanted)
        return await self.manifest(entry, wanted, depth + 1)

    async def _nested(self, target: Descriptor, wanted: Platform | None) -> Descriptor:
        """As `manifest`, among what the indexes in an index have. Raises NotFound."""
        below = Index(b"", target.media_type, tuple(await leaves(self._store, target)))
        entry = self._choose(below, wanted)
        if wanted is None and (entry is None or await self._store.get_blob(entry.digest) is None):
            entry = await self._present(below) or entry
        if entry is None:
            platform = wanted or self._host
            raise errors.NotFound(f"no matching manifest for {platform} in {target.digest}")
        return entry

    def choose_present(self, index: Index, is_present: Callable[[str], bool]) -> Descriptor:
        """The manifest for the host if it is present, else any that is. Raises NotFound."""
        entry = self._choose(index, None)
        if entry is not None and is_present(entry.digest):
            return entry
        for other in index.manifests:
            if is_present(other.digest):
                return other
        raise errors.NotFound(f"no manifest of the index is present for {self._host}")

    async def _present(self, index: Index) -> Descriptor | None:
        for entry in index.manifests:
            runs = entry.platform is not None and entry.platform.os != "unknown"
            if runs and await self._store.get_blob(entry.digest) is not None:
                return entry
        return None

    async def others(self, target: Descriptor, known: str) -> list[tuple[Descriptor, Manifest]]:
        """What else of an index is here whole and runs somewhere, beside the manifest `known`."""
        found = []
        for entry in await leaves(self._store, target):
            runs = entry.platform is not None and entry.platform.os != "unknown"
            if entry.digest == known or not runs:
                continue
            manifest = await self._whole(entry)
            if manifest is not None:
                found.append((entry, manifest))
        return found

    async def _whole(self, entry: Descriptor) -> Manifest | None:
        """The manifest, if it and all that it leads to are here."""
        if await self._store.get_blob(entry.digest) is None:
            return None
        raw = await read_blob(self._store, entry.digest, MAX_MANIFEST_BYTES)
        parsed = oci.parse(raw, entry.media_type)
        if not isinstance(parsed, Manifest):
            return None
        for blob in (parsed.config, *parsed.layers):
            if await self._store.get_blob(blob.digest) is None:
                return None
        return parsed

    async def beside(self, target: Descriptor, manifests: Collection[str]) -> list[Descriptor]:
        """What goes with `manifests` of an index when it is carried off: their attestations as
        far as they are here, and the indexes, the outermost last."""
        found: list[Descriptor] = []
        for entry in await leaves(self._store, target):
            if entry.annotations.get(SUBJECT_ANNOTATION) in manifests:
                manifest = await self._whole(entry)
                if manifest is not None:
                    found += [*manifest.layers, manifest.config, entry]
        return [*found, *reversed(await self.indexes(target))]

    async def indexes(self, target: Descriptor, depth: int = 0) -> list[Descriptor]:
        """`target` and the indexes below it that are here, outermost first."""
        if depth > MAX_INDEX_DEPTH or await self._store.get_blob(target.digest) is None:
            return []
        raw = await read_blob(self._store, target.digest, MAX_MANIFEST_BYTES)
        parsed, found = oci.parse(raw, target.media_type), [target]
        for entry in parsed.manifests if isinstance(parsed, Index) else ():
            if entry.media_type in oci.INDEXES:
                found += await self.indexes(entry, depth + 1)
        return found

    async def check_platform(self, manifest: Manifest, wanted: Platform) -> None:
        """Raises NotFound where the image is for another platform."""
        raw = await read_blob(self._store, manifest.config.digest, MAX_CONFIG_BYTES)
        config = oci.parse_config(raw)
        if not oci.matches(wanted, config.platform):
            raise errors.NotFound(
                f"image was found but its platform ({config.platform}) does not match "
                f"the specified platform ({wanted})"
            )

    async def identify(self, record: Record) -> str:
        """The image id of a record: from its label, or from the documents. "" where they lack."""
        known = record.labels.get(names.ID_LABEL)
        if known:
            return known
        try:
            _, manifest = await self.manifest(record.target)
        except errors.BarqueError:  # a name for something that is no image, or not whole here
            return ""
        return manifest.config.digest

    async def image(self, record: Record, display: str) -> Image:
        """Raises NotFound or InvalidArgument where the documents are missing or no image."""
        digest = record.labels.get(names.MANIFEST_LABEL, "")
        config_digest = record.labels.get(names.ID_LABEL, "")
        if not digest or not config_digest:
            found, manifest = await self.manifest(record.target)
            digest, config_digest = found.digest, manifest.config.digest
        raw = await read_blob(self._store, config_digest, MAX_CONFIG_BYTES)
        size = record.labels.get(names.SIZE_LABEL, "")
        return build(
            display,
            record.target,
            digest,
            config_digest,
            oci.parse_config(raw),
            int(size) if size.isdigit() else 0,
        )
