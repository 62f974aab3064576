"""What is mounted for containers, in full: disks, propagation, read-only all the way down."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_cli import fails, out

pytestmark = [pytest.mark.root, pytest.mark.peer]
IMAGE_BYTES = {"ext4": 16 << 20, "btrfs": 128 << 20}  # btrfs makes none that is smaller


def name() -> str:
    return f"v{secrets.token_hex(4)}"


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def disk(kind: str) -> Iterator[str]:
    """A block device with a file system in it."""
    with ExitStack() as undo:
        directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp"))
        image = Path(directory, "image")
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES[kind])
        run(f"mkfs.{kind}", "-q", str(image))
        device = run("losetup", "--find", "--show", str(image))
        undo.callback(run, "losetup", "--detach", device)
        yield device


@pytest.mark.parametrize("kind", list(IMAGE_BYTES))
def test_a_volume_on_a_disk_of_its_own(engine: Any, kind: str) -> None:
    volume = name()
    with disk(kind) as device:
        options = ("-o", f"type={kind}", "-o", f"device={device}", "-o", "o=noatime")
        out(engine, "volume", "create", *options, volume)
        mount = ("run", "--rm", "-v", f"{volume}:/data", "busybox", "sh", "-c")
        look = "grep ' /data ' /proc/mounts | cut -d' ' -f3; echo kept > /data/file"
        assert out(engine, *mount, look) == kind
        assert out(engine, *mount, "cat /data/file; grep -c noatime /proc/mounts") == "kept\n1"
        out(engine, "volume", "rm", volume)
        assert device not in Path("/proc/self/mounts").read_text()


def test_a_file_server_that_the_kernel_cannot_speak_to(engine: Any) -> None:
    """Made it can be, as with Docker; the container says what is missing."""
    if "\tnfs" in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel speaks nfs")
    volume = name()
    options = ("-o", "type=nfs", "-o", "device=:/export", "-o", "o=addr=127.0.0.1,rw")
    out(engine, "volume", "create", *options, volume)
    said = fails(engine, "run", "--rm", "-v", f"{volume}:/data", "busybox", "true")
    assert "failed to mount local volume: mount :/export:" in said
    assert "data: addr=127.0.0.1: no such device" in said
    out(engine, "volume", "rm", volume)


@pytest.fixture
def nested() -> Iterator[Path]:
    """A shared directory of the host with a tmpfs mounted in it."""
    with ExitStack() as undo:
        top = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp")))
        for place in (top, top / "inner"):
            place.mkdir(exist_ok=True)
            run("mount", "-t", "tmpfs", "tmpfs", str(place))
            undo.callback(run, "umount", "--recursive", str(place))
            run("mount", "--make-shared", str(place))
        yield top


WRITE = "touch /m/x 2>/dev/null && echo outer; touch /m/inner/x 2>/dev/null && echo inner; true"


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ("", "outer\ninner"),
        (",readonly", ""),
        (",readonly,bind-recursive=writable", "inner"),
        (",readonly,bind-recursive=readonly,bind-propagation=rprivate", ""),
    ],
)
def test_read_only_all_the_way_down(
    barque: Stack, nested: Path, options: str, written: str
) -> None:
    mount = f"type=bind,src={nested},dst=/m{options}"
    assert out(barque, "run", "--rm", "--mount", mount, "busybox", "sh", "-c", WRITE) == written


def test_only_the_outermost_mount(barque: Stack, nested: Path) -> None:
    (nested / "inner" / "file").touch()
    mount = f"type=bind,src={nested},dst=/m,bind-recursive=disabled"
    assert out(barque, "run", "--rm", "--mount", mount, "busybox", "ls", "/m/inner") == ""


@pytest.mark.parametrize("word", ["rprivate", "rslave", "rshared"])
def test_mounts_that_come_later(barque: Stack, nested: Path, word: str) -> None:
    """Of the host they come with slave and shared; of the container they go with shared alone."""
    container = name()
    (nested / "late").mkdir()
    flags = ("-d", "--name", container, "--cap-add", "SYS_ADMIN", "--network", "none")
    mount = ("--mount", f"type=bind,src={nested},dst=/m,bind-propagation={word}")
    out(barque, "run", *flags, *mount, "busybox", "sh", "-c", "exec sleep 600")
    try:
        run("mount", "-t", "tmpfs", "tmpfs", str(nested / "late"))
        (nested / "late" / "file").touch()
        seen = out(barque, "exec", container, "ls", "/m/late")
        assert seen == ("" if word == "rprivate" else "file")
        out(barque, "exec", container, "mount", "-t", "tmpfs", "tmpfs", "/m/inner")
        out(barque, "exec", container, "touch", "/m/inner/own")
        assert (nested / "inner" / "own").exists() is (word == "rshared")
    finally:
        out(barque, "rm", "-f", container)


def test_a_source_that_is_not_shared_cannot_be(barque: Stack, nested: Path) -> None:
    run("mount", "--make-private", str(nested))
    mount = ("--mount", f"type=bind,src={nested},dst=/m,bind-propagation=rshared")
    said = fails(barque, "run", "--rm", *mount, "busybox", "true")
    assert "not a shared mount" in said
