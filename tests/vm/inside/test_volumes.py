"""Volumes with a size, on ext4 with project quotas, which few kernels of test machines have."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.program import command
from barque.volume import quota
from barque.volume.local import LocalVolumes

MEBIBYTE = 1 << 20


@pytest.fixture
def root() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    image, point = directory / "image", directory / "mnt"
    point.mkdir()
    subprocess.run(["modprobe", "quota_v2"], check=True)
    subprocess.run(["truncate", "-s", "64M", image], check=True)
    features = ("-O", "quota,project", "-E", "quotatype=prjquota")
    subprocess.run(["mkfs.ext4", "-q", *features, image], check=True)
    subprocess.run(["mount", "-o", "loop,prjquota", image, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)
        image.unlink()


def fill(directory: Path, mebibytes: int) -> str:
    """What dd says of writing so much, with what a container's root may do.

    Who has CAP_SYS_RESOURCE is above ext4's quotas. The kernel warns on dd's terminal: it has none.
    """
    argv = [
        "setpriv",
        "--bounding-set=-sys_resource",
        "dd",
        "if=/dev/zero",
        f"of={directory}/big",
        "bs=1M",
        f"count={mebibytes}",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, start_new_session=True, check=False)
    return done.stderr


def test_a_volume_holds_no_more_than_its_size(root: Path) -> None:
    (root / "volumes").mkdir()
    volumes = LocalVolumes(root / "volumes", command("barque-copyup"))
    data, other = volumes.create("small", 4 * MEBIBYTE), volumes.create("other")
    assert "exceeded" not in fill(data, 3)
    assert "quota exceeded" in fill(data, 6)
    assert "exceeded" not in fill(other, 6)
    # a restore keeps the limit, for it is of the data that comes
    staged = volumes.stage(4 * MEBIBYTE)
    first, second = quota.project(data), quota.project(staged / "_data")
    assert 0 < first != second > 0
    assert "exceeded" not in fill(staged / "_data", 1)
    volumes.swap(staged, "small")
    volumes.delete(staged)
    assert quota.project(data) == second
    assert "quota exceeded" in fill(data, 6)
    removed = volumes.discard("small")
    assert removed is not None
    volumes.delete(removed)
    again = volumes.create("small")
    assert "exceeded" not in fill(again, 6)
    assert quota.project(again) == 0
