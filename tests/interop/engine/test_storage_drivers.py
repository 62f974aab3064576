"""Storage drivers by name: everything works on each, and what one holds another does not show."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barque.containerd.snapshots.devmapper import missing
from tests.support.barque import Stack, stack
from tests.support.disks import btrfs_disk

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

DRIVERS = ("overlay2", "vfs", "btrfs", "erofs")
TOUR = ("overlay2", "vfs", "btrfs", "erofs", "overlay2")


@contextmanager
def stack_on(driver: str) -> Iterator[Stack]:
    """A stack with that driver, whose snapshots are on a btrfs of their own where it needs one."""
    flags = ("--storage-driver", driver)
    with stack(*flags, disk=btrfs_disk if driver == "btrfs" else None) as made:
        yield made


@pytest.fixture(scope="module", params=DRIVERS)
def barque(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with stack_on(request.param) as made:
        yield made


def driver_of(barque: Stack) -> str:
    return barque.flags[1]


def text(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stdout.decode().strip()


def names_in(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


def inspected(barque: Stack, name: str) -> dict[str, object]:
    (found,) = json.loads(barque.docker("inspect", name).stdout)
    assert isinstance(found, dict)
    return found


def test_info_and_inspect_tell_the_driver(barque: Stack) -> None:
    driver = driver_of(barque)
    assert text(barque.docker("info", "--format", "{{.Driver}}")) == driver
    barque.docker("create", "--name", "told", "busybox", "true")
    try:
        found = inspected(barque, "told")
        graph = found["GraphDriver"]
        assert isinstance(graph, dict)
        assert (found["Driver"], graph["Name"]) == (driver, driver)
        if driver in ("overlay2", "erofs"):
            assert Path(graph["Data"]["UpperDir"]).is_dir()
            assert all(Path(path).is_dir() for path in graph["Data"]["LowerDir"].split(":"))
        else:
            assert graph["Data"] is None
        (image,) = json.loads(barque.docker("image", "inspect", "busybox").stdout)
        assert image["GraphDriver"]["Name"] == driver
    finally:
        barque.docker("rm", "told")


def test_a_container_keeps_what_it_wrote(barque: Stack) -> None:
    command = "echo one >/f; rm /etc/group; mkdir /d; echo two >/d/g; cat /f"
    assert text(barque.docker("run", "--name", "writer", "busybox", "sh", "-c", command)) == "one"
    try:
        assert text(barque.docker("start", "-a", "writer")) == "one"
        changed = set(text(barque.docker("diff", "writer")).splitlines())
        assert {"A /f", "A /d", "A /d/g", "C /etc", "D /etc/group"} <= changed
        assert not any(line.endswith(("/bin", "/bin/busybox")) for line in changed)
        copied = barque.docker("cp", "writer:/d/g", "-").stdout
        assert names_in(copied) == ["g"]
        assert text(barque.docker("run", "--rm", "busybox", "cat", "/etc/group")).startswith("root")
    finally:
        barque.docker("rm", "writer")


def test_copying_into_a_container(barque: Stack, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside")
    barque.docker("create", "--name", "copied", "busybox", "cat", "/in")
    try:
        barque.docker("cp", str(tmp_path / "in"), "copied:/in")
        assert text(barque.docker("start", "-a", "copied")) == "from outside"
        exported = barque.docker("export", "copied").stdout
        assert "in" in names_in(exported)
    finally:
        barque.docker("rm", "copied")


def test_a_commit_is_a_layer_of_what_changed(barque: Stack) -> None:
    command = "echo one >/f; rm /etc/group; ln /f /g"
    barque.docker("run", "--name", "writer", "busybox", "sh", "-c", command)
    try:
        barque.docker("commit", "writer", "changed")
        try:
            script = "cat /f /g; test ! -e /etc/group && echo gone"
            ran = barque.docker("run", "--rm", "changed", "sh", "-c", script)
            assert text(ran).split() == ["one", "one", "gone"]
            sizes = barque.docker("history", "--human=false", "--format", "{{.Size}}", "changed")
            assert int(text(sizes).splitlines()[0]) < 500_000 or driver_of(barque) == "vfs"
        finally:
            barque.docker("rmi", "changed")
    finally:
        barque.docker("rm", "writer")


def test_an_image_makes_the_round_trip(barque: Stack) -> None:
    saved = barque.docker("save", "busybox").stdout
    before = text(barque.docker("images", "-q", "--no-trunc", "busybox"))
    barque.docker("rmi", "busybox")
    barque.docker("load", stdin=saved)
    assert text(barque.docker("images", "-q", "--no-trunc", "busybox")) == before
    assert text(barque.docker("run", "--rm", "busybox", "echo", "there")) == "there"


def test_users_come_from_the_image(barque: Stack) -> None:
    ran = barque.docker("run", "--rm", "--user", "daemon", "busybox", "id", "-u", check=False)
    shown = barque.docker("run", "--rm", "busybox", "cat", "/etc/passwd").stdout.decode()
    assert (ran.returncode == 0) == ("daemon:" in shown)
    assert text(barque.docker("run", "--rm", "--user", "root", "busybox", "id", "-u")) == "0"


def test_a_volume_is_filled_from_the_image(barque: Stack) -> None:
    try:
        ran = barque.docker("run", "--rm", "-v", "filled:/etc", "busybox", "ls", "/etc/passwd")
        assert text(ran) == "/etc/passwd"
    finally:
        barque.docker("volume", "rm", "filled")


def test_df_counts(barque: Stack) -> None:
    script = "dd if=/dev/urandom of=/f bs=1M count=2 2>/dev/null"
    barque.docker("run", "--name", "writer", "busybox", "sh", "-c", script)
    try:
        usage = barque.docker("ps", "-as", "--filter", "name=writer", "--format", "{{.Size}}")
        assert "MB" in text(usage)
        assert "Images" in barque.docker("system", "df").stdout.decode()
    finally:
        barque.docker("rm", "writer")


def test_a_restart_of_the_daemon_finds_all(barque: Stack) -> None:
    barque.docker("run", "-d", "--name", "on", "busybox", "sleep", "1000")
    barque.docker("create", "--name", "off", "busybox", "echo", "still there")
    try:
        barque.kill("barqued")
        barque.kill("barque-containerd")
        barque.start()
        assert text(barque.docker("exec", "on", "echo", "running")) == "running"
        assert text(barque.docker("start", "-a", "off")) == "still there"
        barque.kill("barque-containerd")
        shown = barque.docker("exec", "--user", "root", "on", "cat", "/etc/passwd")
        assert b"root" in shown.stdout
        copied = barque.docker("cp", "off:/etc/passwd", "-")
        assert names_in(copied.stdout) == ["passwd"]
    finally:
        barque.docker("rm", "-f", "on", "off")


def test_a_size_is_kept_to_or_refused(barque: Stack) -> None:
    script = "dd if=/dev/urandom of=/f bs=64k count=1024 conv=fsync"
    size = ("--storage-opt", "size=40m")
    ran = barque.docker("run", "--rm", *size, "busybox", "sh", "-c", script, check=False)
    said = ran.stderr.decode()
    if driver_of(barque) == "btrfs":
        assert "quota exceeded" in said.lower()
        assert ran.returncode == 1
    else:
        assert f"storage driver {driver_of(barque)} has no quotas here" in said
        assert ran.returncode == 125
    assert text(barque.docker("ps", "-aq")) == ""


@pytest.mark.parametrize("option", ["size=", "size=1x", "size=0", "colour=red"])
def test_storage_options_that_are_none(barque: Stack, option: str) -> None:
    done = barque.docker("create", "--storage-opt", option, "busybox", "true", check=False)
    assert done.returncode == 1
    assert b"storage option" in done.stderr


def with_driver(barque: Stack, driver: str) -> None:
    barque.stop()
    barque.flags = ("--storage-driver", driver)
    barque.start()


def names_of(barque: Stack) -> tuple[set[str], set[str]]:
    """The images and the containers that are shown."""
    images = text(barque.docker("images", "--format", "{{.Repository}}")).split()
    containers = text(barque.docker("ps", "-a", "--format", "{{.Names}}")).split()
    return set(images), set(containers)


def test_another_driver_shows_its_own_and_migrate_carries_over() -> None:
    with stack("--storage-driver", "overlay2") as barque:
        script = "echo kept >/f; rm /etc/group; test -e /etc/group || cat /f"
        barque.docker("run", "--name", "first", "busybox", "sh", "-c", script)
        barque.docker("tag", "busybox", "alias")
        barque.docker("run", "-d", "--name", "runs", "busybox", "sleep", "1000")
        before = names_of(barque)
        assert before == ({"busybox", "alias"}, {"first", "runs"})

        barque.stop()
        barque.flags = ("--storage-driver", "erofs")
        refused = subprocess.run(barque.argv(), capture_output=True, timeout=60, check=False)
        last = refused.stderr.decode().strip().splitlines()[-1]
        assert "container runs of storage driver overlay2 is running" in last
        barque.flags = ("--storage-driver", "overlay2")
        barque.start()
        assert text(barque.docker("exec", "runs", "echo", "still")) == "still"
        barque.docker("rm", "-f", "runs")

        with_driver(barque, "erofs")
        assert names_of(barque) == (set(), set())
        barque.add_busybox()  # the name is now this driver's; what it named is kept for the other
        barque.docker("create", "--name", "second", "busybox", "true")
        taken = barque.docker("create", "--name", "first", "busybox", "true", check=False)
        assert b"already in use" in taken.stderr
        assert names_of(barque) == ({"busybox"}, {"second"})

        with_driver(barque, "overlay2")
        images, containers = names_of(barque)
        assert "alias" in images
        assert containers == {"first"}
        assert text(barque.docker("start", "-a", "first")) == "kept"

        with_driver(barque, "erofs")
        moved = barque.cli("system", "migrate")
        assert "container first" in moved.stdout.decode()
        images, containers = names_of(barque)
        assert {"busybox", "alias"} <= images
        assert containers == {"first", "second"}
        assert text(barque.docker("start", "-a", "first")) == "kept"
        assert "erofs" in text(barque.docker("inspect", "-f", "{{.Driver}}", "first"))
        again = barque.cli("system", "migrate")
        assert "container" not in again.stdout.decode()
        barque.docker("rm", "first", "second")
        barque.docker("rmi", "alias", "busybox")

        with_driver(barque, "overlay2")
        images, containers = names_of(barque)
        assert "alias" in images
        assert containers == set()
        assert text(barque.docker("run", "--rm", "alias", "echo", "whole")) == "whole"


def test_a_container_moves_through_all_drivers() -> None:
    """What it wrote, removed and linked is the same on each, and its image runs on each."""
    facts = "cat /f; test -e /etc/group || echo gone; stat -c %h:%a:%u:%g /f /l"
    seen = ("kept", "gone", "2:640:5:7", "2:640:5:7")
    with stack("--storage-driver", TOUR[0], disk=btrfs_disk) as barque:
        script = "echo kept >/f; ln /f /l; chown 5:7 /f; chmod 640 /f; rm /etc/group"
        barque.docker("run", "--name", "first", "busybox", "sh", "-c", script)
        barque.docker("create", "--name", "moves", "busybox", "true")
        barque.docker("commit", "first", "moves:1")
        barque.docker("rm", "-f", "first", "moves")
        barque.docker(
            "create", "--name", "moves", "moves:1", "sh", "-c", f"{facts}; echo n >>/n; cat /n"
        )
        for number, driver in enumerate(TOUR):
            if number:
                with_driver(barque, driver)
                assert names_of(barque)[1] == set()
                told = text(barque.cli("system", "migrate"))
                assert "container moves" in told
            ran = text(barque.docker("start", "-a", "moves"))
            assert ran.split() == [*seen, *["n"] * (number + 1)]
            assert inspected(barque, "moves")["Driver"] == driver
            assert text(barque.docker("run", "--rm", "moves:1", "cat", "/l")) == "kept"


@pytest.fixture(scope="module")
def stopped() -> Iterator[Stack]:
    with stack(busybox=False) as barque:
        barque.stop()
        yield barque


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        pytest.param(
            *("devicemapper", "device-mapper"),
            marks=pytest.mark.skipif(not missing(), reason="it is here"),
        ),
        ("zfs", "zfs"),
        ("fuse-overlayfs", "fuse"),
        ("btrfs", "is not on btrfs"),
        ("floppy", "not one of overlay2"),
    ],
)
def test_a_driver_that_is_not_there_is_told(stopped: Stack, driver: str, reason: str) -> None:
    argv = [*stopped.argv(), "--storage-driver", driver]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    last = done.stderr.decode().strip().splitlines()[-1]
    assert reason in last
    assert "Traceback" not in done.stderr.decode()
    stopped.wait_gone()  # what its containerd had started ends by itself
    assert stopped.leftovers() == []
