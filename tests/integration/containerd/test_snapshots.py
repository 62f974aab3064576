"""The contract of snapshotters, which each implementation must pass."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barque.containerd.paths import SnapshotPaths
from barque.containerd.references import References
from barque.containerd.snapshots.native import Native
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.snapshotter import (
    ACTIVE,
    APART,
    QUOTA,
    REBASE,
    SIZE_LABEL,
    VIEW,
    Snapshotter,
)
from barque.containerd.snapshots.store import SnapshotStore
from barque.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    Unsupported,
)
from tests.support.disks import disk
from tests.support.layers import picture
from tests.support.rootfs import temporary
from tests.support.snapshots import KINDS, Place, place_of, upper_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

LARGE_BYTES = 16 << 20


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place_of(request.param) as made:
        yield made


class TestEverySnapshotter:
    """The contract, of each implementation."""

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
            place.metadata.execute(
                "INSERT INTO snapshots (snapshotter, namespace, key, kind, parent, chain, labels,"
                " size, inodes, created, updated) VALUES (?, 'other', 'w', 2, '', '', '{}',"
                " 0, 0, 0, 0)",
                place.store.name,
            )
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
        kept = place.store.stat("n", "one").usage
        assert 100_000 <= kept.size < 150_000
        assert kept.inodes == 2
        above = asyncio.run(place.store.usage(place.store.stat("n", "top")))
        if place.store.name == "native":  # which is a copy
            assert above.size >= 100_000
        else:
            assert above.size < 20_000

    def test_removal_frees_the_disk(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_bytes(b"x" * 100_000)
        numbers = place.snapshotter.numbers()
        assert len(numbers) == 1
        place.store.remove("n", "w")
        place.snapshotter.wait()
        assert place.snapshotter.numbers() == set()
        place.snapshotter.remove(numbers.pop())  # gone is done

    def test_leftovers_are_swept(self, place: Place) -> None:
        place.make("kept")
        place.snapshotter.make(4711, (), ACTIVE)
        assert place.store.sweep_files() == 1
        place.snapshotter.wait()
        assert len(place.snapshotter.numbers()) == 1

    def test_a_leftover_of_the_same_number_is_replaced(self, place: Place) -> None:
        number = 77
        place.snapshotter.make(number, (), ACTIVE)
        writable = upper_of(place.snapshotter.mounts(number, (), ACTIVE)[0])
        Path(writable, "stale").touch()
        place.snapshotter.make(number, (), ACTIVE)
        writable = upper_of(place.snapshotter.mounts(number, (), ACTIVE)[0])
        assert os.listdir(writable) == []

    def test_attributes_of_everything_go_into_a_layer(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            root.chmod(0o750)
            os.chown(root, 5, 6)
            (root / "f").write_text("x" * 5000)
            os.chown(root / "f", 1000, 1001)
            (root / "f").chmod(0o4711)
            os.setxattr(root / "f", "user.mine", b"value")
            os.utime(root / "f", ns=(10**18 + 1, 10**18 + 123_456_789))
            os.link(root / "f", root / "again")
            (root / "link").symlink_to("/no/where")
            os.mkfifo(root / "fifo", 0o600)
            os.mknod(root / "null", 0o20666, os.makedev(1, 3))
            with (root / "holes").open("wb") as file:
                file.truncate(10 << 20)
                file.seek(5 << 20)
                file.write(b"end")
            names = {os.fsdecode(b"\xff\xfe"), "n" * 255, "\n", "a b"}
            for name in names:
                (root / name).touch()
            before = picture(root)
        place.commit("one", "w")
        place.make("look", "one", VIEW)
        with place.mounted("look") as root:
            assert picture(root) == before
            assert (root / "f").lstat().st_mtime_ns == 10**18 + 123_456_789

    def test_a_directory_made_anew_hides_what_was_there(self, place: Place) -> None:
        place.make("w1")
        with place.mounted("w1") as root:
            (root / "d").mkdir()
            (root / "d/old").touch()
        place.commit("one", "w1")
        place.make("w2", "one")
        with place.mounted("w2") as root:
            (root / "d/old").unlink()
            (root / "d").rmdir()
            (root / "d").mkdir()
            (root / "d/new").touch()
        place.commit("two", "w2")
        place.make("look", "two", VIEW)
        with place.mounted("look") as root:
            assert os.listdir(root / "d") == ["new"]

    def test_many_at_once(self, place: Place) -> None:
        """Slow ones run beside each other, and a parent stays as long as they need it."""
        place.make("w")
        with place.mounted("w") as root:
            for number in range(50):
                (root / str(number)).write_text(str(number))
        place.commit("one", "w")

        async def all_of_them() -> None:
            await asyncio.gather(*(place._make(f"k{n}", "one", ACTIVE, {}) for n in range(10)))

        asyncio.run(all_of_them())
        numbers = [place.store.stat("n", f"k{n}").number for n in range(10)]
        assert len(set(numbers)) == 10
        with place.mounted("k7") as root:
            assert len(os.listdir(root)) == 50

    def test_a_view_shows_what_nobody_changes(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_text("one")
        place.commit("one", "w")
        place.make("w", "one")
        place.make("look", "one", VIEW)
        with place.mounted("w") as root:
            (root / "f").write_text("two")
        with place.mounted("look") as root:
            assert (root / "f").read_text() == "one"
        place.make("nothing", "", VIEW)
        with place.mounted("nothing") as root:
            assert os.listdir(root) == []

    def test_a_size_is_kept_to_or_refused(self, place: Place) -> None:
        if QUOTA in place.snapshotter.capabilities:
            place.make("w", labels={SIZE_LABEL: str(4 << 20)})
            with place.mounted("w") as root:
                fd = os.open(root / "f", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
                try:
                    with pytest.raises(OSError, match=r"Disk quota exceeded|No space left"):
                        _write(fd, 8 << 20)
                finally:
                    os.close(fd)
        else:
            with pytest.raises(Unsupported, match="4194304 bytes cannot be made"):
                place.make("w", labels={SIZE_LABEL: str(4 << 20)})
            place.store.sweep_files()
            place.snapshotter.wait()
            assert place.snapshotter.numbers() == set()

    @pytest.mark.parametrize("size", ["0", "-1", "1x", "9" * 30, "\u0663"])
    def test_sizes_that_are_none(self, place: Place, size: str) -> None:
        with pytest.raises(InvalidArgument):
            place.make("w", labels={SIZE_LABEL: size})
        assert place.snapshotter.numbers() == set()

    def test_a_server_that_was_killed_is_taken_over_from(self, place: Place) -> None:
        """Nothing is closed: the next one finds all, and clears what was half done."""
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_text("kept")
        place.commit("one", "w")
        place.make("top", "one")
        with place.mounted("top") as root:
            (root / "g").write_text("kept too")
        paths = SnapshotPaths(place.snapshotter._paths.base)  # type: ignore[attr-defined]
        place.snapshotter.make(4711, (), ACTIVE)
        place.snapshotter = KINDS[place.store.name](paths)
        place.store = SnapshotStore(place.metadata, References(place.metadata), place.snapshotter)
        assert place.store.sweep_files() == 1
        with place.mounted("top") as root:
            assert (root / "f").read_text() == "kept"
            assert (root / "g").read_text() == "kept too"

    def test_a_parent_at_commit(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "a").touch()
            (root / "b").touch()
        place.commit("one", "w")
        place.make("alone")
        if not {REBASE, APART}.intersection(place.snapshotter.capabilities):
            with pytest.raises(Unsupported):
                place.commit("two", "alone", "one")
            return
        with place.mounted("alone") as root:
            (root / "c").touch()
        with pytest.raises(NotFound):
            place.commit("two", "alone", "none")
        place.commit("two", "alone", "one")
        place.make("look", "two", VIEW)
        with place.mounted("look") as root:
            assert sorted(os.listdir(root)) == ["a", "b", "c"]
        with pytest.raises(Conflict):
            place.store.remove("n", "one")
        assert place.store.stat("n", "two").parent == "one"


def _write(fd: int, size: int) -> None:
    for _ in range(size >> 16):
        os.write(fd, os.urandom(1 << 16))


@pytest.mark.parametrize("filesystem", ["xfs", "btrfs"])
@pytest.mark.parametrize("kind", [Native, Overlay])
def test_other_file_systems(filesystem: str, kind: Callable[[SnapshotPaths], Snapshotter]) -> None:
    """Part of the contract; and a copy shares the data of files until they are written."""
    with temporary() as base, disk(base / "disk", filesystem) as root:
        place = Place(base, kind(SnapshotPaths(str(root / "s"))))
        try:
            TestEverySnapshotter().test_layers_add_up(place)
            place.make("large")
            with place.mounted("large") as mounted:
                (mounted / "f").write_bytes(os.urandom(LARGE_BYTES))
            place.commit("base", "large")
            before = taken(root)
            for number in range(3):
                place.make(f"copy{number}", "base")
            assert taken(root) - before < LARGE_BYTES
            with place.mounted("copy1") as mounted:
                assert (mounted / "f").stat().st_size == LARGE_BYTES
        finally:
            place.close()


def taken(directory: Path) -> int:
    """Bytes that are in use on the file system of `directory`."""
    subprocess.run(["sync", "-f", directory], check=True)
    found = os.statvfs(directory)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


class TestDirectoriesAhead:
    """Of overlayfs: the directory of the next writable snapshot is there before it is asked for."""

    def test_it_becomes_the_next_ones(self) -> None:
        with place_of("overlayfs") as place:
            whole = place.base / "overlayfs.spare/whole"
            place.make("w")
            place.commit("base", "w")
            assert not whole.exists()
            place.make("first", "base")
            place.snapshotter.wait()
            ahead = (whole / "fs").stat().st_ino
            place.make("look", "base", VIEW)
            assert (whole / "fs").stat().st_ino == ahead
            place.make("second", "base")
            assert Path(upper_of(place.how("second"))).stat().st_ino == ahead
            with place.mounted("second") as root:
                (root / "f").touch()
            place.store.remove("n", "first")
            place.snapshotter.wait()
            assert sorted(os.listdir(whole)) == ["fs", "work"]
            assert whole.stat().st_mode & 0o7777 == 0o700
            assert len(place.snapshotter.numbers()) == 3

    def test_what_a_crash_left_is_thrown(self) -> None:
        with temporary() as base:
            (base / "s.spare/whole/fs/stale").mkdir(parents=True)
            (base / "s.spare/making/fs").mkdir(parents=True)
            place = Place(base, Overlay(SnapshotPaths(str(base / "s"))))
            try:
                assert os.listdir(base / "s.spare") == []
            finally:
                place.close()

    def test_one_that_cannot_be_made_is_not_missed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with place_of("overlayfs") as place:
            place.make("w")
            place.commit("base", "w")
            mkdir = os.mkdir

            def full(path: str, mode: int = 0o777) -> None:
                if ".spare/making/" in path:
                    raise OSError(28, "No space left on device")
                mkdir(path, mode)

            monkeypatch.setattr(os, "mkdir", full)
            for key in ("first", "second"):
                place.make(key, "base")
                place.snapshotter.wait()
                assert os.listdir(place.base / "overlayfs.spare") == ["making"]
            monkeypatch.undo()
            place.store.remove("n", "first")
            place.snapshotter.wait()
            assert os.listdir(place.base / "overlayfs.spare") == ["whole"]
