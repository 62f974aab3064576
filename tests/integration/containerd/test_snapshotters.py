"""What each snapshotter does in its own way; what all do alike is in `test_snapshots`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.containerd.paths import SnapshotPaths
from barque.containerd.references import References
from barque.containerd.snapshots import erofs, unknown_parents
from barque.containerd.snapshots.erofs import Erofs
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.snapshotter import (
    ACTIVE,
    VIEW,
)
from barque.containerd.snapshots.store import SnapshotStore
from barque.errors import (
    DataLoss,
)
from barque.linux import btrfs as subvolumes
from barque.linux.mount import mount, umount2
from tests.support.rootfs import mounts_below, temporary
from tests.support.snapshots import Place, place_of, upper_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

PAGE_BYTES = 4096


class TestOverlay:
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        with place_of("overlayfs") as made:
            yield made

    def test_modes_of_directories(self, place: Place) -> None:
        place.make("w")
        files = Path(place.store.mounts(place.store.stat("n", "w"))[0].source)
        files.chmod(0o750)
        os.chown(files, 5, 6)
        place.commit("one", "w")
        place.make("top", "one")
        number = place.store.stat("n", "top").number
        top = place.base / "overlayfs" / str(number)
        assert (place.base / "overlayfs").stat().st_mode & 0o777 == 0o700
        assert top.stat().st_mode & 0o777 == 0o700
        assert (top / "work").stat().st_mode & 0o777 == 0o711
        assert (top / "fs").stat().st_mode & 0o777 == 0o750
        assert ((top / "fs").stat().st_uid, (top / "fs").stat().st_gid) == (5, 6)

    def test_options_of_many_layers_fit_a_page(self, place: Place) -> None:
        """At the default root, an image of 60 layers still mounts with one mount(2)."""
        paths = SnapshotPaths("/var/lib/barque/containerd/snapshots/overlayfs")
        (how,) = Overlay.mounts(_with_paths(place, paths), 9999, range(1000, 1060), ACTIVE)
        assert len(",".join(how.options)) < PAGE_BYTES

    def test_in_a_user_namespace_marks_are_user_attributes(self) -> None:
        """Layers applied and mounted by one who is root in a namespace of its own only."""
        with temporary() as base:
            base.chmod(0o755)
            command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c"]
            done = subprocess.run(
                [*command, AS_ROOT_OF_A_NAMESPACE, str(base)],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert (done.returncode, done.stdout.split()) == (0, ["d", "d/new", "f"]), done.stderr

    def test_a_mounted_snapshot_does_not_stop_the_trash(self, place: Place) -> None:
        place.make("busy")
        (how,) = place.store.mounts(place.store.stat("n", "busy"))
        inner = Path(how.source, "inner")
        inner.mkdir()
        mount("tmpfs", str(inner), "tmpfs")
        (inner / "precious").touch()
        try:
            assert isinstance(place.snapshotter, Overlay)
            with pytest.raises(OSError, match="busy"):
                place.snapshotter._trash.throw(str(inner))
            place.make("other")
            place.store.remove("n", "other")
            place.snapshotter.wait()
            assert (inner / "precious").exists()
        finally:
            umount2(str(inner))


def _with_paths(place: Place, paths: SnapshotPaths) -> Overlay:
    assert isinstance(place.snapshotter, Overlay)
    place.snapshotter._paths = paths
    return place.snapshotter


AS_ROOT_OF_A_NAMESPACE = """
import os, sys, tempfile, threading
from pathlib import Path
from barque.containerd.diff.applying import Target, apply_layer
from barque.containerd.paths import SnapshotPaths
from barque.containerd.snapshots.overlay import Overlay
from barque.linux.mount import mount
from tests.support.layers import directory, entry, layer
base = Path(sys.argv[1])
overlay = Overlay(SnapshotPaths(str(base / "o")))
layers = (
    layer([directory("d"), entry("d/old", b"o"), directory("e"), entry("e/x"), entry("f")]),
    layer([entry("d/.wh..wh..opq"), entry("d/new"), entry(".wh.e")]),
)
for number, data in enumerate(layers, start=1):
    overlay.make(number, range(number - 1, 0, -1), 2)
    (how,) = overlay.mounts(number, range(number - 1, 0, -1), 2)
    options = dict(option.partition("=")[::2] for option in how.options)
    (base / "layer").write_bytes(data)
    with (base / "layer").open("rb") as file:
        if how.type == "bind":
            target = Target(how.source, False, ())
        else:
            lowers = tuple(options["lowerdir"].split(":"))
            target = Target(options["upperdir"], True, lowers, "user")
            assert "userxattr" in options
        apply_layer(file.fileno(), target, threading.Event())
    overlay.seal(number, ())
overlay.make(3, (2, 1), 1)
(how,) = overlay.mounts(3, (2, 1), 1)
place = base / "m"
place.mkdir()
mount(how.source, str(place), how.type, 1, ",".join(how.options))
print(*sorted(str(path.relative_to(place)) for path in place.rglob("*")))
overlay.close()
"""


class TestBtrfs:
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        with place_of("btrfs") as made:
            yield made

    def test_what_is_committed_is_read_only(self, place: Place) -> None:
        place.make("w")
        path = Path(place.how("w").source)
        place.commit("one", "w")
        with pytest.raises(OSError, match="Read-only"):
            (path / "new").touch()

    def test_subvolumes_in_a_snapshot_go_with_it(self, place: Place) -> None:
        """A privileged container can make them."""
        place.make("w")
        with place.mounted("w") as root:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            subvolumes.create_subvolume(fd, "inner")
            os.close(fd)
            (root / "inner/f").touch()
        place.store.remove("n", "w")
        place.snapshotter.wait()
        assert os.listdir(place.base / "disk/btrfs.trash") == []
        assert place.snapshotter.numbers() == set()


class TestErofs:
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        with place_of("erofs") as made:
            yield made

    def test_a_layer_is_one_file(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").touch()
        place.commit("one", "w")
        place.snapshotter.wait()
        number = place.store.stat("n", "one").number
        assert os.listdir(place.base / f"erofs/{number}") == ["layer.erofs"]

    def test_images_are_not_mounted_when_the_server_ended(self, place: Place) -> None:
        place.make("w")
        place.commit("one", "w")
        place.make("top", "one")
        with place.mounted("top"):
            assert erofs.mounted_below(f"{place.base}/erofs") != set()
        place.snapshotter.close()
        assert mounts_below(place.base) == []

    def test_images_stay_mounted_when_the_server_is_killed(self, place: Place) -> None:
        """Who was told of the directories goes on to read them."""
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_text("kept")
        place.commit("one", "w")
        lower = Path(place.base, "erofs", str(place.store.stat("n", "one").number), "fs")
        place.make("top", "one")
        assert (lower / "f").read_text() == "kept"
        place.snapshotter = Erofs(SnapshotPaths(f"{place.base}/erofs"))
        assert (lower / "f").read_text() == "kept"
        place.store = SnapshotStore(place.metadata, References(place.metadata), place.snapshotter)
        place.store.remove("n", "top")
        place.store.remove("n", "one")
        assert mounts_below(place.base) == []

    def test_what_is_shown_can_be_removed(self, place: Place) -> None:
        place.make("w")
        place.commit("one", "w")
        place.make("top", "one")
        with place.mounted("top"):
            pass
        place.store.remove("n", "top")
        place.store.remove("n", "one")
        place.snapshotter.wait()
        assert place.snapshotter.numbers() == set()
        assert os.listdir(place.base / "erofs.trash") == []

    def test_a_commit_that_failed_after_the_image_was_made(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_text("1")
        asyncio.run(place.store.seal("n", "one", "w"))
        with place.mounted("w") as root:
            (root / "f").write_text("2")
        place.commit("one", "w")
        place.make("look", "one", VIEW)
        with place.mounted("look") as root:
            assert (root / "f").read_text() == "2"

    def test_an_image_that_is_none(self, place: Place) -> None:
        place.make("w")
        place.commit("one", "w")
        number = place.store.stat("n", "one").number
        (place.base / f"erofs/{number}/layer.erofs").write_bytes(b"x" * 8192)
        with pytest.raises(DataLoss, match="image of a layer cannot be mounted"):
            place.make("top", "one")

    def test_directories_that_a_layer_did_not_mention(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "d").mkdir(0o700)
            os.chown(root / "d", 7, 8)
            os.chown(root, 9, 9)
        place.commit("one", "w")
        place.make("alone")
        upper = Path(upper_of(place.how("alone")))
        (upper / "d").mkdir(0o755)
        (upper / "e").mkdir(0o711)
        for path in (upper, upper / "d", upper / "e"):
            unknown_parents.mark(str(path))
        place.commit("two", "alone", "one")
        place.make("look", "two", VIEW)
        with place.mounted("look") as root:
            assert (root.stat().st_uid, root.stat().st_gid) == (9, 9)
            facts = (root / "d").stat()
            assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o700, 7, 8)
            assert (root / "e").stat().st_mode & 0o7777 == 0o711
            for path in (root, root / "d", root / "e"):
                assert not unknown_parents.marked(str(path))
