"""Which mounts a request means. Attacks: CVE-2015-3630, CVE-2019-16884."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.daemon.containers import mounts
from barque.daemon.containers.documents import Config, HostConfig, parse
from barque.daemon.containers.record import MountPoint


def plan(
    host: dict[str, object] | None = None,
    volumes: list[str] | None = None,
    others: dict[str, list[MountPoint]] | None = None,
    existing: tuple[str, ...] = ("/src",),
) -> list[MountPoint]:
    numbers = count(1)
    return mounts.plan(
        Config(volumes={path: {} for path in volumes or ()}),
        parse(HostConfig, host or {}),
        new_volume=lambda: f"anon{next(numbers)}",
        exists=lambda path: path in existing,
        mounts_of=lambda name: (others or {})[name],
    )


def one(bind: str) -> MountPoint:
    (point,) = plan({"Binds": [bind]})
    return point


def test_a_bind() -> None:
    point = one("/src/../src/:/dst/:ro,z,rslave")
    assert (point.type, point.source, point.destination) == ("bind", "/src", "/dst")
    assert (point.rw, point.propagation, point.mode) == (False, "rslave", "ro,z,rslave")
    assert point.create_source


def test_a_named_and_an_anonymous_volume() -> None:
    named = one("data:/d")
    assert (named.type, named.name, named.copy_up, named.anonymous) == (
        "volume",
        "data",
        True,
        False,
    )
    assert not one("data:/d:nocopy").copy_up
    (anonymous,) = plan(volumes=["/d"])
    assert (anonymous.name, anonymous.anonymous) == ("anon1", True)


def test_what_is_asked_for_wins_over_what_the_image_declares() -> None:
    (point,) = plan({"Binds": ["/src:/d"]}, volumes=["/d/"])
    assert point.type == "bind"


def test_depth_decides_the_order() -> None:
    found = plan({"Binds": ["/src:/a/b/c", "/src:/a"], "Tmpfs": {"/a/b": ""}})
    assert [point.destination for point in found] == ["/a", "/a/b", "/a/b/c"]


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        ("", "invalid volume specification: ''"),
        (":/x", "invalid volume specification"),
        ("/a:/b:ro:x", "invalid volume specification"),
        ("/a:ro", "invalid volume specification"),
        ("/a:/b:nope", "invalid mode: nope"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:nocopy", "invalid mode: nocopy"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/x/..", "destination can't be '/'"),
        ("../a:/b", "includes invalid characters for a local volume name"),
        ("a/b:/b", "includes invalid characters"),
        ("data:/proc", "inside /proc"),
        ("data:/proc/sys", "inside /proc"),
        ("/src:/proc", "inside /proc"),
        ("/src:/x/../proc/self/attr", "inside /proc"),
        ("/src://proc//sysrq-trigger", "inside /proc"),
        ("/a:/b\n", "invalid mount path"),
    ],
)  # fmt: skip
def test_binds_that_are_refused(bind: str, text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refusal:
        one(bind)
    assert text in str(refusal.value)


def test_an_image_that_declares_a_volume_on_proc() -> None:
    with pytest.raises(errors.InvalidArgument, match="inside /proc"):
        plan(volumes=["/proc"])


def test_what_may_be_mounted_in_proc() -> None:
    assert one("/src:/proc/cpuinfo").destination == "/proc/cpuinfo"
    assert one("/proc:/proc").source == "/proc"
    assert one("/src:/process").destination == "/process"


def test_the_same_place_twice() -> None:
    with pytest.raises(errors.InvalidArgument, match="Duplicate mount point: /d"):
        plan({"Binds": ["/src:/d", "x1:/d/"]})
    with pytest.raises(errors.InvalidArgument, match="Duplicate mount point: /d"):
        plan({"Binds": ["/src:/d"], "Tmpfs": {"/d": ""}})


def mount(**fields: object) -> MountPoint:
    (point,) = plan({"Mounts": [fields]})
    return point


def test_mounts_by_type() -> None:
    bind = mount(Type="bind", Source="/src", Target="/d", ReadOnly=True,
                 BindOptions={"NonRecursive": True, "Propagation": "shared"})  # fmt: skip
    assert (bind.rw, bind.recursive, bind.propagation) == (False, False, "shared")
    assert not bind.create_source
    volume = mount(Type="volume", Target="/d", VolumeOptions={"NoCopy": True})
    assert (volume.name, volume.anonymous, volume.copy_up) == ("anon1", True, False)
    tmpfs = mount(Type="tmpfs", Target="/d", TmpfsOptions={"SizeBytes": 4096, "Mode": 0o1777})
    assert tmpfs.tmpfs_options == ["noexec", "nosuid", "nodev", "mode=1777", "size=4096"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Type": "bind", "Source": "/nope", "Target": "/d"}, "bind source path does not exist"),
        ({"Type": "bind", "Target": "/d"}, "field Source must not be empty"),
        ({"Type": "bind", "Source": "x", "Target": "/d"}, "mount path must be absolute"),
        ({"Type": "bind", "Source": "/src"}, "field Target must not be empty"),
        ({"Type": "tmpfs", "Source": "/s", "Target": "/d"}, "field Source must not be specified"),
        ({"Type": "tmpfs", "Target": "/d", "BindOptions": {}}, "BindOptions must not be specified"),
        ({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"Options": [["evil=1"]]}}, "evil"),
        ({"Type": "nope", "Target": "/d"}, "mount type unknown"),
    ],
)  # fmt: skip
def test_mounts_that_are_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refusal:
        mount(**fields)
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"Type": "npipe", "Source": "x", "Target": "/d"},
        {"Type": "cluster", "Source": "x", "Target": "/d"},
    ],
)
def test_what_is_not_there_yet_says_so(fields: dict[str, object]) -> None:
    with pytest.raises(errors.Unsupported, match="not there yet"):
        mount(**fields)


def test_an_image_is_read_only_and_its_part_stays_below() -> None:
    point = mount(Type="image", Source="busybox:1", Target="/d", ImageOptions={"Subpath": "a/b"})
    assert (point.type, point.name, point.rw, point.subpath) == ("image", "busybox:1", False, "a/b")
    with pytest.raises(errors.InvalidArgument, match="relative path within the image"):
        mount(Type="image", Source="x", Target="/d", ImageOptions={"Subpath": "../up"})


def test_tmpfs_options_replace_their_opposites() -> None:
    (point,) = plan({"Tmpfs": {"/t": "exec,size=1m,ro,mode=700,size=2m"}})
    assert point.tmpfs_options == ["nosuid", "nodev", "exec", "ro", "mode=700", "size=2m"]
    assert not point.rw
    with pytest.raises(errors.InvalidArgument, match="invalid tmpfs option"):
        plan({"Tmpfs": {"/t": "suid=1"}})


def test_volumes_from_another() -> None:
    theirs = [MountPoint(type="volume", destination="/d", name="v1", copy_up=True, anonymous=True)]
    (point,) = plan({"VolumesFrom": ["other:ro"]}, others={"other": theirs})
    assert (point.name, point.rw, point.copy_up, point.anonymous) == ("v1", False, False, True)
    assert theirs[0].rw
    (point,) = plan({"VolumesFrom": ["other"], "Binds": ["/src:/d"]}, others={"other": theirs})
    assert point.type == "bind"


@given(st.text(max_size=20))
def test_any_bind_is_taken_or_refused(text: str) -> None:
    try:
        point = one(text)
    except errors.BarqueError:
        return
    assert point.destination.startswith("/")
    assert ".." not in point.destination.split("/")
