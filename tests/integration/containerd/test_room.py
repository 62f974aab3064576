"""A disk is not filled to its last byte: what a blob or a layer needs is asked for before."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from barque.containerd.content.store import ContentStore
from barque.containerd.diff.applying import Target, apply_layer
from barque.containerd.metadata import Metadata
from barque.containerd.paths import ContentPaths
from barque.containerd.references import References
from barque.containerd.room import check_room
from barque.errors import NotFound, ResourceExhausted
from tests.support.disks import small_disk
from tests.support.layers import entry, gzipped, layer

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
DISK_BYTES = 64 << 20
KEPT_BYTES = DISK_BYTES // 100
PIECE_BYTES = 1 << 20


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with small_disk(DISK_BYTES) as place:
        yield place


def free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def test_room_is_what_is_free_but_for_the_last_hundredth(disk: Path) -> None:
    check_room(str(disk), 0, "nothing")
    check_room(str(disk), free(disk) - KEPT_BYTES, "all")
    with pytest.raises(ResourceExhausted, match="no space left on device for too much: "):
        check_room(str(disk), free(disk) - KEPT_BYTES + 1, "too much")


def test_a_layer_that_grows_beyond_the_disk_ends_before_it_is_full(disk: Path) -> None:
    """A bomb: 200 KB that become 100 MB."""
    target = disk / "target"
    target.mkdir()
    with tempfile.TemporaryFile() as blob:
        blob.write(gzipped(layer([entry("zeros", bytes(100 << 20))])))
        blob.flush()
        with pytest.raises(ResourceExhausted, match="no space left on device for a layer"):
            apply_layer(blob.fileno(), Target(str(target), False, ()), threading.Event())
    assert KEPT_BYTES <= free(disk) < KEPT_BYTES + 2 * PIECE_BYTES
    (target / "zeros").unlink()


def test_a_blob_that_can_not_fit_is_refused_before_its_first_byte(disk: Path) -> None:
    with closing(Metadata(disk / "meta.db")) as metadata:
        paths = ContentPaths(disk / "content")
        store = ContentStore(metadata, References(metadata), paths)
        with pytest.raises(ResourceExhausted, match="no space left on device for content big"):
            store.begin("n", "big", DISK_BYTES, "")
        assert os.listdir(paths.ingests) == []
        with pytest.raises(NotFound):
            store.find_ingest("n", "big")

        begun = store.begin("n", "grows", 0, "")  # of a size that nobody told
        for _ in range(free(disk) // PIECE_BYTES - 1):
            begun.write(bytes(PIECE_BYTES))
        with pytest.raises(ResourceExhausted, match="no space left on device for content grows"):
            begun.write(bytes(2 * PIECE_BYTES))
        assert free(disk) >= KEPT_BYTES
        store.release(begun)
        with pytest.raises(ResourceExhausted):  # what is there already counts
            store.begin("n", "grows", begun.offset + 2 * PIECE_BYTES, "")
        store.abort("n", "grows")
        assert os.listdir(paths.ingests) == []
        small = store.begin("n", "small", 4, "")
        small.write(b"fits")
        store.finish(small)
