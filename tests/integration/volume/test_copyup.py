"""Copy-up from several layers, with everything a file can be: overlay itself is the oracle."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from barque import errors
from barque.program import command
from barque.volume.local import LocalVolumes
from tests.support.netns_host import temporary_root

pytestmark = pytest.mark.root


def listing(directory: Path) -> list[str]:
    """Every entry with type, mode, owner, device, size, link target and time, by GNU find."""
    form = "%P %y %#m %U %G %s %l %Ty%Tj%TH%TM%TS\n"
    argv = ["find", str(directory), "-mindepth", "1", "-printf", form]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return sorted(line for line in lines if " d " not in line) + sorted(
        line.split(" ")[0] for line in lines if " d " in line
    )


def fill(lower: Path, upper: Path) -> None:
    data = lower / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "file").write_text("lower")
    (data / "gone").write_text("whited out")
    (data / "plain").write_bytes(os.urandom(70_000))
    (data / "plain").chmod(0o4755)
    os.chown(data / "plain", 1234, 4321)
    (data / "plain").chmod(0o4755)
    os.mkfifo(data / "fifo", 0o640)
    os.mknod(data / "null", 0o20666, os.makedev(1, 3))
    os.symlink("/etc/shadow", data / "link")
    os.link(data / "plain", data / "again")
    os.setxattr(data / "plain", "user.test", b"value")
    (upper / "data" / "sub").mkdir(parents=True)
    (upper / "data" / "sub" / "file").write_text("upper")
    os.mknod(upper / "data" / "gone", 0o20000, os.makedev(0, 0))
    (upper / "data").chmod(0o711)
    os.chown(upper / "data", 55, 66)


def test_many_layers_are_copied_as_the_container_would_see_them() -> None:
    with temporary_root() as root:
        layers = [root / f"l{number}" for number in range(3)]
        for layer in layers:
            layer.mkdir()
        fill(layers[1], layers[0])
        (root / "volumes").mkdir()
        volumes = LocalVolumes(root / "volumes", command("barque-copyup"))
        data = volumes.create("vol")
        assert volumes.populate("vol", [str(layer) for layer in layers], "/data")
        merged = root / "merged"
        merged.mkdir()
        lower = ":".join(str(layer) for layer in layers)
        argv = ["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lower}", str(merged)]
        subprocess.run(argv, check=True)
        try:
            assert listing(data) == listing(merged / "data")
        finally:
            subprocess.run(["umount", str(merged)], check=True)
        assert (data / "sub" / "file").read_text() == "upper"
        assert not (data / "gone").exists()
        assert (data / "plain").stat().st_ino == (data / "again").stat().st_ino
        assert os.getxattr(data / "plain", "user.test") == b"value"
        facts = data.stat()
        assert (facts.st_mode & 0o777, facts.st_uid, facts.st_gid) == (0o711, 55, 66)
        assert f"{root}/" not in Path("/proc/self/mountinfo").read_text()


def test_a_link_over_layers_stays_in_the_image() -> None:
    with temporary_root() as root:
        (root / "low" / "etc").mkdir(parents=True)
        (root / "low" / "etc" / "mine").touch()
        (root / "up").mkdir()
        (root / "up" / "data").symlink_to("../../../../etc")
        (root / "volumes").mkdir()
        volumes = LocalVolumes(root / "volumes", command("barque-copyup"))
        data = volumes.create("vol")
        assert volumes.populate("vol", [str(root / "up"), str(root / "low")], "/data")
        assert [path.name for path in data.iterdir()] == ["mine"]


def test_a_volume_with_a_mount_inside_keeps_the_mounted_files() -> None:
    with temporary_root() as root:
        precious = root / "precious"
        precious.mkdir()
        (precious / "file").write_text("keep")
        (root / "volumes").mkdir()
        volumes = LocalVolumes(root / "volumes", [])
        inside = volumes.create("vol") / "mnt"
        inside.mkdir()
        subprocess.run(["mount", "--bind", str(precious), str(inside)], check=True)
        try:
            assert volumes.mounted_inside("vol") == str(inside)
            removed = volumes.discard("vol")
            assert removed is not None
            with pytest.raises(errors.BarqueError, match="volume data not removed"):
                volumes.delete(removed)
        finally:
            moved = next((root / "volumes").glob(".removed-*")) / "_data" / "mnt"
            subprocess.run(["umount", str(moved)], check=True)
        assert (precious / "file").read_text() == "keep"
        volumes.delete(removed)
        assert list((root / "volumes").iterdir()) == []
