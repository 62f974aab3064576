"""Root filesystems out of image files."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.linux import mount as m
from barque.shim.rootfs import hold, mount_all, unmount
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


def overlay_of(directory: Path, *options: str) -> dict[str, Any]:
    """An overlay over a busybox root, as a snapshotter names it."""
    tree = rootfs.build(directory / "tree")
    for name in ("upper", "work", "again"):
        (directory / name).mkdir()
    places = [f"lowerdir={tree}", f"upperdir={directory}/upper", f"workdir={directory}/work"]
    return {"type": "overlay", "source": "overlay", "target": "", "options": [*options, *places]}


def is_used(overlay: dict[str, Any], place: Path) -> bool:
    """Whether the kernel keeps the upper directory for an overlay that is there."""
    options = ["index=on", *(one for one in overlay["options"] if one != "index=off")]
    try:
        m.mount("overlay", str(place), "overlay", 0, ",".join(options))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    m.umount2(str(place))
    return False


def test_what_is_held_outlives_its_place(tmp_path: Path) -> None:
    overlay = overlay_of(tmp_path, "index=off")
    place = tmp_path / "place"
    mount_all([overlay], str(place))
    try:
        held = hold(str(place))
    finally:
        unmount(str(place))
    try:
        assert rootfs.mounts_below(place) == []
        assert is_used(overlay, tmp_path / "again")
    finally:
        os.close(held)
    assert not is_used(overlay, tmp_path / "again")
    assert hold(str(tmp_path / "nothing")) == -1


@pytest.mark.parametrize("options", [["index=off"], []])
def test_an_overlay_goes_with_its_task(ours: Shims, options: list[str]) -> None:
    """Its place is free when Delete is answered; it is written out afterwards where others may have
    its directories meanwhile, and before where not."""
    overlay = overlay_of(ours.root, *options)
    shim = ours.start("one", rootfs.config("sh", "-c", "echo word > /new"))
    shim.create(rootfs=[overlay])
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 0
    shim.call("Delete")
    assert rootfs.mounts_below(shim.bundle) == []
    eventually(lambda: not is_used(overlay, ours.root / "again"), "nothing is left of it")
    assert (ours.root / "upper" / "new").read_text() == "word\n"
    shim.shutdown()
