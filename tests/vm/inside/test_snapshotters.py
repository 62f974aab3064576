"""Snapshotters whose kernel few test machines have: devmapper, and overlay's project quotas."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.containerd.paths import SnapshotPaths
from barque.containerd.snapshots import devmapper
from barque.containerd.snapshots.devmapper import Devmapper
from barque.containerd.snapshots.erofs import Erofs
from barque.containerd.snapshots.overlay import Overlay
from barque.containerd.snapshots.pool import Pool
from barque.containerd.snapshots.snapshotter import QUOTA, SIZE_LABEL, Snapshotter
from barque.errors import Conflict, NotFound
from barque.linux import device_mapper
from tests.integration.containerd import test_remapped_snapshots as remapped
from tests.integration.containerd import test_snapshots as contract
from tests.support.rootfs import temporary
from tests.support.snapshots import KINDS, Place, place_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
KINDS["devmapper"] = Devmapper
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def modules() -> None:
    for name in ("dm_thin_pool", "quota_v2", "loop"):
        subprocess.run(["modprobe", name], check=True)
    assert devmapper.missing() == ""


@pytest.fixture
def place() -> Iterator[Place]:
    with place_of("devmapper") as made:
        yield made
    left = subprocess.run(["dmsetup", "ls"], capture_output=True, text=True, check=True)
    assert "barque" not in left.stdout


class TestDevmapper(contract.TestEverySnapshotter):
    """The contract of snapshotters."""

    def test_devices_go_with_their_snapshots(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_bytes(os.urandom(MEBIBYTE))
        place.commit("one", "w")
        place.make("top", "one")
        pool = place.snapshotter._pool  # type: ignore[attr-defined]
        used = blocks(pool)
        place.store.remove("n", "top")
        place.store.remove("n", "one")
        place.snapshotter.wait()
        assert blocks(pool) < used
        assert place.snapshotter.numbers() == set()
        assert os.listdir(place.base / "devmapper.trash") == []

    def test_one_in_use_stays_until_it_is_not(self, place: Place) -> None:
        place.make("w")
        with place.mounted("w") as root:
            (root / "f").write_text("1")
            place.snapshotter.close()
            assert (root / "f").read_text() == "1"
            place.snapshotter = Devmapper(SnapshotPaths(f"{place.base}/devmapper"))
            place.store._snapshotter = place.snapshotter
        with place.mounted("w") as root:
            assert (root / "f").read_text() == "1"

    def test_a_first_device_that_was_never_finished(self, place: Place) -> None:
        """A server was killed while it made the file system."""
        place.snapshotter.close()
        (place.base / "devmapper/made").unlink()
        place.snapshotter = Devmapper(SnapshotPaths(f"{place.base}/devmapper"))
        place.store._snapshotter = place.snapshotter
        place.make("w")
        with place.mounted("w") as root:
            assert os.listdir(root) == []

    def test_a_device_without_a_table_is_made_anew(self, place: Place) -> None:
        name = place.snapshotter._device(77)  # type: ignore[attr-defined]
        device_mapper._call(device_mapper.CREATE, name)
        assert device_mapper.number_of(name) == 0
        assert device_mapper.create(name, 8, "zero", "") != 0
        device_mapper.remove(name)
        device_mapper.remove(name)


def test_ids_of_a_device_can_be_mapped(place: Place) -> None:
    with remapped.as_is(place, "w") as root:
        (root / "second").touch()
    place.commit("two", "w")
    remapped.test_one_without_a_parent(place)


OWN = "bq-own-pool"


@pytest.fixture
def own_pool(tmp_path: Path) -> Iterator[str]:
    """A thin pool as an administrator makes it, of loop devices."""
    loops = []
    for name in ("metadata", "data"):
        subprocess.run(["truncate", "-s", "1G", tmp_path / name], check=True)
        loops.append(output("losetup", "-f", "--show", str(tmp_path / name)))
    table = f"0 {(1 << 30) // 512} thin-pool {' '.join(loops)} 128 0 1 skip_block_zeroing"
    try:
        subprocess.run(["dmsetup", "create", OWN, "--table", table], check=True)
        yield OWN
    finally:
        subprocess.run(["dmsetup", "remove", OWN], check=True)
        subprocess.run(["losetup", "-d", *loops], check=True)


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_a_pool_of_the_administrator(own_pool: str, tmp_path: Path, file_system: str) -> None:
    subprocess.run(["modprobe", file_system], check=True)
    pool = Pool(own_pool, size=512 * MEBIBYTE, file_system=file_system, discard=True)
    paths = SnapshotPaths(str(tmp_path / "s"))
    place = Place(tmp_path, Devmapper(paths, pool))
    empty = blocks(own_pool)
    place.make("w")
    with place.mounted("w") as root:
        (root / "f").write_bytes(os.urandom(8 * MEBIBYTE))
        assert os.statvfs(root).f_blocks * os.statvfs(root).f_frsize < 512 * MEBIBYTE
    place.commit("one", "w")
    place.make("top", "one")
    with place.mounted("top") as root:
        assert (root / "f").stat().st_size == 8 * MEBIBYTE
    place.snapshotter.close()
    place.snapshotter = place.store._snapshotter = Devmapper(paths, pool)  # of a later server
    with place.mounted("top") as root:
        assert (root / "f").stat().st_size == 8 * MEBIBYTE
    assert blocks(own_pool) > empty
    place.store.remove("n", "top")
    place.store.remove("n", "one")
    place.snapshotter.wait()
    assert blocks(own_pool) == empty
    place.close()
    assert OWN in output("dmsetup", "ls")
    with pytest.raises(Conflict, match="cannot be"):
        Devmapper(paths, pool._replace(size=256 * MEBIBYTE))


def test_a_pool_that_is_not_there_or_has_devices_of_another(own_pool: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="pool nothing of devmapper is not there"):
        Devmapper(SnapshotPaths(str(tmp_path / "s")), Pool("nothing"))
    first = Devmapper(SnapshotPaths(str(tmp_path / "s")), Pool(own_pool, size=64 * MEBIBYTE))
    first.close()
    with pytest.raises(Conflict, match="has devices of another"):
        Devmapper(SnapshotPaths(str(tmp_path / "t")), Pool(own_pool))


def blocks(pool: str) -> int:
    """What of the pool's data is taken."""
    words = subprocess.run(["dmsetup", "status", pool], capture_output=True, text=True, check=True)
    return int(words.stdout.split()[5].split("/")[0])


MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"),
    "xfs": ("mkfs.xfs", "-q"),
}


@pytest.fixture(params=[(Overlay, "ext4"), (Erofs, "ext4"), (Overlay, "xfs")])
def bounded(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Snapshotter]]:
    """A snapshotter on a file system with project quotas."""
    kind, filesystem = request.param
    with temporary() as directory:
        image, point = directory / "image", directory / "mnt"
        point.mkdir()
        subprocess.run(["truncate", "-s", "512M", image], check=True)
        subprocess.run(["modprobe", filesystem], check=True)
        subprocess.run([*MKFS[filesystem], image], check=True)
        subprocess.run(["mount", "-o", "loop,prjquota", image, point], check=True)
        try:
            made: Snapshotter = kind(SnapshotPaths(f"{point}/s"))
            yield directory, made
            made.close()
        finally:
            subprocess.run(["umount", point], check=True)


FULL = ("quota exceeded", "No space left")  # of ext4, and of xfs


def fill(directory: Path | str, mebibytes: int) -> str:
    """What dd says; who has CAP_SYS_RESOURCE is above ext4's quotas."""
    argv = ["setpriv", "--bounding-set=-sys_resource", "dd", "if=/dev/zero"]
    argv += [f"of={directory}/big", "bs=1M", f"count={mebibytes}"]
    done = subprocess.run(argv, capture_output=True, text=True, start_new_session=True, check=False)
    return done.stderr


def test_a_snapshot_holds_no_more_than_its_size(bounded: tuple[Path, Snapshotter]) -> None:
    directory, snapshotter = bounded
    assert QUOTA in snapshotter.capabilities
    place = Place(directory, snapshotter)
    place.make("w")
    with place.mounted("w") as root:
        (root / "f").write_bytes(b"x" * MEBIBYTE)
    place.commit("one", "w")
    place.make("small", "one", labels={SIZE_LABEL: str(4 * MEBIBYTE)})
    place.make("other", "one")
    with place.mounted("small") as root:
        assert (root / "f").stat().st_size == MEBIBYTE
        assert "exceeded" not in fill(root, 3)
        said = fill(root, 6)
        assert any(words in said for words in FULL), said
        (root / "big").unlink()
        assert "exceeded" not in fill(root, 2)
    with place.mounted("other") as root:
        assert "exceeded" not in fill(root, 6)
    place.store.remove("n", "small")
    snapshotter.wait()
    place.make("again", "one", labels={SIZE_LABEL: str(8 * MEBIBYTE)})
    with place.mounted("again") as root:
        assert "exceeded" not in fill(root, 6)
        said = fill(root, 10)  # whatever was made ahead
        assert any(words in said for words in FULL), said
    place.metadata.close()
