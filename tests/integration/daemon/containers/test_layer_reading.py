"""Our walk over layers sees what overlayfs shows, whatever the layers hold."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.daemon.containers.layers import read_file

pytestmark = pytest.mark.root
NAMES = ("plain", "hidden", "replaced", "d/plain", "d/hidden", "opaque/old", "opaque/new",
         "turned/x", "link", "dirlink/plain", "absolute", "up/plain")  # fmt: skip


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[tuple[list[Path], Path]]:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for path in (upper / "d", lower / "d", upper / "opaque", lower / "opaque", lower / "turned",
                 tmp_path / "work", tmp_path / "merged"):  # fmt: skip
        path.mkdir(parents=True)
    for name in ("plain", "hidden", "replaced", "d/plain", "d/hidden", "opaque/old", "turned/x"):
        (lower / name).write_text(f"lower {name}")
    for name in ("hidden", "d/hidden"):
        os.mknod(upper / name, stat.S_IFCHR, 0)
    (upper / "replaced").write_text("upper")
    (upper / "opaque/new").write_text("new")
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    (upper / "turned").write_text("a file now")
    (upper / "link").symlink_to("d/../plain")
    (lower / "dirlink").symlink_to("d")
    (lower / "absolute").symlink_to("/d/plain")
    (lower / "up").symlink_to("../../..")
    merged = tmp_path / "merged"
    options = f"lowerdir={lower},upperdir={upper},workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
    try:
        yield [upper, lower], merged
    finally:
        subprocess.run(["umount", str(merged)], check=True)


def inside(merged: Path, name: str) -> bytes | None:
    """What a process whose root is `merged` reads."""
    done = subprocess.run(
        ["chroot", str(merged), "/busybox", "cat", f"/{name}"], capture_output=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


def test_as_overlayfs_shows_it(layers: tuple[list[Path], Path]) -> None:
    directories, merged = layers
    (merged / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (merged / "busybox").chmod(0o755)
    ours = {name: read_file([str(path) for path in directories], name) for name in NAMES}
    assert ours == {name: inside(merged, name) for name in NAMES}
    assert ours["absolute"] == b"lower d/plain"
    assert ours["hidden"] is None
