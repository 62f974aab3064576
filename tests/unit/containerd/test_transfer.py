"""Names of transferred images, platforms, and archives in any pieces."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from barque.containerd.content.blobs import Blobs
from barque.containerd.content.store import ContentStore
from barque.containerd.grpc import Call
from barque.containerd.metadata import Metadata
from barque.containerd.paths import ContentPaths
from barque.containerd.proto.transfer_types_pb2 import ImageReference, ImageStore
from barque.containerd.references import References
from barque.containerd.transfer.archive_in import Archive
from barque.containerd.transfer.graph import Graph, labels_of, wanted_children
from barque.containerd.transfer.names import FULL_NAME, TAG, annotated_name, names_in_archive
from barque.errors import InvalidArgument, ResourceExhausted
from barque.oci import document, image
from barque.oci.image import Descriptor, Index, Manifest, Platform
from tests.support.node import busybox_archive

DIGEST = "sha256:" + "1" * 64
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
LINUX, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("annotations", "overwrite", "name"),
    [
        ({FULL_NAME: "docker.io/a:1"}, False, "docker.io/a:1"),
        ({FULL_NAME: "docker.io/ab:1"}, False, ""),
        ({FULL_NAME: "docker.io/ab:1"}, True, "docker.io/ab:1"),
        ({TAG: "2"}, False, "docker.io/a:2"),
        ({TAG: "docker.io/a:3"}, False, "docker.io/a:3"),
        ({TAG: "quay.io/a:3"}, False, ""),
        ({TAG: "quay.io/a:3"}, True, "quay.io/a:3"),
        ({}, True, ""),
    ],
)
def test_names_by_annotation(annotations: dict[str, str], overwrite: bool, name: str) -> None:
    prefix = ImageReference(name="docker.io/a", is_prefix=True, allow_overwrite=overwrite)
    assert annotated_name(annotations, prefix) == name


@pytest.mark.parametrize(
    ("tag", "skip", "names"),
    [
        ("1", False, ["a:1", f"a@{DIGEST}"]),
        ("1", True, ["a:1"]),
        ("", True, [f"a@{DIGEST}"]),
    ],
)
def test_names_with_digests(tag: str, skip: bool, names: list[str]) -> None:
    reference = ImageReference(name="a", is_prefix=True, add_digest=True, skip_named_digest=skip)
    target = Descriptor(image.OCI_MANIFEST, DIGEST, 1, annotations={TAG: tag} if tag else {})
    assert names_in_archive(ImageStore(extra_references=[reference]), target) == names


def test_platforms_of_an_index() -> None:
    children = tuple(
        Descriptor(image.OCI_MANIFEST, digest, 1, platform)
        for digest, platform in ((A, ARM), (B, LINUX), (C, None))
    )
    index = Index(b"", image.OCI_INDEX, children)
    assert [one.digest for one in wanted_children(index, ())] == [A, B, C]
    assert [one.digest for one in wanted_children(index, (LINUX,))] == [B, C]
    assert [one.digest for one in wanted_children(index, (LINUX, ARM), 1)] == [B]
    held = labels_of(index, wanted_children(index, (LINUX,)))
    assert held == {
        "containerd.io/gc.ref.content.m.1": B,
        "containerd.io/gc.ref.content.m.2": C,
    }


class World:
    def __init__(self, root: Path) -> None:
        metadata = Metadata(root / "meta.db")
        references = References(metadata)
        content = ContentStore(metadata, references, ContentPaths(root / "content"))
        self.blobs = Blobs(content, metadata, references)

    def read(self, pieces: list[bytes]) -> tuple[Descriptor, list[Descriptor]]:
        async def given() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        async def main() -> tuple[Descriptor, list[Descriptor]]:
            return await Archive(self.blobs, Call("default")).read(given())

        return asyncio.run(main())


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_in_any_pieces(tmp_path: Path, packed: bool) -> None:
    data = busybox_archive()
    data = gzip.compress(data, 1) if packed else data
    numbers = random.Random(4)
    cuts = sorted({0, 1, len(data), *(numbers.randrange(len(data)) for _ in range(50))})
    pieces = [data[start:end] for start, end in pairwise(cuts)]
    world = World(tmp_path)
    index, (target,) = world.read(pieces)
    graph = Graph(world.blobs, "default")
    kinds = [node.descriptor.media_type for node in graph.walk(index, ())]
    assert kinds[-2:] == [image.OCI_MANIFEST, image.OCI_INDEX]  # children come first
    (manifest,) = graph.manifests(target, (LINUX,))
    assert isinstance(manifest, Manifest)
    assert len(manifest.layers) == 1


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    data = busybox_archive()
    for count in (100, 5000, len(data) // 2):
        with pytest.raises(InvalidArgument):
            World(tmp_path).read([data[:count]])


def test_an_index_in_itself_ends(tmp_path: Path) -> None:
    """A digest cannot be in its own bytes, but indexes may be nested without end."""
    world = World(tmp_path)

    async def nested() -> Descriptor:
        inner = Descriptor(image.OCI_MANIFEST, A, 1)
        for level in range(8):
            raw = document.dump(
                {
                    "schemaVersion": 2,
                    "mediaType": image.OCI_INDEX,
                    "manifests": [inner.document()],
                    "annotations": {"level": str(level)},
                }
            )

            async def once(data: bytes = raw) -> AsyncIterator[bytes]:
                yield data

            made = await world.blobs.write(Call("default"), f"r{level}", once())
            inner = Descriptor(image.OCI_INDEX, made.digest, made.size)
        return inner

    root = asyncio.run(nested())
    with pytest.raises(ResourceExhausted):
        list(Graph(world.blobs, "default").walk(root, ()))
