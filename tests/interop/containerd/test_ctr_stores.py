"""The real `ctr` on our stores: images, content, snapshots, leases, namespaces, containers."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import IMAGE, Node, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def ours() -> Iterator[Node]:
    with node() as it:
        yield it


def lines(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The rows of a table, without its heading."""
    return [line.split() for line in done.stdout.splitlines()[1:]]


def test_version_and_plugins(ours: Node) -> None:
    assert "+barque" in ours.ctr("version").stdout
    plugins = lines(ours.ctr("plugins", "ls"))
    assert ["io.containerd.snapshotter.v1", "overlayfs", "linux/amd64", "ok"] in plugins


def test_namespaces(ours: Node) -> None:
    ours.ctr("namespaces", "create", "foo", "a=b")
    ours.ctr("namespaces", "label", "foo", "x=y")
    assert ["foo", "a=b,x=y"] in lines(ours.ctr("namespaces", "ls"))
    again = ours.ctr("namespaces", "create", "foo", check=False)
    assert 'namespace "foo": already exists' in again.stderr
    ours.ctr("-n", "foo", "snapshots", "prepare", "s")
    held = ours.ctr("namespaces", "rm", "foo", check=False)
    assert "must be empty, but it still has snapshots" in held.stderr
    ours.ctr("-n", "foo", "snapshots", "rm", "s")
    ours.ctr("namespaces", "rm", "foo")
    assert "foo" not in ours.ctr("namespaces", "ls", "-q").stdout.split()


def test_images(ours: Node) -> None:
    ours.ctr("images", "tag", IMAGE, "other:1")
    assert set(ours.ctr("images", "ls", "-q").stdout.split()) >= {IMAGE, "other:1"}
    ours.ctr("images", "label", "other:1", "k=v")
    assert ours.ctr("images", "ls", "-q", "labels.k==v").stdout.split() == ["other:1"]
    checked = ours.ctr("images", "check", f"name=={IMAGE}").stdout
    assert "complete (2/2)" in checked
    again = ours.ctr("images", "tag", IMAGE, "other:1", check=False)
    assert "already exists" in again.stderr
    ours.ctr("images", "rm", "--sync", "other:1")
    assert "other:1" not in ours.ctr("images", "ls", "-q").stdout
    missing = ours.ctr("images", "rm", "other:1", check=False)
    assert "not found" in missing.stderr


def test_an_image_is_exported_as_it_came(ours: Node) -> None:
    out = ours.root / "export.tar"
    ours.ctr("images", "export", str(out), IMAGE)
    with tarfile.open(out) as archive:
        names = set(archive.getnames())
    digests = set(ours.ctr("content", "ls", "-q").stdout.split())
    exported = {f"sha256:{Path(name).name}" for name in names if name.startswith("blobs/sha256/")}
    assert exported & digests
    ours.ctr("-n", "again", "images", "import", str(out))
    assert ours.ctr("-n", "again", "images", "ls", "-q").stdout.split() == [IMAGE]
    ours.ctr("-n", "again", "images", "rm", "--sync", IMAGE)
    assert ours.ctr("-n", "again", "content", "ls", "-q").stdout == ""
    assert ours.ctr("-n", "again", "snapshots", "ls").stdout.splitlines()[1:] == []
    assert digests == set(ours.ctr("content", "ls", "-q").stdout.split())


def test_an_image_is_mounted(ours: Node) -> None:
    place = ours.root / "mnt"
    place.mkdir()
    ours.ctr("images", "mount", IMAGE, str(place))
    try:
        assert (place / "bin/busybox").exists()
    finally:
        ours.ctr("images", "unmount", "--rm", str(place))


def test_content(ours: Node) -> None:
    data = ours.root / "blob"
    data.write_bytes(b"some bytes" * 1000)
    name = subprocess.run(["sha256sum", data], capture_output=True, text=True).stdout.split()[0]
    with data.open("rb") as stdin:
        subprocess.run(
            [
                *("ctr", "-a", ours.address, "-n", "c", "content", "ingest"),
                *("--expected-digest", f"sha256:{name}", "ref"),
            ],
            stdin=stdin,
            check=True,
        )
    got = ours.ctr("-n", "c", "content", "get", f"sha256:{name}").stdout
    assert got == data.read_text()
    ours.ctr("-n", "c", "content", "label", f"sha256:{name}", "a=b")
    assert "a=b" in ours.ctr("-n", "c", "content", "ls").stdout
    assert ours.ctr("-n", "c", "content", "active").stdout.splitlines()[1:] == []
    ours.ctr("-n", "c", "content", "rm", f"sha256:{name}")
    missing = ours.ctr("-n", "c", "content", "get", f"sha256:{name}", check=False)
    assert "not found" in missing.stderr


def test_snapshots(ours: Node) -> None:
    def ctr(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return ours.ctr("-n", "s", "snapshots", *arguments, check=check)

    ctr("prepare", "work")
    ctr("commit", "base", "work")
    ctr("prepare", "top", "base")
    ctr("view", "look", "base")
    assert sorted(map(tuple, lines(ctr("ls")))) == [
        ("base", "Committed"),
        ("look", "base", "View"),
        ("top", "base", "Active"),
    ]
    assert "overlay" in ctr("mounts", "/x", "top").stdout
    assert json.loads(ctr("info", "top").stdout)["Parent"] == "base"
    ctr("label", "top", "a=b")
    assert json.loads(ctr("info", "top").stdout)["Labels"]["a"] == "b"
    assert "base" in [row[0] for row in lines(ctr("usage"))]
    parent = ctr("rm", "base", check=False)
    assert "cannot remove snapshot with child" in parent.stderr
    for key in ("top", "look", "base"):
        ctr("rm", key)
    assert lines(ctr("ls")) == []


def test_leases(ours: Node) -> None:
    ours.ctr("-n", "l", "leases", "create", "--id", "one", "--expires", "1h", "k=v")
    (row,) = lines(ours.ctr("-n", "l", "leases", "ls"))
    assert row[0] == "one"
    assert "k=v" in row[-1]
    ours.ctr("-n", "l", "leases", "rm", "one")
    assert lines(ours.ctr("-n", "l", "leases", "ls")) == []


def test_containers(ours: Node) -> None:
    ours.ctr("containers", "create", "--label", "a=b", IMAGE, "c1", "true")
    try:
        info = json.loads(ours.ctr("containers", "info", "c1").stdout)
        assert (info["Image"], info["SnapshotKey"], info["Snapshotter"]) == (
            *(IMAGE, "c1", "overlayfs"),
        )
        assert info["Spec"]["process"]["args"] == ["true"]
        ours.ctr("containers", "label", "c1", "x=y")
        assert ours.ctr("containers", "ls", "-q", "labels.x==y").stdout.split() == ["c1"]
        again = ours.ctr("containers", "create", IMAGE, "c1", "true", check=False)
        assert "already exists" in again.stderr
    finally:
        ours.ctr("containers", "rm", "c1")
    assert "c1" not in ours.ctr("snapshots", "ls").stdout
    missing = ours.ctr("containers", "info", "c1", check=False)
    assert 'container "c1" in namespace "default": not found' in missing.stderr
