"""What a sandbox's first process is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barque.errors import InvalidArgument
from barque.shim import pods


def described(
    bundle: Path, spec: dict[str, Any] | None = None, **more: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if spec is not None:
        (bundle / "config.json").write_text(json.dumps(spec))
    request = {"sandbox_id": "pod", "rootfs": [], "netns_path": "", "annotations": {}, **more}
    data, mounts, pauses = pods.described(str(bundle), "space", request)
    parsed = json.loads(data)
    assert pauses == (parsed["process"]["args"] == ["/pause"])
    return parsed, mounts


def test_without_a_spec(tmp_path: Path) -> None:
    spec, mounts = described(tmp_path)
    assert spec["process"]["args"] == ["/pause"]
    assert spec["root"] == {"path": "rootfs", "readonly": True}
    assert spec["linux"]["cgroupsPath"] == "/space/pod"
    kinds = [one["type"] for one in spec["linux"]["namespaces"]]
    assert kinds == ["pid", "ipc", "uts", "mount", "network"]
    assert [mount["source"] for mount in mounts] == [str(tmp_path / "pause-root")]
    assert (tmp_path / "pause-root/pause").read_bytes().startswith(b"\x7fELF")


def test_what_a_spec_says_stays(tmp_path: Path) -> None:
    given = {
        "hostname": "h",
        "process": {"cwd": "/x", "user": {"uid": 7, "gid": 8}, "args": []},
        "mounts": [],
        "linux": {"namespaces": [{"type": "ipc"}], "sysctl": {"kernel.shm_rmid_forced": "1"}},
    }
    spec, _ = described(tmp_path, given)
    assert spec["linux"] == given["linux"]
    assert (spec["hostname"], spec["mounts"]) == ("h", [])
    assert spec["process"]["user"] == {"uid": 7, "gid": 8}
    assert (spec["process"]["cwd"], spec["process"]["args"]) == ("/x", ["/pause"])


def test_the_given_network_replaces_the_specs(tmp_path: Path) -> None:
    given = {"linux": {"namespaces": [{"type": "network"}, {"type": "ipc"}]}}
    spec, _ = described(tmp_path, given, netns_path="/run/netns/x")
    assert spec["linux"]["namespaces"] == [
        {"type": "ipc"},
        {"type": "network", "path": "/run/netns/x"},
    ]


def test_a_program_keeps_its_rootfs(tmp_path: Path) -> None:
    root = {"type": "bind", "source": "/r", "target": "", "options": []}
    given: dict[str, Any] = {"process": {"args": ["/init"]}, "root": {"path": "rootfs"}}
    spec, mounts = described(tmp_path, given, rootfs=[root], annotations={"a": "b"})
    assert (spec["process"], mounts) == ({"args": ["/init"]}, [root])
    assert spec["annotations"] == {"a": "b"}
    given["root"]["path"] = "/a/root/elsewhere"
    assert described(tmp_path, given)[1] == []


@pytest.mark.parametrize(
    ("spec", "more", "reason"),
    [
        ([], {}, "not a JSON object"),
        ({"process": "x"}, {}, "not an object"),
        ({"process": {"args": ["/init"]}}, {}, "there is no rootfs"),
        ({}, {"rootfs": [{"type": "bind"}]}, "names no program"),
        ({"linux": {}}, {"netns_path": "/n"}, "no namespaces"),
        ({"linux": {"namespaces": [7]}}, {"netns_path": "/n"}, "no namespaces"),
    ],
)
def test_what_makes_no_sandbox(
    tmp_path: Path, spec: Any, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"sandbox pod: .*{reason}"):
        described(tmp_path, spec, **more)
