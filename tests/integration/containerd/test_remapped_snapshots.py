"""Snapshots seen with other ids (containerd's "remap-ids"), of each kind, as the shim mounts."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barque.containerd.diff.applying import target_of
from barque.containerd.diff.compare import changes
from barque.containerd.proto.types_pb2 import Mount as Message
from barque.containerd.snapshots.remapping import GID_LABEL, REMAP, UID_LABEL
from barque.containerd.snapshots.snapshotter import ACTIVE, VIEW, Mount
from barque.errors import InvalidArgument, Unsupported
from barque.linux import id_mapped
from barque.linux.libc import libc
from barque.linux.mount import MOUNT_ATTR_RDONLY, move_mount_to, umount2
from barque.shim import rootfs
from tests.support.snapshots import KINDS, Place, place_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

LABELS = {UID_LABEL: "0:100000:1000,1000:70000:1", GID_LABEL: "0:200000:65536"}
NET_BIND = 1 << 10


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place_of(request.param) as made:
        assert REMAP in made.snapshotter.capabilities
        with as_is(made, "w") as root:
            os.chown(root / "etc", 3, 4)
        made.commit("one", "w")
        with as_is(made, "w2", "one") as root:
            (root / "second").touch()
        made.commit("two", "w2")
        yield made


@contextmanager
def as_is(place: Place, key: str, parent: str = "") -> Iterator[Path]:
    """A writable snapshot; with no parent it has some files."""
    place.make(key, parent)
    with place.mounted(key) as root:
        if not parent:
            (root / "etc").mkdir()
            (root / "etc/passwd").write_text("root")
            (root / "bin").mkdir()
            (root / "bin/tool").write_text("tool")
            capable = struct.pack("<I4I", 0x02000001, NET_BIND, 0, 0, 0)
            os.setxattr(root / "bin/tool", "security.capability", capable)
            (root / "mine").write_text("mine")
            os.chown(root / "mine", 1000, 1000)
        yield root


@contextmanager
def shown(place: Place, how: Mount) -> Iterator[Path]:
    target = place.base / "seen"
    entry = {"type": how.type, "source": how.source, "target": "", "options": list(how.options)}
    rootfs.mount_all([entry], str(target))
    try:
        yield target
    finally:
        umount2(str(target))


@contextmanager
def root_inside(root: Path) -> Iterator[None]:
    """In `root`. Who is not one of the ids may not make anything where all is mapped.

    Only what this thread does to files: a change of all ids is a signal to every other thread.
    """
    here = Path.cwd()
    os.chdir(root)
    libc.setfsgid(200000)
    libc.setfsuid(100000)
    try:
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(0)
        os.chdir(here)


def owner(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_uid, facts.st_gid


def as_message(how: Mount) -> Message:
    return Message(type=how.type, source=how.source, options=how.options)


def test_files_belong_to_the_ids_of_the_host(place: Place) -> None:
    place.make("c", "two", ACTIVE, LABELS)
    with shown(place, place.how("c")) as root:
        assert owner(root) == (100000, 200000)
        assert owner(root / "etc/passwd") == (100000, 200000)
        assert owner(root / "etc") == (100003, 200004)
        assert owner(root / "mine") == (70000, 201000)
        (root / "mine").write_text("changed")  # goes up, and stays his
        assert owner(root / "mine") == (70000, 201000)
        with root_inside(root):
            Path("new").touch()
        assert owner(root / "new") == (100000, 200000)
        os.chown(root / "new", 100999, 200999)
        assert owner(root / "new") == (100999, 200999)
    with shown(place, place.how("c")) as root:
        assert (root / "mine").read_text() == "changed"
        assert owner(root / "new") == (100999, 200999)


def test_the_layers_below_are_as_they_were(place: Place) -> None:
    place.make("c", "two", ACTIVE, LABELS)
    with shown(place, place.how("c")) as root:
        (root / "mine").unlink()
        os.chown(root / "etc/passwd", 100007, 200007)
    place.make("look", "two", VIEW)
    with place.mounted("look") as root:
        assert owner(root / "mine") == (1000, 1000)
        assert owner(root / "etc/passwd") == (0, 0)


def test_views_are_seen_so_too(place: Place) -> None:
    for key, parent in (("a", "one"), ("b", "two"), ("none", "")):
        place.make(key, parent, VIEW, LABELS)
        with shown(place, place.how(key)) as root:
            assert owner(root) == (100000, 200000)
            with pytest.raises(OSError, match="Read-only"):
                (root / "new").touch()


def test_one_without_a_parent(place: Place) -> None:
    place.make("alone", "", ACTIVE, LABELS)
    with shown(place, place.how("alone")) as root:
        assert owner(root) == (100000, 200000)
        with root_inside(root):
            Path("f").touch()
        os.chown(root / "f", 100001, 200001)
    with shown(place, place.how("alone")) as root:
        assert owner(root / "f") == (100001, 200001)


def test_a_layer_has_the_ids_of_the_container(place: Place) -> None:
    place.make("c", "two", ACTIVE, LABELS)
    with shown(place, place.how("c")) as root:
        with root_inside(root):
            Path("d").mkdir()
            Path("link").symlink_to("/nowhere")
        os.chown(root / "d", 100005, 200006)
        os.chown(root / "link", 70000, 201000, follow_symlinks=False)
        with (root / "bin/tool").open("a") as file:
            file.write("!")
        capable = struct.pack("<I5I", 0x03000001, NET_BIND, 0, 0, 0, 100000)
        os.setxattr(root / "bin/tool", "security.capability", capable)
    place.make("look", "two", VIEW)
    layer = b"".join(changes([as_message(place.how("look"))], [as_message(place.how("c"))]))
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        found = {entry.name: entry for entry in archive}
    assert (found["d"].uid, found["d"].gid) == (5, 6)
    assert (found["link"].uid, found["link"].gid) == (1000, 1000)
    assert (found["bin/tool"].uid, found["bin/tool"].gid) == (0, 0)
    capability = found["bin/tool"].pax_headers["SCHILY.xattr.security.capability"]
    raw = capability.encode("utf-8", "surrogateescape")
    assert raw == struct.pack("<I4I", 0x02000001, NET_BIND, 0, 0, 0)


def test_what_is_not_there_is_refused(place: Place) -> None:
    place.make("c", "two", ACTIVE, LABELS)
    if place.how("c").type == "overlay":
        with pytest.raises(Unsupported, match="snapshot c is seen with other ids"):
            place.commit("three", "c")
        with pytest.raises(Unsupported, match="mapped ids"):
            target_of([as_message(place.how("c"))])
    else:
        place.commit("three", "c")
    with pytest.raises(InvalidArgument, match="cannot be changed"):
        place.store.set_labels("n", "two", LABELS)


@pytest.mark.parametrize(
    "labels",
    [
        {UID_LABEL: "0:100000:65536"},
        {GID_LABEL: "0:100000:65536"},
        {UID_LABEL: "0:1:x", GID_LABEL: "0:1:1"},
        {UID_LABEL: "1:1:1", GID_LABEL: "0:1:1"},
    ],
)
def test_labels_that_are_none(place: Place, labels: dict[str, str]) -> None:
    before = place.snapshotter.numbers()
    with pytest.raises(InvalidArgument):
        place.make("c", "two", ACTIVE, labels)
    assert place.snapshotter.numbers() == before


def test_older_kernels_take_layers_that_have_places() -> None:
    """The other way to an overlay, which this kernel would not need."""
    with place_of("overlayfs") as place:
        for name in ("low", "lower", "up", "work", "seen"):
            (place.base / name).mkdir()
        (place.base / "low/f").touch()
        (place.base / "lower/g").touch()
        namespace = id_mapped.new_user_namespace("0 7 10\n", "0 8 10\n")
        layers = [
            id_mapped.mapped_tree(f"{place.base}/{name}", namespace) for name in ("low", "lower")
        ]
        target = f"{place.base}/seen"
        options = [f"upperdir={place.base}/up", f"workdir={place.base}/work"]
        mounted = id_mapped._overlay_by_places(layers, options, MOUNT_ATTR_RDONLY, target)
        for fd in (namespace, *layers):
            os.close(fd)
        assert os.listdir(target) == []
        move_mount_to(mounted, target)
        os.close(mounted)
        try:
            assert owner(Path(target, "f")) == owner(Path(target, "g")) == (7, 8)
            with pytest.raises(OSError, match="Read-only"):
                Path(target, "new").touch()
        finally:
            umount2(target)
        namespace = id_mapped.new_user_namespace("0 7 10\n", "0 8 10\n")
        with pytest.raises(OSError, match=r"Invalid|No such"):
            id_mapped.overlay([f"{place.base}/low"], ["workdir=/no"], namespace, 0, target)
        os.close(namespace)
