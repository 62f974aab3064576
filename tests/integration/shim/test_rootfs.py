"""Root filesystems out of image files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from barque import errors
from tests.support import rootfs
from tests.support.shim import Shims, eventually

pytestmark = pytest.mark.root


def image_of(directory: Path) -> Path:
    """An ext4 image with a busybox root file system."""
    tree = rootfs.build(directory / "tree")
    image = directory / "image"
    subprocess.run(
        ["mkfs.ext4", "-q", "-d", str(tree), str(image), "24M"], check=True, capture_output=True
    )
    return image


def loops_of(image: Path) -> str:
    done = subprocess.run(["losetup", "-j", str(image)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("options", [["loop"], ["loop", "ro"]])
def test_a_file_is_mounted_by_a_loop_device(ours: Shims, options: list[str]) -> None:
    image = image_of(ours.root)
    shim = ours.start("one", rootfs.config("sh", "-c", "touch /new && exit 3; exit 4"))
    shim.create(rootfs=[{"type": "ext4", "source": str(image), "options": options}])
    assert loops_of(image)
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == (4 if "ro" in options else 3)
    shim.end()
    eventually(lambda: not loops_of(image), "the device goes with the mount")


def test_a_file_that_is_no_image_is_refused(ours: Shims) -> None:
    image = ours.root / "image"
    image.write_bytes(b"x" * 8192)
    shim = ours.start("one", rootfs.config("true"))
    mounts = [{"type": "ext4", "source": str(image), "options": ["loop"]}]
    with pytest.raises(errors.BarqueError, match="failed to mount rootfs component ext4"):
        shim.create(rootfs=mounts)
    mounts[0]["source"] = str(ours.root / "nothing")
    with pytest.raises(errors.BarqueError, match="No such file"):
        shim.create(rootfs=mounts)
    shim.shutdown()
    assert not loops_of(image)
