"""Labels of blobs: which a client is told only once the disk has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from barque.containerd.content.blobs import Blobs
from barque.containerd.content.service import Content
from barque.containerd.content.store import UNCOMPRESSED_LABEL, ContentStore
from barque.containerd.events import Exchange
from barque.containerd.grpc import Call
from barque.containerd.metadata import Metadata
from barque.containerd.paths import ContentPaths
from barque.containerd.proto import content_pb2
from barque.containerd.references import References

CALL = Call("n")
GC_LABEL = "containerd.io/gc.root"


class Watched(Metadata):
    """Counts who waits for the disk."""

    waited = 0

    async def durable(self) -> None:
        self.waited += 1
        await super().durable()


@pytest.mark.parametrize(
    ("labels", "waits"),
    [
        ({UNCOMPRESSED_LABEL: "sha256:" + "0" * 64}, 0),
        ({GC_LABEL: "yes"}, 1),
        ({UNCOMPRESSED_LABEL: "sha256:" + "0" * 64, GC_LABEL: "yes"}, 1),
    ],
    ids=["what the bytes tell", "what holds it", "both"],
)
def test_what_cannot_be_found_out_again_is_durable(
    tmp_path: Path, labels: dict[str, str], waits: int
) -> None:
    metadata = Watched(tmp_path / "meta.db")
    references = References(metadata)
    store = ContentStore(metadata, references, ContentPaths(tmp_path / "content"))

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a layer"

    async def update() -> dict[str, str]:
        blob = await Blobs(store, metadata, references).write(CALL, "r", pieces())
        metadata.waited = 0
        request = content_pb2.UpdateRequest(
            info=content_pb2.Info(digest=blob.digest, labels=labels),
            update_mask=FieldMask(paths=[f"labels.{name}" for name in labels]),
        )
        service = Content(store, metadata, references, Exchange())
        return dict((await service.update(CALL, request)).info.labels)

    assert asyncio.run(update()) == labels
    assert metadata.waited == waits
    metadata.close()
