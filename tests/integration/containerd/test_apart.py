"""Layers unpacked beside each other and laid on each other afterwards are what they are in turn."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from barque.containerd.diff.applying import apply_layer, target_of
from barque.containerd.paths import SnapshotPaths
from barque.containerd.proto.types_pb2 import Mount as MountMessage
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.snapshotter import VIEW
from tests.support.layers import (
    Member,
    directory,
    entry,
    hardlink,
    layer,
    picture,
    symlink,
)
from tests.support.rootfs import mounts_below, temporary
from tests.support.snapshots import Place

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
Layers = Sequence[list[Member]]

BASE = [
    directory("./", mode=0o751, uid=7),
    directory("etc", mode=0o700, gid=9),
    entry("etc/kept", b"kept"),
    entry("etc/changed", b"old"),
    directory("gone"),
    entry("gone/f", b"f"),
    directory("hidden", mode=0o711),
    entry("hidden/below", b"below"),
    entry("file", b"a file"),
    symlink("link", "etc"),
]
ABOVE = [
    entry("etc/changed", b"new"),
    entry("etc/.wh.kept"),
    entry(".wh.gone"),
    entry("hidden/.wh..wh..opq"),
    entry("hidden/only", b"this"),
    entry("deep/er/new", b"new", uid=3),
    hardlink("deep/er/same", "deep/er/new"),
    directory("file"),
    entry("file/in", b"a directory now"),
    entry("node", kind=tarfile.FIFOTYPE),
]
TOP = [directory("./", mode=0o700), entry("etc/.wh.changed"), entry("gone/again", b"back")]
IMAGES: dict[str, Layers] = {
    "all that layers do": (BASE, ABOVE, TOP),
    "no directory said": ([entry("a/b/c", b"1")], [entry("a/b/d", b"2")], [entry("a/.wh.b")]),
    "a first layer that hides": (ABOVE, BASE),
}


@pytest.fixture
def place() -> Iterator[Place]:
    with temporary() as base:
        paths = SnapshotPaths(str(base / "snapshots"))
        made = Place(base, Overlay(paths))
        try:
            yield made
        finally:
            made.close()
            assert mounts_below(base) == []


def unpack(place: Place, key: str, members: list[Member], *, apart: bool) -> None:
    how = place.how(key)
    message = MountMessage(type=how.type, source=how.source, options=how.options)
    with tempfile.TemporaryFile() as blob:
        blob.write(layer(members))
        blob.flush()
        target = target_of([message], apart=apart)
        apply_layer(blob.fileno(), target, threading.Event())


def in_turn(place: Place, layers: Layers) -> str:
    top = ""
    for number, members in enumerate(layers):
        place.make(f"turn{number}", top)
        unpack(place, f"turn{number}", members, apart=False)
        place.commit(f"in-turn{number}", f"turn{number}")
        top = f"in-turn{number}"
    return top


def apart(place: Place, layers: Layers) -> str:
    for number, members in reversed(list(enumerate(layers))):
        place.make(f"apart{number}")
        unpack(place, f"apart{number}", members, apart=True)
    top = ""
    for number in range(len(layers)):
        place.commit(f"laid{number}", f"apart{number}", top)
        top = f"laid{number}"
    return top


def seen(place: Place, name: str) -> dict[str, object]:
    """All but the times of directories: some are made on the way."""
    place.make(f"look-{name}", name, VIEW)
    with place.mounted(f"look-{name}") as root:
        found = picture(root)
        return {
            path: (*what[:3], *what[4:]) if (root / path).is_dir() else what
            for path, what in found.items()
        }


@pytest.mark.parametrize("image", IMAGES)
def test_the_same_is_seen(place: Place, image: str) -> None:
    layers = IMAGES[image]
    assert seen(place, apart(place, layers)) == seen(place, in_turn(place, layers))


def marks(place: Place) -> list[str]:
    """Attributes of ours, and whiteouts, that are left in the first layer."""
    found = []
    root = Path(place.snapshotter._paths.files(place.store.stat("n", "laid0").number))  # type: ignore[attr-defined]
    for path in [root, *root.rglob("*")]:
        names = os.listxattr(path, follow_symlinks=False)
        found += [name for name in names if name.startswith("trusted.")]
        if stat.S_ISCHR(path.lstat().st_mode):
            found.append(str(path))
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_no_mark_is_left_in_a_first_layer(place: Place, image: str) -> None:
    apart(place, IMAGES[image])
    assert marks(place) == []
