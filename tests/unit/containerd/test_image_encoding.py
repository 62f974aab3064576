"""Images encoded from rows are what protobuf makes of them."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from barque.containerd.image_encoding import EncodedList
from barque.containerd.images import _message
from barque.containerd.proto import images_pb2 as api

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
LABELS = st.dictionaries(TEXT, TEXT, max_size=3).map(json.dumps)
TIME = st.integers(0, 1 << 62)
ROWS = st.tuples(TEXT, TEXT, TEXT, st.integers(0, (1 << 63) - 1), LABELS, LABELS, TIME, TIME)


@given(st.lists(ROWS, max_size=4))
def test_the_bytes_are_protobufs(rows: list[Any]) -> None:
    expected = api.ListImagesResponse(images=map(_message, rows))
    found = api.ListImagesResponse.FromString(EncodedList(rows).SerializeToString())
    assert found == expected
    assert len(EncodedList(rows).SerializeToString()) == len(expected.SerializeToString())
