"""A stream of Content/Write, on a store of its own."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from barque.containerd.content.store import ContentStore
from barque.containerd.content.writer import Writer
from barque.containerd.grpc import Call
from barque.containerd.metadata import Metadata
from barque.containerd.paths import ContentPaths
from barque.containerd.proto import content_pb2 as api
from barque.containerd.references import References

DATA = b"bytes that another namespace has"
STAT = api.WriteContentRequest(action=api.STAT)


def test_a_blob_of_another_namespace_began_when_it_was_asked_for(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "meta.db")
    references = References(metadata)
    store = ContentStore(metadata, references, ContentPaths(tmp_path / "content"))
    request = api.WriteContentRequest(
        ref="r", total=len(DATA), expected=f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    )

    async def check() -> None:
        first = Writer(store, metadata, references, Call("one"), request)
        await first.handle(api.WriteContentRequest(action=api.COMMIT, data=DATA))
        await first.close()
        second = Writer(store, metadata, references, Call("two"), request)
        asked = [await second.handle(STAT) for _ in range(2)]
        assert [answer.offset for answer in asked] == [len(DATA)] * 2
        assert asked[0].started_at == asked[1].started_at
        assert asked[0].updated_at == asked[1].updated_at
        await second.close()

    asyncio.run(check())
    metadata.close()
