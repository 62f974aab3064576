"""The contract of snapshotters, which each implementation must pass, and overlay's own ways."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from barque.containerd.metadata import Metadata
from barque.containerd.paths import SnapshotPaths
from barque.containerd.references import References
from barque.containerd.snapshots import erofs, unknown_parents
from barque.containerd.snapshots.btrfs import Btrfs
from barque.containerd.snapshots.erofs import Erofs
from barque.containerd.snapshots.native import Native
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.snapshotter import (
    ACTIVE,
    APART,
    QUOTA,
    REBASE,
    SIZE_LABEL,
    VIEW,
    Mount,
    Snapshotter,
)
from barque.containerd.snapshots.store import SnapshotStore
from barque.errors import (
    AlreadyExists,
    Conflict,
    DataLoss,
    InvalidArgument,
    NotFound,
    Unsupported,
)
from barque.linux import btrfs as subvolumes
from barque.linux.mount import MS_BIND, MS_RDONLY, MS_REC, MS_REMOUNT, mount, umount2
from tests.support.disks import btrfs_disk, disk
from tests.support.layers import picture
from tests.support.rootfs import mounts_below, temporary

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

PAGE_BYTES = 4096
LARGE_BYTES = 16 << 20


class Place:
    """A snapshot store over one snapshotter, and a way to look into its snapshots."""

    def __init__(self, base: Path, snapshotter: Snapshotter) -> None:
        self.base = base
        self.snapshotter = snapshotter
        self.metadata = Metadata(base / "meta.db")
        self.store = SnapshotStore(self.metadata, References(self.metadata), snapshotter)

    def make(
        self, key: str, parent: str = "", kind: int = ACTIVE, labels: dict[str, str] | None = None
    ) -> None:
        asyncio.run(self._make(key, parent, kind, labels or {}))

    async def _make(self, key: str, parent: str, kind: int, labels: dict[str, str]) -> None:
        wanted = ("n", key, parent, kind, labels)
        async with self.store.ahead(*wanted) as made:
            with self.metadata.transaction():
                self.store.make(*wanted, made)

    def commit(self, name: str, key: str, parent: str = "") -> None:
        _, usage = asyncio.run(self.store.seal("n", name, key, parent))
        with self.metadata.transaction():
            number = self.store.commit("n", name, key, {}, usage, parent)
        self.store.sealed(number)

    def close(self) -> None:
        self.metadata.close()
        self.snapshotter.close()

    @contextmanager
    def mounted(self, key: str) -> Iterator[Path]:
        target = self.base / "mnt"
        target.mkdir(exist_ok=True)
        how = self.how(key)
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

    def how(self, key: str) -> Mount:
        (how,) = self.store.mounts(self.store.stat("n", key))
        return how


KINDS: dict[str, Callable[[SnapshotPaths], Snapshotter]] = {
    "overlayfs": Overlay,
    "native": Native,
    "btrfs": Btrfs,
    "erofs": Erofs,
}


@contextmanager
def place_of(name: str) -> Iterator[Place]:
    """A snapshotter on a directory of its own, btrfs on a disk of its own."""
    with temporary() as base, btrfs_disk(base / "disk") if name == "btrfs" else nullcontext():
        root = base / "disk" if name == "btrfs" else base
        made = Place(base, KINDS[name](SnapshotPaths(str(root / name))))
        try:
            yield made
        finally:
            made.close()


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
        writable = _upper(place.snapshotter.mounts(number, (), ACTIVE)[0])
        Path(writable, "stale").touch()
        place.snapshotter.make(number, (), ACTIVE)
        writable = _upper(place.snapshotter.mounts(number, (), ACTIVE)[0])
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


def _upper(how: Mount) -> str:
    """The directory that is written to."""
    options = dict(option.partition("=")[::2] for option in how.options)
    return options.get("upperdir", how.source)


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
        upper = Path(_upper(place.how("alone")))
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
