"""The contract of snapshotters, which each implementation must pass, and overlay's own ways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barque.containerd.metadata import Metadata
from barque.containerd.paths import SnapshotPaths
from barque.containerd.references import References
from barque.containerd.snapshots.disk import Trash
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.snapshotter import ACTIVE, VIEW, Snapshotter
from barque.containerd.snapshots.store import SnapshotStore
from barque.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from barque.linux.mount import MS_BIND, MS_RDONLY, MS_REC, MS_REMOUNT, mount, umount2
from tests.support.rootfs import temporary

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

PAGE_BYTES = 4096


class Place:
    """A snapshot store over one snapshotter, and a way to look into its snapshots."""

    def __init__(self, base: Path, snapshotter: Snapshotter, trash: Trash) -> None:
        self.base = base
        self.trash = trash
        self.snapshotter = snapshotter
        self.metadata = Metadata(base / "meta.db")
        self.store = SnapshotStore(self.metadata, References(self.metadata), snapshotter)

    def make(self, key: str, parent: str = "", kind: int = ACTIVE) -> None:
        with self.metadata.transaction():
            self.store.make("n", key, parent, kind, {})

    def commit(self, name: str, key: str) -> None:
        _, usage = asyncio.run(self.store.seal("n", name, key))
        with self.metadata.transaction():
            self.store.commit("n", name, key, {}, usage)

    @contextmanager
    def mounted(self, key: str) -> Iterator[Path]:
        target = self.base / "mnt"
        target.mkdir(exist_ok=True)
        (how,) = self.store.mounts(self.store.stat("n", key))
        if how.type == "bind":
            mount(how.source, str(target), None, MS_BIND | MS_REC)
            if "ro" in how.options:
                mount(None, str(target), None, MS_BIND | MS_REMOUNT | MS_RDONLY)
        else:
            mount(how.source, str(target), how.type, 0, ",".join(how.options))
        try:
            yield target
        finally:
            umount2(str(target))


class SnapshotterContract:
    """Subclasses provide the `place` fixture."""

    def test_layers_add_up(self, place: Place) -> None:
        place.make("w1")
        with place.mounted("w1") as root:
            (root / "a").write_text("1")
            (root / "b").write_text("1")
            (root / "d").mkdir()
            (root / "d/x").write_text("1")
        place.commit("one", "w1")
        place.make("w2", "one")
        with place.mounted("w2") as root:
            (root / "a").write_text("2")
            (root / "b").unlink()
            (root / "c").write_text("2")
        place.commit("two", "w2")
        place.make("top", "two")
        place.make("look", "one", VIEW)
        with place.mounted("top") as root:
            assert sorted(path.name for path in root.iterdir()) == ["a", "c", "d"]
            assert (root / "a").read_text() == "2"
            (root / "d/x").write_text("3")
        with place.mounted("look") as root:
            assert (root / "a").read_text() == "1"
            assert (root / "d/x").read_text() == "1"
            with pytest.raises(OSError, match="Read-only"):
                (root / "new").write_text("x")

    def test_what_was_written_is_there_at_the_next_mount(self, place: Place) -> None:
        place.make("one")
        place.commit("base", "one")
        place.make("w", "base")
        for number in range(3):
            with place.mounted("w") as root:
                assert len(list(root.iterdir())) == number
                (root / str(number)).touch()

    def test_a_key_is_free_after_commit(self, place: Place) -> None:
        place.make("w")
        place.commit("one", "w")
        with pytest.raises(NotFound):
            place.store.stat("n", "w")
        place.make("w", "one")
        place.store.remove("n", "w")
        place.make("w", "one")

    def test_a_commit_under_the_same_key(self, place: Place) -> None:
        place.make("same")
        place.commit("same", "same")
        assert place.store.stat("n", "same").kind == 3

    def test_moves_that_are_not_allowed(self, place: Place) -> None:
        place.make("w")
        with pytest.raises(AlreadyExists):
            place.make("w")
        with pytest.raises(InvalidArgument):
            place.make("x", "w")
        with pytest.raises(NotFound):
            place.make("x", "none")
        place.commit("one", "w")
        with pytest.raises(Conflict):
            place.commit("again", "one")
        with pytest.raises(Conflict):
            place.store.mounts(place.store.stat("n", "one"))
        place.make("look", "one", VIEW)
        with pytest.raises(Conflict):
            place.commit("again", "look")
        with pytest.raises(Conflict):
            place.store.remove("n", "one")
        place.store.remove("n", "look")
        place.store.remove("n", "one")
        with pytest.raises(NotFound):
            place.store.remove("n", "one")

    def test_namespaces_do_not_see_each_other(self, place: Place) -> None:
        place.make("w")
        with place.metadata.transaction():
            place.store.make("other", "w", "", ACTIVE, {})
        place.commit("one", "w")
        with pytest.raises(NotFound):
            place.store.stat("other", "one")
        assert [one.key for one in place.store.all("other")] == ["w"]
        place.store.remove("other", "w")

    def test_usage(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_bytes(os.urandom(100_000))
            os.link(root / "f", root / "g")
        live = asyncio.run(place.store.usage(place.store.stat("n", "w")))
        assert 100_000 <= live.size < 150_000
        assert live.inodes == 2
        place.commit("one", "w")
        place.make("top", "one")
        assert place.store.stat("n", "one").usage == live
        above = asyncio.run(place.store.usage(place.store.stat("n", "top")))
        assert above.size < 20_000

    def test_removal_frees_the_disk(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_bytes(b"x" * 100_000)
        numbers = place.snapshotter.numbers()
        assert len(numbers) == 1
        place.store.remove("n", "w")
        place.trash.wait()
        assert place.snapshotter.numbers() == set()
        place.snapshotter.remove(numbers.pop())  # gone is done

    def test_leftovers_are_swept(self, place: Place) -> None:
        place.make("kept")
        place.snapshotter.make(4711, (), ACTIVE)
        assert place.store.sweep_files() == 1
        place.trash.wait()
        assert len(place.snapshotter.numbers()) == 1

    def test_a_leftover_of_the_same_number_is_replaced(self, place: Place) -> None:
        place.make("first")
        number = place.store.stat("n", "first").number + 1
        place.snapshotter.make(number, (), ACTIVE)
        (stale,) = place.snapshotter.mounts(number, (), ACTIVE)
        Path(stale.source, "stale").touch()
        place.make("second")
        assert place.store.stat("n", "second").number == number
        with place.mounted("second") as root:
            assert list(root.iterdir()) == []


class TestOverlay(SnapshotterContract):
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        with temporary() as base:
            paths = SnapshotPaths(str(base / "overlayfs"))
            trash = Trash(paths.trash)
            made = Place(base, Overlay(paths, trash), trash)
            try:
                yield made
            finally:
                made.metadata.close()
                trash.close()

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

    def test_a_mounted_snapshot_does_not_stop_the_trash(self, place: Place) -> None:
        place.make("busy")
        (how,) = place.store.mounts(place.store.stat("n", "busy"))
        inner = Path(how.source, "inner")
        inner.mkdir()
        mount("tmpfs", str(inner), "tmpfs")
        (inner / "precious").touch()
        try:
            with pytest.raises(OSError, match="busy"):
                place.trash.throw(str(inner))
            place.make("other")
            place.store.remove("n", "other")
            place.trash.wait()
            assert (inner / "precious").exists()
        finally:
            umount2(str(inner))


def _with_paths(place: Place, paths: SnapshotPaths) -> Overlay:
    assert isinstance(place.snapshotter, Overlay)
    place.snapshotter._paths = paths
    return place.snapshotter
