"""Images as an archive: an OCI image layout in a tar, which `docker load` reads as well."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from barque.containerd.content.blobs import Blobs, from_file
from barque.containerd.transfer.graph import Graph, is_foreign
from barque.containerd.transfer.names import FULL_NAME, TAG
from barque.errors import BarqueError, NotFound
from barque.oci import document, image, tar
from barque.oci import reference as references
from barque.oci.image import Descriptor, Manifest, Platform
from barque.oci.tar_writer import END_OF_ARCHIVE, header, padding

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


async def archived(
    blobs: Blobs,
    namespace: str,
    images: Sequence[tuple[str, Descriptor]],
    platforms: Sequence[Platform],
    *,
    for_docker: bool,
    foreign: bool,
) -> AsyncIterator[bytes]:
    """The archive's bytes. Raises NotFound for an image of which nothing is there for a platform.

    `for_docker`: with a manifest.json; `foreign`: with layers that registries do not give out.
    """
    graph = Graph(blobs, namespace)
    entries, docker, written = [], [], set()
    for name, target in images:
        manifests = list(graph.manifests(target, platforms))
        if not manifests:
            raise NotFound(f"image {name}: no manifest for the platform is there: not found")
        entries.append(_described(name, target))
        if for_docker:
            docker.append(_for_docker(name, manifests[0]))
        for node, _ in graph.walk(target, platforms):
            if node.digest not in written and (foreign or not is_foreign(node)):
                written.add(node.digest)
                async for piece in _blob(blobs, namespace, node):
                    yield piece
    yield _member("oci-layout", LAYOUT)
    index = {"schemaVersion": 2, "mediaType": image.OCI_INDEX, "manifests": entries}
    yield _member("index.json", document.dump(index))
    if for_docker:
        yield _member("manifest.json", document.dump(docker))
    yield END_OF_ARCHIVE


def _described(name: str, target: Descriptor) -> dict[str, Any]:
    annotations = {**target.annotations, FULL_NAME: name}
    try:
        annotations[TAG] = references.parse(name).tag or name
    except BarqueError:
        annotations[TAG] = name
    made = Descriptor(target.media_type, target.digest, target.size, annotations=annotations)
    return made.document()


def _for_docker(name: str, manifest: Manifest) -> dict[str, Any]:
    try:
        tags = [references.parse(name).familiar]
    except BarqueError:
        tags = [name]
    return {
        "Config": _path(manifest.config.digest),
        "RepoTags": tags,
        "Layers": [_path(layer.digest) for layer in manifest.layers],
    }


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _member(name: str, data: bytes) -> bytes:
    head = header(name.encode(), tar.REGULAR, mode=0o444, size=len(data))
    return head + data + padding(len(data))


async def _blob(blobs: Blobs, namespace: str, node: Descriptor) -> AsyncIterator[bytes]:
    size = blobs.size(namespace, node.digest)
    fd = blobs.open(namespace, node.digest)
    try:
        yield header(_path(node.digest).encode(), tar.REGULAR, mode=0o444, size=size)
        async for piece in from_file(fd, size):
            yield piece
        yield padding(size)
    finally:
        os.close(fd)
