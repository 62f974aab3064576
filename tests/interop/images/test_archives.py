"""Archives that other tools write load here, and ours load there, with the same digests."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.oci import digest as digests
from tests.support.docker_peer import docker_peer
from tests.support.images import Bench, on, tar
from tools.busybox_image import docker_archive, image_config

pytestmark = [pytest.mark.root, pytest.mark.peer]

LAYER = tar(("etc/hello", b"hello\n"), ("big", bytes(range(256)) * 8192))
ARCHIVE = docker_archive("busybox:latest", LAYER)
ID = digests.sha256(image_config(LAYER))


def skopeo(source: str, target: str) -> None:
    subprocess.run(
        ["skopeo", "copy", "--insecure-policy", source, target],
        check=True,
        capture_output=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def made_here(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `save` writes of the image."""
    path = tmp_path_factory.mktemp("saved") / "ours.tar"

    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        path.write_bytes(await b.save("busybox"))

    on(address, body)
    return path


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes(address: str, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source.tar"
    source.write_bytes(ARCHIVE)
    target = tmp_path / "target"
    name = "docker.io/library/written:1"
    skopeo(f"docker-archive:{source}", f"{kind}:{target}:{name}")
    data = target.read_bytes() if target.is_file() else _tar_of(target)

    async def body(b: Bench) -> None:
        lines = await b.load(data)
        assert lines[-1] == {"stream": "Loaded image: written:1\n"}
        image = await b.images.resolve("written:1")
        assert image.diff_ids == (digests.sha256(LAYER),)
        if kind != "docker-archive":  # which states the manifest itself
            stated = json.loads((_layout(target)).read_bytes())["manifests"][0]["digest"]
            assert image.target.digest == stated

    on(address, body)


def _layout(target: Path) -> Path:
    if target.is_dir():
        return target / "index.json"
    unpacked = target.parent / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "xf", target, "-C", unpacked], check=True)
    return unpacked / "index.json"


def _tar_of(directory: Path) -> bytes:
    return subprocess.run(
        ["tar", "c", "-C", directory, "."], check=True, capture_output=True
    ).stdout


def test_skopeo_reads_what_we_save(made_here: Path, tmp_path: Path) -> None:
    for kind in ("docker-archive", "oci-archive"):
        skopeo(f"{kind}:{made_here}", f"dir:{tmp_path}/{kind}")
        manifest = json.loads((tmp_path / kind / "manifest.json").read_bytes())
        assert manifest["config"]["digest"] == ID


def podman(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            *("podman", "--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"),
            *arguments,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


@pytest.fixture
def short() -> Iterator[Path]:
    """Podman wants roots of fewer than 50 characters."""
    root = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    yield root
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(root)


def test_podman_both_ways(address: str, made_here: Path, short: Path) -> None:
    podman(short, "load", "-i", str(made_here))
    assert ID.removeprefix("sha256:") in podman(short, "images", "--no-trunc", "-q")
    saved = short / "podman.tar"
    podman(short, "save", "-o", str(saved), "docker.io/library/busybox:latest")

    async def body(b: Bench) -> None:
        await b.load(saved.read_bytes())
        assert (await b.images.resolve("busybox")).id == ID

    on(address, body)


def test_docker_both_ways(address: str, made_here: Path) -> None:
    with docker_peer() as peer:
        loaded = peer.docker("load", stdin=made_here.read_bytes()).stdout
        assert b"Loaded image: busybox:latest" in loaded
        inspected = json.loads(peer.docker("image", "inspect", "busybox").stdout)
        assert inspected[0]["Id"] == ID
        peer.docker("tag", "busybox", "again:2")
        saved = peer.docker("save", "busybox", "again:2").stdout

    async def body(b: Bench) -> None:
        lines = await b.load(saved)
        words = {line["stream"] for line in lines if "stream" in line}
        assert words == {"Loaded image: busybox:latest\n", "Loaded image: again:2\n"}
        image = await b.images.resolve("again:2")
        assert image.id == ID
        assert (await b.images.names_of(ID)).tags == ("again:2", "busybox:latest")

    on(address, body)
