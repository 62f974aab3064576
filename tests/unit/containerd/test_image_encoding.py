"""Images encoded from rows are what protobuf makes of them."""

import asyncio
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from barque.containerd.collector import Collector
from barque.containerd.events import Exchange
from barque.containerd.grpc import Call
from barque.containerd.image_encoding import EncodedList
from barque.containerd.images import Images, _message
from barque.containerd.metadata import Metadata
from barque.containerd.proto import images_pb2 as api
from barque.containerd.references import References

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
LABELS = st.dictionaries(TEXT, TEXT, max_size=3).map(json.dumps)
TIME = st.integers(0, 1 << 62)
INSERT = "INSERT INTO images VALUES (?, ?, 'some/type', 'sha256:00', 1, '{}', '{}', 5, 6)"
ROWS = st.tuples(TEXT, TEXT, TEXT, st.integers(0, (1 << 63) - 1), LABELS, LABELS, TIME, TIME)


@given(st.lists(ROWS, max_size=4))
def test_the_bytes_are_protobufs(rows: list[Any]) -> None:
    expected = api.ListImagesResponse(images=map(_message, rows))
    found = api.ListImagesResponse.FromString(EncodedList(rows).SerializeToString())
    assert found == expected
    assert len(EncodedList(rows).SerializeToString()) == len(expected.SerializeToString())


def test_a_list_that_is_kept_tells_of_every_change(tmp_path: Path) -> None:
    """It is kept between changes, whoever makes them, and only for its own namespace."""

    async def run() -> None:
        metadata = Metadata(tmp_path / "meta.db")
        references = References(metadata)
        collector = Collector(metadata, references, {}, lambda: 0.0)
        images = Images(metadata, references, Exchange(), collector)

        async def names(namespace: str) -> list[str]:
            reply = await images.list_all(Call(namespace), api.ListImagesRequest())
            listed = api.ListImagesResponse.FromString(reply.SerializeToString())
            return [image.name for image in listed.images]

        def make(namespace: str, count: int) -> list[str]:
            made = [f"{namespace}-{number:05}" for number in range(count)]
            with metadata.transaction():
                for name in made:
                    metadata.execute(INSERT, namespace, name)
            return made

        many = make("one", 2000)
        few = make("two", 3)
        for _ in range(2):
            assert await names("one") == many
            assert await names("two") == few
        with metadata.transaction():
            metadata.execute("DELETE FROM images WHERE name = ?", many.pop())
        assert await names("one") == many
        metadata.close()

    asyncio.run(run())
