"""What is asked of a list of mounts."""

from __future__ import annotations

import pytest

from barque.containerd.mounts import plan
from barque.containerd.proto.types_pb2 import ActiveMount, Mount
from barque.errors import InvalidArgument, Unsupported

ACTIVE = [
    ActiveMount(mount=Mount(source=f"/s/{n}", target=f"/t/{n}"), mount_point=f"/m/{n}")
    for n in range(3)
]


@pytest.mark.parametrize(
    ("kind", "transforms", "left"),
    [
        ("overlay", [], "overlay"),
        ("format/overlay", ["format"], "overlay"),
        ("mkdir/format/overlay", ["mkdir", "format"], "overlay"),
        ("fuse/format/x", [], "fuse/format/x"),
    ],
)
def test_types(kind: str, transforms: list[str], left: str) -> None:
    assert plan.split(kind) == (transforms, left)


@pytest.mark.parametrize("kind", ["mkfs/loop", "format/mkfs/ext4", "loop", "mkdir/loop"])
def test_what_is_not_there_is_named(kind: str) -> None:
    with pytest.raises(Unsupported, match=r"mkfs|loop"):
        plan.split(kind)


def test_who_makes_what() -> None:
    plain, changed = Mount(type="bind"), Mount(type="format/overlay")
    assert plan.made_here([plain, changed], False) == 1
    assert plan.made_here([plain, changed, plain, changed, plain], False) == 3
    assert plan.made_here([changed, plain], False) == 0
    assert plan.made_here([plain, plain], True) == 2
    with pytest.raises(Unsupported, match="not implemented"):
        plan.made_here([plain], False)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{ source 0 }}", "/s/0"),
        ("a={{target 1}},b={{ mount  2 }}", "a=/t/1,b=/m/2"),
        ("lowerdir={{ overlay 0 2 }}", "lowerdir=/m/0:/m/1:/m/2"),
        ("{{ overlay 2 1 }}", "/m/2:/m/1"),
        ("{ mount 0 }", "{ mount 0 }"),
    ],
)
def test_templates(text: str, filled: str) -> None:
    given = Mount(type="x", source=text, target=text, options=[text, "ro"])
    expected = Mount(type="x", source=filled, target=filled, options=[filled, "ro"])
    assert plan.formatted(given, ACTIVE) == expected


@pytest.mark.parametrize(
    "text",
    ["{{}}", "{{ mount }}", "{{ mount 3 }}", "{{ mount -1 }}", "{{ overlay 0 }}", "{{ env 0 }}"],
)
def test_templates_that_mean_nothing(text: str) -> None:
    with pytest.raises(InvalidArgument, match="template"):
        plan.formatted(Mount(source=text), ACTIVE)


def test_directories() -> None:
    path = "X-containerd.mkdir.path="
    given = Mount(options=["ro", f"{path}/a", f"{path}/b:0755", f"{path}/c:0711:1:2"])
    made, rest = plan.directories(given)
    assert made == [
        plan.Directory("/a", 0o700, None),
        plan.Directory("/b", 0o755, None),
        plan.Directory("/c", 0o711, (1, 2)),
    ]
    assert list(rest.options) == ["ro"]


@pytest.mark.parametrize(
    "option",
    [
        *("path=", "path=a", "path=/a:", "path=/a:8", "path=/a:01777", "path=/a:0700:1"),
        *("path=/a:0700:x:1", "path=/a:0700:-1:1", f"path=/a:0700:1:{1 << 31}", "size=1", "path"),
    ],
)
def test_directories_that_cannot_be(option: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid mkdir option"):
        plan.directories(Mount(options=[f"X-containerd.mkdir.{option}"]))
