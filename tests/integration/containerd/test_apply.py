"""Applying layers: as GNU tar and overlayfs do, and never out of the directory.

Rows of the published holes that this covers: CVE-2014-6407, -9356, -9358 (links and `..` in
layers), CVE-2021-32760 (chmod through links), CVE-2021-29136 (a root that is no directory),
CVE-2017-14992 and decompression bombs.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd

from barque.containerd.diff import decompress
from barque.containerd.diff.applying import Target, apply_layer
from barque.errors import BarqueError, DataLoss, InvalidArgument, ResourceExhausted, Unsupported
from barque.linux.mount import mount, umount2
from tests.support.layers import (
    Member,
    digest,
    directory,
    entry,
    gzipped,
    hardlink,
    layer,
    picture,
    symlink,
)
from tests.support.rootfs import temporary

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


def apply(data: bytes, target: Target) -> tuple[str, int]:
    with tempfile.TemporaryFile() as blob:
        blob.write(data)
        blob.flush()
        return apply_layer(blob.fileno(), target, threading.Event())


def zstd_checked(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


class Place:
    """A root to unpack into, and things beside it that no layer may touch."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.root.mkdir()
        self.outside = base / "outside"
        self.outside.mkdir()
        (self.outside / "canary").write_text("alive")
        (self.outside / "canary").chmod(0o640)
        self.before = picture(self.outside)

    def apply(self, *members: Member) -> None:
        apply(layer(members), Target(str(self.root), False, ()))

    def check_outside(self) -> None:
        assert picture(self.outside) == self.before
        assert sorted(path.name for path in self.outside.parent.iterdir()) == ["outside", "root"]


@pytest.fixture
def place() -> Iterator[Place]:
    with temporary() as base:
        made = Place(base)
        yield made
        made.check_outside()


def test_a_tree_is_unpacked_as_gnu_tar_does() -> None:
    with temporary() as base:
        tree, theirs, ours = base / "tree", base / "theirs", base / "ours"
        for path in (tree, theirs, ours):
            path.mkdir()
        (tree / "d").mkdir()
        (tree / "d/file").write_bytes(os.urandom(3_000_000))
        (tree / "d/suid").write_text("x")
        os.chown(tree / "d/suid", 1000, 100)
        (tree / "d/suid").chmod(0o6755)
        os.setxattr(tree / "d/suid", "user.a", b"b")
        os.link(tree / "d/file", tree / "hard")
        (tree / "sym").symlink_to("/etc/passwd")
        os.lchown(tree / "sym", 5, 6)
        os.mkfifo(tree / "fifo")
        os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (tree / ("long" * 60)).mkdir()
        (tree / ("long" * 60) / ("name" * 50)).write_text("long")
        (tree / "tmp").mkdir()
        (tree / "tmp").chmod(0o1777)
        with open(tree / "sparse", "wb") as sparse:
            sparse.truncate(1 << 20)
            sparse.seek(500_000)
            sparse.write(b"middle")
        for path in [*tree.rglob("*"), tree]:
            os.utime(path, (1.6e9, 1.6e9), follow_symlinks=False)
        for options in (["--format=pax", "--xattrs"], ["--format=gnu"]):
            archive = base / "a.tar"
            command = ["tar", "-C", str(tree), "-S", *options, "-cf", str(archive), "."]
            subprocess.run(command, check=True)
            subprocess.run(["tar", "-C", str(theirs), "--xattrs", "-xpf", str(archive)], check=True)
            data = archive.read_bytes()
            for packed in (data, gzipped(data), zstd.compress(data)):
                assert apply(packed, Target(str(ours), False, ())) == (digest(data), len(data))
                assert picture(ours) == picture(theirs)
            assert (ours / "sparse").stat().st_blocks < 1000


def test_later_entries_replace_earlier_ones(place: Place) -> None:
    place.apply(
        entry("a", b"file"),
        directory("a"),
        entry("a/b", b"1"),
        entry("a/b", b"2"),
        symlink("l", "a"),
        entry("l", b"no link"),
        directory("t"),
        entry("t/deep", b"x"),
        entry("t", b"file now"),
        directory("d", mode=0o700),
        entry("d/x", b"x"),
        directory("d", mode=0o711),
    )
    assert (place.root / "a/b").read_bytes() == b"2"
    assert (place.root / "l").read_bytes() == b"no link"
    assert not (place.root / "l").is_symlink()
    assert (place.root / "t").read_bytes() == b"file now"
    assert (place.root / "d").stat().st_mode & 0o777 == 0o711
    assert (place.root / "d/x").exists()


def test_times_of_directories_survive_their_files(place: Place) -> None:
    place.apply(directory("."), directory("d"), entry("d/f"), entry("e/f"))
    assert (place.root / "d").stat().st_mtime == 1_600_000_000
    assert place.root.stat().st_mtime == 1_600_000_000
    assert (place.root / "e").stat().st_mode & 0o777 == 0o755


def test_plain_whiteouts(place: Place) -> None:
    place.apply(
        directory("d"), entry("d/a"), entry("d/b"), entry("gone"), directory("o"), entry("o/x")
    )
    place.apply(
        entry("d/.wh.a"),
        entry(".wh.gone"),
        entry(".wh.never-was"),
        entry("o/new"),
        entry("o/.wh..wh..opq"),
        entry("no/such/.wh.dir"),
        entry("kept", b"k"),
        entry(".wh.kept"),
        entry(".wh..wh.plnk"),
    )
    assert sorted(path.name for path in place.root.rglob("*")) == ["b", "d", "kept", "new", "o"]


# Overlay


class Stack:
    """Lower directories below an upper one, and what overlayfs makes of them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        for name in ("lower", "upper", "work", "seen"):
            (base / name).mkdir()

    def lower(self, *members: Member) -> None:
        apply(layer(members), Target(str(self.base / "lower"), False, ()))

    def upper(self, *members: Member) -> None:
        target = Target(str(self.base / "upper"), True, (str(self.base / "lower"),))
        apply(layer(members), target)

    def names(self) -> list[str]:
        seen = self.base / "seen"
        options = ",".join(
            f"{key}={self.base}/{directory}"
            for key, directory in (
                ("lowerdir", "lower"),
                ("upperdir", "upper"),
                ("workdir", "work"),
            )
        )
        mount("overlay", str(seen), "overlay", 0, options)
        try:
            return sorted(str(path.relative_to(seen)) for path in seen.rglob("*"))
        finally:
            umount2(str(seen))


@pytest.fixture
def stack() -> Iterator[Stack]:
    with temporary() as base:
        yield Stack(base)


def test_overlay_whiteouts(stack: Stack) -> None:
    stack.lower(
        *(directory("d"), entry("d/a"), entry("d/b"), entry("file"), directory("o"), entry("o/x")),
        *(directory("r"), entry("r/old"), directory("s"), entry("s/old")),
    )
    stack.upper(
        *(entry("d/.wh.a"), entry(".wh.file"), entry("o/.wh..wh..opq"), entry("o/y")),
        *(entry(".wh.r"), directory("r"), entry("r/new")),
        *(directory("s"), entry("s/new"), entry(".wh.s")),
    )
    assert stack.names() == ["d", "d/b", "o", "o/y", "r", "r/new", "s", "s/new"]


def test_directories_on_the_way_look_as_below(stack: Stack) -> None:
    stack.lower(directory("p", mode=0o1777, uid=7), directory("p/q", mode=0o700, gid=9))
    os.setxattr(stack.base / "lower/p/q", "user.x", b"y")
    stack.upper(entry("p/q/new"), entry("other/new"))
    upper = stack.base / "upper"
    assert (upper / "p").stat().st_mode & 0o7777 == 0o1777
    assert (upper / "p").stat().st_uid == 7
    assert (upper / "p/q").stat().st_mode & 0o7777 == 0o700
    assert (upper / "p/q").stat().st_gid == 9
    assert os.getxattr(upper / "p/q", "user.x") == b"y"
    assert (upper / "other").stat().st_mode & 0o7777 == 0o755


def test_a_file_may_take_the_place_of_a_whiteout_and_of_a_directory(stack: Stack) -> None:
    stack.lower(directory("a"), entry("a/x"), entry("b"))
    stack.upper(entry(".wh.a"), entry("a", b"file"), entry(".wh.b"), entry("b/inner"))
    assert stack.names() == ["a", "b", "b/inner"]


def test_layers_do_not_speak_to_overlayfs(stack: Stack) -> None:
    stack.lower(directory("a"), entry("a/secret"))
    info, content = directory("b")
    info.pax_headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/a",
        "SCHILY.xattr.user.overlay.redirect": "/a",
        "SCHILY.xattr.user.kept": "yes",
    }
    stack.upper((info, content))
    assert os.listxattr(stack.base / "upper/b") == ["user.kept"]


# Hostile archives: refused, or kept inside

UP = "../outside/canary"
REFUSED: dict[str, list[Member]] = {
    "dot dot": [entry(UP, b"dead")],
    "dot dot inside": [directory("a"), entry("a/../../outside/canary", b"dead")],
    "many dot dots": [entry("../" * 50 + "tmp/x", b"dead")],
    "absolute with dot dot": [entry("/../outside/canary", b"dead")],
    "dot dot directory": [directory("..")],
    "dot dot symlink": [symlink("../outside/link", "x")],
    "hard link out": [hardlink("h", UP)],
    "hard link to root": [hardlink("h", ".")],
    "hard link to nothing": [hardlink("h", "none")],
    "hard link to a directory": [directory("d"), hardlink("h", "d")],
    "whiteout of dot dot": [entry(".wh...")],
    "whiteout of dot": [entry(".wh..")],
    "whiteout of nothing": [entry(".wh.")],
    "whiteout out": [entry("../outside/.wh.canary")],
    "root is a file": [entry(".", b"x"), entry("a")],
    "root is a link": [symlink(".", "../outside"), entry("canary", b"dead")],
    "root is a device": [entry(".", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "below a file": [entry("f"), entry("f/x")],
    "below a device": [entry("n", kind=tarfile.CHRTYPE, devmajor=1, devminor=3), entry("n/x")],
    "link loop": [symlink("a", "b"), symlink("b", "a"), entry("a/x")],
    "component too long": [entry("n" * 256)],
    "too deep": [entry("d/" * 600 + "x")],
    "device number": [entry("n", kind=tarfile.CHRTYPE, devmajor=4096, devminor=1)],
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(place: Place, name: str) -> None:
    with pytest.raises(BarqueError) as raised:
        place.apply(*REFUSED[name])
    assert isinstance(raised.value, (InvalidArgument, DataLoss))


OUT = "../outside"
INSIDE: dict[str, list[Member]] = {
    "absolute": [entry("/outside/canary", b"dead")],
    "through a link up": [symlink("l", OUT), directory("outside"), entry("l/canary", b"dead")],
    "through an absolute link": [
        symlink("l", "/outside"),
        directory("outside"),
        entry("l/canary", b"dead"),
    ],
    "through links to links": [
        symlink("a", "b"),
        symlink("b", "c"),
        symlink("c", OUT),
        directory("outside"),
        entry("a/canary", b"dead"),
    ],
    "file over a link": [symlink("l", UP), entry("l", b"dead")],
    "directory over a link": [
        symlink("l", OUT),
        directory("l", mode=0o777),
        entry("l/canary", b"x"),
    ],
    "hard link to a link": [symlink("l", UP), hardlink("h", "l"), entry("h", b"dead")],
    "mode of a hard link to a link": [
        symlink("l", UP),
        entry("h", kind=tarfile.LNKTYPE, linkname="l", mode=0o777),
    ],
    "hard link by absolute name": [entry("f", b"x"), hardlink("h", "/f")],
    "hard link through a link": [
        symlink("l", OUT),
        directory("outside"),
        entry("outside/f", b"x"),
        hardlink("h", "l/f"),
    ],
    "hard link to itself": [entry("f", b"x"), hardlink("f", "f")],
    "link then its own directory": [
        symlink("l", OUT),
        entry(".wh.l"),
        directory("l"),
        entry("l/canary"),
    ],
    "whiteout through a link": [symlink("l", OUT), directory("outside"), entry("l/.wh.canary")],
    "opaque through a link": [symlink("l", OUT), directory("outside"), entry("l/.wh..wh..opq")],
    "whiteout of a link": [symlink("l", UP), entry(".wh.l")],
    "owner of a link": [
        entry("l", kind=tarfile.SYMTYPE, linkname=UP, uid=1000, gid=1000, mode=0o777)
    ],
    "device node of the disk": [entry("sda", kind=tarfile.BLKTYPE, devmajor=8, devminor=0)],
    "below proc's links": [symlink("p", "/proc/self/root"), entry("p/x")],
    "below a link to nothing": [
        symlink("v", "run/lock"),
        entry("v/x", b"x"),
        symlink("w", "../../up"),
        entry("w/x"),
    ],
    "inner dot dot": [directory("a"), entry("a/b/../c", b"x")],
    "only slashes": [directory("///")],
    "line breaks in names": [entry("a\nb", b"x"), directory("d\r"), entry("d\r/\x1b[31m")],
    "names that look like options": [entry("--checkpoint-action=exec=x"), entry("-rf")],
    "directory swapped for a link": [
        directory("d"),
        entry("d/f"),
        symlink("d", OUT),
        directory("outside"),
        entry("d/canary", b"dead"),
    ],
}


@pytest.mark.parametrize("name", list(INSIDE))
def test_stays_inside(place: Place, name: str) -> None:
    place.apply(*INSIDE[name])


@pytest.mark.parametrize("name", [*REFUSED, *INSIDE])
def test_nothing_leaves_an_overlay_either(name: str) -> None:
    with temporary() as base:
        place = Place(base)
        lower = place.outside / "lower"
        lower.mkdir()
        place.before = picture(place.outside)
        members = (REFUSED | INSIDE)[name]
        try:
            apply(layer(members), Target(str(place.root), True, (str(lower),)))
        except BarqueError:
            pass
        place.check_outside()


def test_a_bomb_is_stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "FREE_BYTES", 1 << 20)
    data = layer([entry("zeros", bytes(64 << 20))])
    for packed in (gzipped(data), zstd.compress(data)):
        with pytest.raises(ResourceExhausted, match="200 times"):
            apply(packed, Target(str(place.root), False, ()))


def test_a_sparse_file_of_a_tebibyte_takes_no_room(place: Place) -> None:
    info, _ = entry("huge")
    info.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,0"}
    place.apply((info, b""))
    assert (place.root / "huge").stat().st_size == 1 << 40
    assert (place.root / "huge").stat().st_blocks == 0


def test_broken_compression_is_data_loss(place: Place) -> None:
    target = Target(str(place.root), False, ())
    data = layer([entry("a", os.urandom(300_000))])
    for packed in (gzipped(data), zstd_checked(data)):
        with pytest.raises(DataLoss, match="ends in the middle"):
            apply(packed[: len(packed) // 2], target)
        broken = bytearray(packed)
        broken[len(broken) // 2] ^= 0xFF
        with pytest.raises(BarqueError):
            apply(bytes(broken) + b"", target)
        with pytest.raises(DataLoss):
            apply(packed + b"trailing", target)
    with pytest.raises(Unsupported, match="xz"):
        apply(b"\xfd7zXZ\x00rest", target)


def test_streams_may_follow_each_other(place: Place) -> None:
    data = layer([entry("a", os.urandom(3_000_000)), entry("b", b"x")])
    target = Target(str(place.root), False, ())
    half = len(data) // 2
    for pack in (gzipped, zstd_checked):
        packed = pack(data[:half]) + pack(data[half:]) + bytes(700)
        assert apply(packed, target) == (digest(data), len(data))


def test_cancelling_stops(place: Place) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with tempfile.TemporaryFile() as blob:
        blob.write(layer([entry("a", bytes(1 << 20))]))
        blob.flush()
        with pytest.raises(BarqueError, match="cancelled"):
            apply_layer(blob.fileno(), Target(str(place.root), False, ()), cancelled)
    assert not list(place.root.iterdir())


def test_a_full_file_system_says_so() -> None:
    with temporary() as base:
        (base / "small").mkdir()
        mount("tmpfs", str(base / "small"), "tmpfs", 0, "size=256k")
        try:
            with pytest.raises(ResourceExhausted, match="no space left"):
                apply(
                    layer([entry("a", os.urandom(1 << 20))]), Target(str(base / "small"), False, ())
                )
        finally:
            umount2(str(base / "small"))
