"""Images looked at closely: verified and repaired, shown by layers, compared, by platforms."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.containerd.client.descriptors import Descriptor as Target
from barque.containerd.client.images import Image
from barque.containerd.client.leases import CONTENT, Resource
from barque.daemon.images import documents
from barque.daemon.images.containerd_store import ContainerdStore
from barque.oci import image as oci
from barque.oci.image import Descriptor
from barque.registry import ANONYMOUS
from tests.support.barque import Stack, stack
from tests.support.containerds import containerd
from tests.support.images import Bench, on, tar
from tests.support.our_registry import our_registry
from tests.support.scripted_registry import (
    Asked,
    response,
    scripted_image,
    scripted_registry,
    sha256,
)
from tools.busybox_image import docker_archive

pytestmark = [pytest.mark.root, pytest.mark.peer]

LAYER = tar(("etc/hello", b"hello\n"), ("big", os.urandom(3 << 20)))


@pytest.fixture(scope="module", params=["ours", "real"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with containerd(request.param) as running:
        yield running


async def verified(b: Bench, name: str, *, repair: bool = False) -> dict[str, Any]:
    lines = await b.lines(
        lambda progress: b.images.verify(name, progress, repair=repair, credentials=ANONYMOUS)
    )
    report: dict[str, Any] = lines[-1]["aux"]
    return report


async def blobs(b: Bench, name: str) -> dict[str, str]:
    """Digests of a one-layer image by what they are."""
    image = await b.images.resolve(name)
    raw = await b.containerd.content.read_all(image.manifest)
    manifest = oci.parse(raw)
    assert isinstance(manifest, oci.Manifest)
    return {
        "manifest": image.manifest,
        "config": manifest.config.digest,
        "layer": manifest.layers[0].digest,
    }


async def drop(b: Bench, digest: str) -> None:
    await b.containerd.content.delete(digest)


@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
def test_a_missing_part_is_told_and_fetched_again(address: str, kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "hello.tar"
    archive.write_bytes(docker_archive("hello:latest", LAYER))
    with our_registry() as registry:
        registry.push(f"docker-archive:{archive}", "a/hello:1")
        name = f"{registry.address}/a/hello:1"

        async def body(b: Bench) -> None:
            await b.pull(f"{registry.address}/a/hello", "1")
            sound = await verified(b, name)
            assert sound["Checked"] == 3
            assert sound["Corrupt"] == sound["Missing"] == sound["Repaired"] == []
            digest = (await blobs(b, name))[kind]
            lease = await b.containerd.leases.create()  # the others would be collected
            held = b.containerd.with_lease(lease.id)
            for other in (await blobs(b, name)).values():
                if other != digest:
                    await held.leases.add(lease.id, Resource(CONTENT, other))
            await drop(b, digest)
            assert (await verified(b, name))["Missing"] == [digest]
            report = await verified(b, name, repair=True)
            assert (report["Repaired"], report["Missing"]) == ([digest], [])
            await b.containerd.leases.delete(lease.id, sync=True)
            assert (await verified(b, name))["Missing"] == []
            assert await b.save(name)

        on(address, body)


def test_a_part_that_no_registry_has_stays_in_the_report(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(docker_archive("127.0.0.1:1/lost:1", LAYER))
        layer = (await blobs(b, "127.0.0.1:1/lost:1"))["layer"]
        await drop(b, layer)
        report = await verified(b, "127.0.0.1:1/lost:1", repair=True)
        assert (report["Missing"], report["Repaired"]) == ([layer], [])

    on(address, body)


def test_layers_shown_and_images_compared(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.import_(tar(("a", b"1"), ("b", b"22")), "one", "1")
        await b.import_(tar(("a", b"1"), ("c", b"333")), "two", "1")
        shown = await b.images.show("one:1", entries=True)
        (layer,) = shown["Layers"]
        assert (layer["Added"], layer["Size"], layer["Wasted"]) == (2, 3, 0)
        assert [entry["Path"] for entry in layer["Entries"]] == ["/a", "/b"]
        assert shown["Efficiency"] == 1.0
        found = await b.images.diff("one:1", "two:1")
        assert found["Entries"] == [
            {"Change": "removed", "Path": "/b", "Before": 2, "After": 0},
            {"Change": "added", "Path": "/c", "Before": 0, "After": 3},
        ]
        assert (await b.images.diff("one:1", "one:1"))["Total"] == 0

    on(address, body)


def test_manifests_of_an_index_and_one_that_leads_to_itself_by_depth(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.import_(tar(("a", b"1")), "one", "1")
        image = await b.images.resolve("one:1")
        attestation = {
            "mediaType": oci.OCI_MANIFEST,
            "digest": sha256(b"elsewhere"),
            "size": 9,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": image.manifest,
            },
        }
        arm = {**attestation, "platform": {"os": "linux", "architecture": "arm64"}}
        del arm["annotations"]
        inner: dict[str, Any] = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX}
        own = {**image.target.document(), "platform": {"os": "linux", "architecture": "amd64"}}
        inner["manifests"] = [own, attestation, arm]
        lease = await b.containerd.leases.create()
        content = b.containerd.with_lease(lease.id).content

        async def put(document: dict[str, Any]) -> dict[str, Any]:
            raw = json.dumps(document).encode()
            listed = document["manifests"]
            labels = {
                f"containerd.io/gc.ref.content.{n}": e["digest"] for n, e in enumerate(listed)
            }
            await content.put(f"x-{sha256(raw)}", raw, sha256(raw), labels)
            return {"mediaType": oci.OCI_INDEX, "digest": sha256(raw), "size": len(raw)}

        outer = await put(inner)
        for depth in range(8):
            outer = await put({**inner, "manifests": [outer]})
            if depth == 1:
                await _name(b, "docker.io/library/nested:1", outer)
        deep = Descriptor(oci.OCI_INDEX, outer["digest"], outer["size"])
        with pytest.raises(errors.InvalidArgument, match="nested too deeply"):
            await documents.leaves(ContainerdStore(b.containerd), deep)
        await b.containerd.leases.delete(lease.id)
        found = await _when_known(b, "nested:1")
        assert [(one["Kind"], one["Available"]) for one in found] == [
            ("image", True),
            ("attestation", False),
            ("image", False),
        ]
        assert found[0]["ID"] == image.manifest == found[1]["AttestationData"]["For"]
        assert found[0]["Size"]["Total"] > found[0]["Size"]["Content"] > 0
        assert found[2]["ImageData"]["Platform"] == {"os": "linux", "architecture": "arm64"}

    on(address, body)


async def _when_known(b: Bench, name: str) -> list[dict[str, Any]]:
    """The daemon follows what others do; it may take a moment."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await b.images.manifests(name)
            except errors.NotFound:
                await asyncio.sleep(0.02)


async def _name(b: Bench, name: str, target: dict[str, Any]) -> None:
    await b.containerd.images.put(
        Image(name, Target(target["mediaType"], target["digest"], target["size"]), {})
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[Stack]:
    with stack() as made:
        yield made


def test_a_corrupt_layer_on_the_disk(engine: Stack, tmp_path: Path) -> None:
    archive = tmp_path / "hello.tar"
    archive.write_bytes(docker_archive("hello:latest", LAYER))
    with our_registry() as registry:
        registry.push(f"docker-archive:{archive}", "a/hello:1")
        name = f"{registry.address}/a/hello:1"
        engine.cli("pull", "-q", name)
        assert "all sound" in engine.cli("image", "verify", name).stdout.decode()
        blob = max(engine.root.glob("d/containerd/content/blobs/sha256/*"), key=_size_of_hello)
        damaged = bytearray(blob.read_bytes())
        damaged[1000] ^= 1
        blob.write_bytes(damaged)
        told = engine.cli("image", "verify", "-q", name, check=False)
        assert told.returncode == 1
        assert f"corrupt: sha256:{blob.name}" in told.stderr.decode()
        assert "1 repaired" in engine.cli("image", "verify", "--repair", name).stdout.decode()
        assert "all sound" in engine.cli("image", "verify", name).stdout.decode()
        engine.cli("rmi", name)


def _size_of_hello(path: Path) -> tuple[bool, int]:
    size = path.stat().st_size
    return (2 << 20) < size < (4 << 20), size


def test_the_tree_of_images(engine: Stack) -> None:
    ours = engine.cli("images", "--tree").stdout.decode()
    assert ours.splitlines()[0].split() == [
        *("IMAGE", "ID", "DISK", "USAGE", "CONTENT", "SIZE", "EXTRA")
    ]
    assert "busybox:latest" in ours
    assert "└─ linux/amd64" in ours
    theirs = engine.docker("images", "--tree").stdout.decode()
    assert "busybox:latest" in theirs
    assert "linux/amd64" in theirs
    refused = engine.cli("images", "--tree", "-q", check=False)
    assert refused.returncode == 1
    assert b"--tree cannot be used with --quiet" in refused.stderr


def test_show_and_diff_on_the_command_line(engine: Stack) -> None:
    engine.cli("run", "--net=none", "--name", "changes", "busybox", "sh", "-c", "echo 1 >/new")
    engine.cli("commit", "changes", "changed:1")
    engine.cli("rm", "changes")
    shown = engine.cli("image", "show", "--files", "changed:1").stdout.decode()
    assert "A       2B /new" in shown
    assert "in 2 layers" in shown
    told = engine.cli("image", "diff", "busybox", "changed:1").stdout.decode().splitlines()
    assert "A /new" in told
    assert all(not line.startswith("D ") for line in told)
    assert engine.cli("image", "diff", "-q", "busybox", "changed:1", check=False).returncode == 1
    assert engine.cli("image", "diff", "-q", "busybox", "busybox").returncode == 0
    engine.cli("rmi", "changed:1")


def test_umoci_unpacks_what_is_shown(engine: Stack, tmp_path: Path) -> None:
    """The names that our layers make are those that another program's unpacking has."""
    engine.cli("save", "-o", str(tmp_path / "b.tar"), "busybox")
    subprocess.run(
        [
            *("skopeo", "copy", "--insecure-policy", f"docker-archive:{tmp_path}/b.tar"),
            f"oci:{tmp_path}/layout:1",
        ],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["umoci", "raw", "unpack", "--image", f"{tmp_path}/layout:1", f"{tmp_path}/root"],
        check=True,
        capture_output=True,
    )
    shown = json.loads(engine.cli("image", "show", "--files", "--format", "json", "busybox").stdout)
    unpacked = {
        "/" + str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*")
    }
    assert {entry["Path"] for entry in shown["Layers"][0]["Entries"]} == unpacked


@pytest.mark.parametrize("depth", [0, 1, 3, 6])
def test_a_pull_through_indexes_in_indexes(address: str, depth: int) -> None:
    image = scripted_image(LAYER)
    found = {sha256(image.manifest): (oci.OCI_MANIFEST, image.manifest)}
    entry: dict[str, Any] = {
        "mediaType": oci.OCI_MANIFEST,
        "digest": sha256(image.manifest),
        "size": len(image.manifest),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    raw = b""
    for _ in range(depth + 1):
        document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [entry]}
        raw = json.dumps(document).encode()
        found[sha256(raw)] = oci.OCI_INDEX, raw
        entry = {"mediaType": oci.OCI_INDEX, "digest": sha256(raw), "size": len(raw)}

    def answer(asked: Asked) -> bytes:
        if "/manifests/" not in asked.path:
            return image.answer(asked)
        kind, data = found.get(asked.path.rpartition("/")[2], (oci.OCI_INDEX, raw))
        return response(200, data, {"Content-Type": kind})

    async def body(b: Bench) -> None:
        async with scripted_registry(answer) as registry:
            if depth > 3:
                with pytest.raises(errors.InvalidArgument, match="nested too deeply"):
                    await b.pull(f"{registry.address}/nested", "1")
                return
            await b.pull(f"{registry.address}/nested", "1")
            resolved = await b.images.resolve(f"{registry.address}/nested:1")
            assert resolved.target.digest == sha256(raw)
            assert resolved.manifest == sha256(image.manifest)
            assert (await verified(b, f"{registry.address}/nested:1"))["Checked"] == depth + 4

    on(address, body)
