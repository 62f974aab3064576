"""Published holes of others, tried on our engine: docs/security.md has the table."""

from __future__ import annotations

import asyncio
import gzip
import json
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backports import zstd

from barque import errors
from barque.cli.logins import registry_auth
from barque.daemon.images import documents
from barque.oci import digest as digests
from barque.oci import image as oci
from tests.support.barque import Stack, stack
from tests.support.containerds import containerd
from tests.support.images import Bench, bench, link, tar
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import Asker
from tests.support.scripted_registry import Asked, response, scripted_image, scripted_registry

pytestmark = [pytest.mark.root, pytest.mark.peer]

HTPASSWD = "someone:$2y$05$T5ezY14PQxOKBDTlfR8I6uMV0wu4j3RohiO7EEvO8cvGlqVoyTFPq\n"  # "secret"
CONTROLS = {
    "containerd.io/restart.status": "running",
    "containerd.io/restart.loguri": "binary:///tmp/never?x=y",
    "containerd.io/restart.policy": "always",
    "io.containerd.image.config.stop-signal": "SIGKILL",
    "io.barque.image.id": "sha256:" + "0" * 64,
    "barque.container": "x",
}


def docker_archive(config: bytes, *layers: bytes, name: str = "hole:1") -> bytes:
    """One whose config is given by its bytes."""
    members = [(f"layer{number}.tar", layer) for number, layer in enumerate(layers)]
    entry = {"Config": "c.json", "RepoTags": [name], "Layers": [name for name, _ in members]}
    return tar(("c.json", config), *members, ("manifest.json", json.dumps([entry]).encode()))


def config(*layers: bytes, **defaults: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digests.sha256(layer) for layer in layers]}
    document = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": defaults}
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurRegistry]:
    users = tmp_path_factory.mktemp("users") / "htpasswd"
    users.write_text(HTPASSWD)
    with our_registry("--htpasswd", str(users)) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Stack]:
    with stack("--debug", "--http-proxy", "http://me:canary-proxy@127.0.0.1:9") as made:
        yield made


def test_secrets_are_in_no_log_event_answer_or_state(
    engine: Stack, registry: OurRegistry, tmp_path: Path
) -> None:
    """CVE-2025-0495, CVE-2019-13509, GHSA-99qr: passwords of registries and of proxies."""
    client = {**os.environ, "DOCKER_HOST": engine.host, "DOCKER_CONFIG": str(tmp_path)}
    name = f"{registry.address}/secret/busybox:1"

    def docker(*words: str, stdin: bytes = b"", check: bool = True) -> bytes:
        done = subprocess.run(
            ["docker", *words], env=client, input=stdin, capture_output=True, check=check
        )
        return done.stdout + done.stderr

    docker("login", "-u", "someone", "--password-stdin", registry.address, stdin=b"secret")
    (tmp_path / "config.json").rename(tmp_path / "kept.json")
    canary = "canary-registry"
    told = [
        docker("login", "-u", "someone", "-p", canary, registry.address, check=False),
        docker("tag", "busybox", name),
    ]
    (tmp_path / "kept.json").rename(tmp_path / "config.json")
    told += [docker("push", name), docker("rmi", name), docker("pull", name)]
    auth = json.dumps({"auths": {registry.address: {"auth": "c29tZW9uZTpjYW5hcnktcmVnaXN0cnk="}}})
    (tmp_path / "config.json").write_text(auth)
    told.append(docker("pull", f"{registry.address}/secret/other:1", check=False))
    told += [docker("info"), docker("system", "events", "--since", "1h", "--until", "0s")]
    words = [b"canary-", b"c29tZW9uZTpjYW5hcnktcmVnaXN0cnk"]
    for text in (*told, engine.log.read_bytes()):
        for word in words:
            assert word not in text
    assert b"xxxxx:xxxxx@127.0.0.1:9" in told[-2]
    for path in (*(engine.root / "d").rglob("*"), *(engine.root / "r").rglob("*")):
        if path.is_file() and "snapshots" not in path.parts and "netns" not in path.parts:
            raw = path.read_bytes()
            assert not any(word in raw for word in words), path


def test_labels_of_an_image_control_nothing(engine: Stack) -> None:
    """CVE-2026-53488: they are the container's labels of the engine, and none of containerd's."""
    layer = subprocess.run(
        ["tar", "c", "-C", "/", "bin/busybox", "--dereference"], capture_output=True, check=True
    ).stdout
    labelled = config(layer, Labels=CONTROLS, Cmd=["/bin/busybox", "sleep", "300"])
    engine.docker("load", stdin=docker_archive(labelled, layer))
    id = engine.docker("run", "-d", "--net=none", "hole:1").stdout.decode().strip()
    seen = json.loads(engine.docker("inspect", "-f", "{{json .Config.Labels}}", id).stdout)
    assert seen == CONTROLS
    socket = engine.root / "r/containerd/containerd.sock"
    ctr = ("ctr", "--address", str(socket), "--namespace", "moby")
    record = subprocess.run(
        [*ctr, "containers", "info", id], capture_output=True, check=True, text=True
    )
    labels = json.loads(record.stdout)["Labels"] or {}
    assert not labels.keys() & CONTROLS.keys()
    shown = json.loads(engine.docker("image", "inspect", "hole:1").stdout)
    assert shown[0]["Id"] == digests.sha256(labelled)
    engine.docker("rm", "-f", id)


def seen_by_others(path: Path) -> bool:
    """Whether an ordinary user of the machine who knows a path gets there."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    return not subprocess.run([*nobody, "stat", str(path)], capture_output=True).returncode


def test_nobody_else_walks_into_containers_and_images(engine: Stack) -> None:
    """CVE-2021-41091, CVE-2021-41103, CVE-2024-25621: what is setuid in there is run by no one."""
    id = (
        engine.docker("run", "-d", "--net=none", "busybox", "sleep", "1000").stdout.decode().strip()
    )
    try:
        bundle = engine.root / "r/containerd/io.containerd.runtime.v2.task/moby" / id
        (found,) = json.loads(engine.docker("inspect", id).stdout)
        layers = found["GraphDriver"]["Data"]["LowerDir"].split(":")
        places = [bundle / "rootfs/bin/busybox", *(Path(layer) / "bin" for layer in layers)]
        assert all(place.exists() for place in places)
        assert not any(seen_by_others(place) for place in places)
    finally:
        engine.docker("rm", "-f", id)


def test_nobody_else_walks_into_a_containerd(address: str) -> None:
    top = Path(address).parent
    top.chmod(0o755)
    assert seen_by_others(top / "root")
    assert not seen_by_others(top / "root/content")


@pytest.mark.parametrize("kind", ["ours", "real"])
def test_layers_that_share_link_names_unpacked_at_once(kind: str) -> None:
    """CVE-2025-47290: many images at a time, whose upper layers write below links of lower ones."""
    place = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    archives = []
    for number in range(6):
        lower = tar(link("out", str(place)), (f"lower{number}", b"x"))
        upper = tar((f"out/canary{number}", b"x"), ("out/same", b"x"))
        again = tar(link("out", str(place)), ("upper", b"x"))
        layers = (lower, upper, again)
        archives.append(docker_archive(config(*layers), *layers, name=f"links:{number}"))

    async def run(where: str) -> None:
        async with bench(where) as made:

            async def load(archive: bytes) -> None:
                try:
                    await made.load(archive)
                except errors.BarqueError:
                    pass  # refused is as good

            await asyncio.gather(*(load(archive) for archive in archives))
            assert list(place.iterdir()) == []

    try:
        with containerd(kind) as where:
            asyncio.run(run(where))
    finally:
        shutil.rmtree(place)


def test_no_program_decompresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CVE-2014-9356, CVE-2014-9357, CVE-2026-41567: whatever lies in PATH."""
    mark = tmp_path / "ran"
    for name in (
        "xz",
        "unxz",
        "unpigz",
        "pigz",
        "gzip",
        "gunzip",
        "zstd",
        "unzstd",
        "bzip2",
        "tar",
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name} >>{mark}\nexit 1\n")
        program.chmod(0o755)
    layer = tar(("etc/word", b"word\n"))
    packers: dict[str, Callable[[bytes], bytes]] = {
        "xz": lzma.compress,
        "gzip": gzip.compress,
        "zstd": zstd.compress,
    }

    async def run(where: str) -> None:
        async with bench(where) as made:
            for kind, pack in packers.items():
                await made.import_(pack(layer), kind, "1")
                archive = docker_archive(config(layer), layer, name=f"{kind}:2")
                await made.load(pack(archive))
                assert await made.images.resolve(f"{kind}:1")
                assert await made.images.resolve(f"{kind}:2")

    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with containerd("ours") as where:
            asyncio.run(run(where))
    assert not mark.exists()


def test_a_config_is_bounded(address: str) -> None:
    """CVE-2023-25153: one beyond any sense is refused by its size, wherever it comes from."""
    huge = config() + b" " * documents.MAX_CONFIG_BYTES

    async def load(made: Bench) -> None:
        lines = await made.load(docker_archive(huge))
        assert "too large" in lines[-1]["error"]
        assert await made.images.list({}) == []

    async def pull(made: Bench) -> None:
        claims = json.loads(scripted_image(tar(("a", b"a"))).manifest)
        claims["config"]["size"] = 10 << 30
        raw = json.dumps(claims).encode()

        def answer(asked: Asked) -> bytes:
            return response(200, raw, {"Content-Type": oci.OCI_MANIFEST})

        async with scripted_registry(answer) as lying:
            lines = await made.pull(f"{lying.address}/a", "1")
            assert "is larger than" in lines[-1]["error"]
            assert not any("/blobs/" in one.target for one in lying.asked)

    async def run() -> None:
        async with bench(address) as made:
            await load(made)
            await pull(made)

    asyncio.run(run())


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b'{"rootfs": null}',
        b'{"rootfs": {"diff_ids": null}, "history": null, "config": null}',
        b'{"rootfs": {"diff_ids": []}, "history": [null, 1, {"created": 5}]}',
        b'{"config": {"Labels": [], "Env": {}, "Cmd": 3, "Volumes": 7, "ExposedPorts": []}}',
        b'{"os": 5}',
        b"[" * 50_000,
    ],
)
def test_documents_with_nothing_in_them(address: str, raw: bytes) -> None:
    """CVE-2021-21285, CVE-2024-36620: refused, or listed, described and removed."""

    async def run() -> None:
        async with bench(address) as made:
            try:
                await made.load(docker_archive(raw))
            except errors.BarqueError:
                return
            for one in await made.images.list({}):
                await made.images.inspect(one["Id"], (1, 44))
                await made.images.history(one["Id"])
                await made.images.remove(one["Id"], force=True)

    asyncio.run(run())


@pytest.mark.parametrize("word", ["exit 1", "echo oops; exit 1", "echo not json", "kill -9 $$"])
def test_a_broken_credential_helper_gives_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """CVE-2021-41092: what it should know is sent to nobody, nor anything else in its place."""
    helper = tmp_path / "docker-credential-broken"
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\n{word}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    kept = {"auth": "c29tZW9uZTpjYW5hcnk="}
    settings = {
        "credHelpers": {"private.example": "broken"},
        "auths": {"https://index.docker.io/v1/": kept, "private.example": kept},
    }
    assert registry_auth(settings, "private.example") == ""
    for registry in ("private.example", "docker.io"):
        assert registry_auth({**settings, "credsStore": "broken"}, registry) == ""


def test_a_member_that_is_a_link_to_a_file_of_the_host(address: str, tmp_path: Path) -> None:
    """CVE-2014-9358: the config, a layer or the manifest of an archive as a link outwards."""
    secret = tmp_path / "secret"
    layer = tar(("a", b"a"))
    secret.write_bytes(layer)
    entry = {"Config": "c.json", "RepoTags": ["hole:1"], "Layers": ["l.tar"]}
    manifest = ("manifest.json", json.dumps([entry]).encode())
    for target in (str(secret), f"../../../../../..{secret}"):
        archive = tar(("c.json", config(layer)), link("l.tar", target), manifest)

        async def run(archive: bytes = archive) -> None:
            async with bench(address) as made:
                with pytest.raises(errors.BarqueError, match="missing"):
                    await made.load(archive)

        asyncio.run(run())


def test_a_deleted_blob_is_not_read_again_through_a_cache(tmp_path: Path) -> None:
    """CVE-2026-35172, at a cache: what the cache gave up it asks for again, by its right name."""
    with our_registry() as origin, our_registry("--cache-of", f"http://{origin.address}") as cache:
        digest = Asker(origin.address).upload("some/where", b"blob")
        asker = Asker(cache.address)
        assert asker.ask("GET", f"/v2/some/where/blobs/{digest}").body == b"blob"
        assert asker.ask("GET", f"/v2/other/one/blobs/{digest}").status == 404
