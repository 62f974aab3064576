"""An image as a graph of content: what a descriptor leads to, and the labels that hold it.

Source: containerd, core/images/handlers.go and docs/garbage-collection.md: an index or a manifest
holds its children by labels `containerd.io/gc.ref.content.{m.N,config,l.N}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from barque.containerd.content.blobs import Blobs
from barque.containerd.proto.types_pb2 import Platform as PlatformMessage
from barque.errors import InvalidArgument, NotFound, ResourceExhausted
from barque.oci import image
from barque.oci.image import Descriptor, Index, Manifest, Platform

DOCUMENT_BYTES_MAX = 8 << 20
DEPTH_MAX = 4  # of indexes in indexes
DESCRIPTORS_MAX = 20_000
LABEL = "containerd.io/gc.ref.content"


class Node(NamedTuple):
    """A blob of an image. `parent` is the digest of the document that names it."""

    descriptor: Descriptor
    parent: str


def is_document(descriptor: Descriptor) -> bool:
    """Whether it names others."""
    return descriptor.media_type in image.INDEXES | image.MANIFESTS


def is_foreign(descriptor: Descriptor) -> bool:
    return descriptor.media_type.startswith(image.FOREIGN_PREFIXES)


def wanted_children(
    document: Manifest | Index, platforms: Sequence[Platform], limit: int = 0
) -> tuple[Descriptor, ...]:
    """What a document names, without manifests for other platforms (none: all are wanted).

    `limit` is how many manifests of an index are wanted (0: all), the best matches first.
    """
    if isinstance(document, Manifest):
        return (document.config, *document.layers)
    found = document.manifests
    if platforms:
        found = tuple(
            child
            for wanted in platforms
            for child in found
            if child.platform is None or image.matches(wanted, child.platform)
        )
        found = tuple({child.digest: child for child in found}.values())
    return found[:limit] if limit else found


def labels_of(document: Manifest | Index, wanted: Sequence[Descriptor]) -> dict[str, str]:
    """The labels by which a document holds those of its children that are there."""
    there = {child.digest for child in wanted}
    if isinstance(document, Index):
        return {
            f"{LABEL}.m.{at}": child.digest
            for at, child in enumerate(document.manifests)
            if child.digest in there
        }
    layers = {f"{LABEL}.l.{at}": layer.digest for at, layer in enumerate(document.layers)}
    return {f"{LABEL}.config": document.config.digest, **layers}


class Graph:
    """The images in one namespace's content."""

    def __init__(self, blobs: Blobs, namespace: str) -> None:
        self._blobs = blobs
        self._namespace = namespace

    def document(self, descriptor: Descriptor) -> Manifest | Index:
        return image.parse(self.read(descriptor), descriptor.media_type)

    def read(self, descriptor: Descriptor) -> bytes:
        return self._blobs.read(self._namespace, descriptor.digest, DOCUMENT_BYTES_MAX)

    def label(self, digest: str, labels: Mapping[str, str]) -> None:
        self._blobs.label(self._namespace, digest, labels)

    def walk(
        self, root: Descriptor, platforms: Sequence[Platform], *, parents_first: bool = False
    ) -> Iterator[Node]:
        """Every blob of an image that is wanted, each once; children before who names them.

        What is wanted and not there is left out below an index, as in a pull of one platform.
        Raises NotFound when `root` is not there.
        """
        self._blobs.size(self._namespace, root.digest)
        yield from self._walk(root, "", platforms, parents_first, set(), 0)

    def _walk(
        self,
        node: Descriptor,
        parent: str,
        platforms: Sequence[Platform],
        parents_first: bool,
        seen: set[str],
        depth: int,
    ) -> Iterator[Node]:
        if node.digest in seen:
            return
        seen.add(node.digest)
        check_bounds(len(seen), depth)
        if parents_first:
            yield Node(node, parent)
        if is_document(node):
            document = self.document(node)
            for child in wanted_children(document, platforms):
                if isinstance(document, Index) and not self._is_there(child):
                    continue
                yield from self._walk(child, node.digest, platforms, parents_first, seen, depth + 1)
        if not parents_first:
            yield Node(node, parent)

    def _is_there(self, descriptor: Descriptor) -> bool:
        try:
            self._blobs.size(self._namespace, descriptor.digest)
        except NotFound:
            return False
        return True

    def manifests(self, root: Descriptor, platforms: Sequence[Platform]) -> Iterator[Manifest]:
        """The manifests of an image that are there and wanted."""
        for node, _ in self.walk(root, platforms, parents_first=True):
            if node.media_type in image.MANIFESTS:
                document = self.document(node)
                assert isinstance(document, Manifest)
                yield document


def check_bounds(count: int, depth: int) -> None:
    """Raises ResourceExhausted for an image that has no end."""
    if depth > DEPTH_MAX or count > DESCRIPTORS_MAX:
        raise ResourceExhausted(f"image has more than {DESCRIPTORS_MAX} blobs, or is too deep")


def platforms_of(messages: Sequence[PlatformMessage]) -> tuple[Platform, ...]:
    """Raises InvalidArgument for a platform without system or architecture."""
    for message in messages:
        if not message.os or not message.architecture:
            raise InvalidArgument("platform has no os or no architecture")
    return tuple(Platform(one.os, one.architecture, one.variant) for one in messages)
