"""Real systems on the way through every tool and back: Debian by debootstrap, and busybox.

The same bytes, told by digests: of the manifest where a tool keeps it, of the config everywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from barque.oci import image as oci
from barque.registry import ANONYMOUS
from tests.interop.engine.test_debian import BUILD_LIMIT_S, CACHE
from tests.support.docker_peer import docker_peer
from tests.support.images import Bench, on
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import Asker, descriptor, digest_of
from tests.support.registry_peer import registry_peer
from tools.busybox_image import rootfs
from tools.debian_image import build

pytestmark = [
    pytest.mark.root,
    pytest.mark.peer,
    pytest.mark.timeout(BUILD_LIMIT_S + 300),  # the system is built first
]

LEFT_OUT = tuple(
    f"./usr/{name}"
    for name in (
        *("share/locale", "share/doc", "share/man", "lib/x86_64-linux-gnu/gconv"),
        *("lib/x86_64-linux-gnu/libicu", "lib/x86_64-linux-gnu/perl"),
    )
)
PIECE_BYTES = 1 << 20
LIMIT_S = 200


@dataclass(frozen=True, slots=True)
class System:
    """An image in our engine, in our registry and in an archive. `id`: digest of its config."""

    name: str
    path: str  # of its repository
    id: str
    digest: str
    archive: Path


def ran(*argv: str, stdin: Path | None = None) -> str:
    with stdin.open("rb") if stdin else open(os.devnull, "rb") as source:
        done = subprocess.run(argv, capture_output=True, timeout=LIMIT_S, stdin=source, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout.decode()


@pytest.fixture(scope="module")
def registry() -> Iterator[OurRegistry]:
    with our_registry() as running:
        yield running


def slim(source: Path, target: Path) -> None:
    """Without what makes the way longer and no richer: half of the bytes, most of the files."""
    with tarfile.open(source) as whole, tarfile.open(target, "w") as made:
        for entry in whole:
            if not entry.name.startswith(LEFT_OUT):
                made.addfile(entry, whole.extractfile(entry) if entry.isreg() else None)


async def file_pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


@pytest.fixture(scope="module", params=["debian", "busybox"])
def system(
    request: pytest.FixtureRequest,
    address: str,
    registry: OurRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> System:
    directory = tmp_path_factory.mktemp("system")
    source, archive = directory / "rootfs.tar", directory / "saved.tar"
    if request.param == "debian":
        slim(build(CACHE), source)
    else:
        source.write_bytes(rootfs())
    path = f"systems/{request.param}"
    name = f"{registry.address}/{path}"
    found: dict[str, str] = {}

    async def body(made: Bench) -> None:
        await made.lines(
            lambda progress: made.images.import_(
                file_pieces(source), name, "1", "", ['CMD ["sh"]'], None, progress
            )
        )
        image = await made.images.resolve(f"{name}:1")
        lines = await made.lines(lambda progress: made.images.push(name, "1", ANONYMOUS, progress))
        found["id"], found["digest"] = image.id, lines[-1]["aux"]["Digest"]
        assert found["digest"] == image.target.digest
        with archive.open("wb") as file:
            async for chunk in await made.images.save([f"{name}:1"]):
                file.write(chunk)

    on(address, body)
    return System(f"{name}:1", path, found["id"], found["digest"], archive)


def loads_here(address: str, archive: Path, id: str) -> None:
    async def body(made: Bench) -> None:
        lines = await made.lines(
            lambda progress: made.images.load(file_pieces(archive), progress, quiet=True)
        )
        assert "Loaded image" in lines[-1]["stream"], lines
        assert [one["Id"] for one in await made.images.list({})] == [id]

    on(address, body)


def pulls_here(address: str, name: str, id: str) -> None:
    async def body(made: Bench) -> None:
        repository, _, tag = name.rpartition(":")
        lines = await made.pull(repository, tag)
        assert "error" not in lines[-1], lines
        assert (await made.images.resolve(name)).id == id

    on(address, body)


def stated(address: str, path: str, tag: str) -> str:
    got = Asker(address).ask(
        "HEAD", f"/v2/{path}/manifests/{tag}", Accept=f"{oci.OCI_MANIFEST}, {oci.DOCKER_MANIFEST}"
    )
    return got.headers["docker-content-digest"]


@pytest.fixture
def short() -> Iterator[Path]:
    """Podman wants roots of fewer than 50 characters."""
    root = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    yield root
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(root)


def storage(root: Path) -> list[str]:
    return ["--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"]


def test_ourselves(address: str, system: System) -> None:
    loads_here(address, system.archive, system.id)
    pulls_here(address, system.name, system.id)


def test_skopeo_and_umoci(address: str, system: System, short: Path) -> None:
    flags = ("--insecure-policy", "--preserve-digests")
    layout, back = f"oci:{short}/layout:1", f"{system.name[:-2]}-skopeo:1"
    plain, dest = "--src-tls-verify=false", "--dest-tls-verify=false"
    ran("skopeo", "copy", *flags, plain, f"docker://{system.name}", layout)
    index = json.loads((short / "layout/index.json").read_bytes())
    assert [one["digest"] for one in index["manifests"]] == [system.digest]
    stat = json.loads(ran("umoci", "stat", "--json", "--image", f"{short}/layout:1"))
    assert stat["history"]
    ran("umoci", "tag", "--image", f"{short}/layout:1", "2")
    ran("skopeo", "copy", *flags, dest, f"oci:{short}/layout:2", f"docker://{back}")
    host, _, path = back.partition("/")
    assert stated(host, path[:-2], "1") == system.digest
    pulls_here(address, back, system.id)
    archive = short / "oci.tar"
    ran("skopeo", "copy", *flags, f"oci:{short}/layout:2", f"oci-archive:{archive}:back:1")
    loads_here(address, archive, system.id)
    ran("umoci", "unpack", "--image", f"{short}/layout:1", f"{short}/bundle")
    names = {entry.name for entry in (short / "bundle/rootfs").iterdir()}
    assert {"bin", "etc", "usr"} <= names


def test_podman(address: str, system: System, short: Path) -> None:
    podman = ("podman", *storage(short))
    ran(*podman, "load", "-q", "-i", str(system.archive))
    assert system.id.removeprefix("sha256:") in ran(*podman, "images", "--no-trunc", "-q")
    saved = short / "podman.tar"
    ran(*podman, "save", "-q", "-o", str(saved), system.name)
    loads_here(address, saved, system.id)
    pushed = f"{system.name[:-2]}-podman:1"
    ran(*podman, "push", "-q", "--tls-verify=false", system.name, pushed)
    pulls_here(address, pushed, system.id)


def test_buildah(address: str, system: System, short: Path) -> None:
    buildah = ("buildah", *storage(short))
    ran(*buildah, "pull", "-q", "--tls-verify=false", system.name)
    pushed = f"{system.name[:-2]}-buildah:1"
    ran(*buildah, "push", "-q", "--tls-verify=false", system.name, f"docker://{pushed}")
    pulls_here(address, pushed, system.id)


def test_docker(address: str, system: System, tmp_path: Path) -> None:
    with docker_peer() as peer:
        environment = ("env", f"DOCKER_HOST={peer.host}", f"DOCKER_CONFIG={peer.root}/config")
        docker = (*environment, peer.cli)
        ran(*docker, "load", "-q", "-i", str(system.archive))
        assert ran(*docker, "image", "inspect", "-f", "{{.Id}}", system.name).strip() == system.id
        saved = tmp_path / "docker.tar"
        ran(*docker, "save", "-o", str(saved), system.name)
    loads_here(address, saved, system.id)


def test_dockers_registry(address: str, system: System) -> None:
    with registry_peer() as peer:
        name = f"{peer.address}/{system.path}"

        async def body(made: Bench) -> None:
            repository, _, tag = system.name.rpartition(":")
            await made.pull(repository, tag)
            await made.images.tag(system.name, name, "1")
            lines = await made.lines(
                lambda progress: made.images.push(name, "1", ANONYMOUS, progress)
            )
            assert lines[-1]["aux"]["Digest"] == system.digest

        on(address, body)
        assert stated(peer.address, system.path, "1") == system.digest
        pulls_here(address, f"{name}:1", system.id)


def test_artifacts_that_are_no_images(address: str, registry: OurRegistry, short: Path) -> None:
    """As oras pushes them: other tools copy them through, and a pull says what they are not."""
    asker, text = Asker(registry.address), b"a file of any kind\n"
    for blob in (b"{}", text):
        asker.upload("arti/fact", blob)
    file = descriptor("text/plain", text)
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [{**file, "annotations": {"org.opencontainers.image.title": "../../x"}}],
    }
    raw = json.dumps(document).encode()
    done = asker.ask("PUT", "/v2/arti/fact/manifests/1", raw, Content_Type=oci.OCI_MANIFEST)
    assert done.status == 201
    flags = ("--insecure-policy", "--preserve-digests", "--src-tls-verify=false")
    name = f"{registry.address}/arti/fact"
    ran("skopeo", "copy", *flags, f"docker://{name}:1", f"oci:{short}/layout:1")
    index = json.loads((short / "layout/index.json").read_bytes())
    assert index["manifests"][0]["digest"] == digest_of(raw)
    flags = ("--insecure-policy", "--preserve-digests", "--dest-tls-verify=false")
    ran("skopeo", "copy", *flags, f"oci:{short}/layout:1", f"docker://{name}:2")
    assert stated(registry.address, "arti/fact", "2") == digest_of(raw)

    async def body(made: Bench) -> None:
        lines = await made.pull(name, "1")
        assert "it is no container image" in lines[-1]["error"]
        assert await made.images.list({}) == []

    on(address, body)
