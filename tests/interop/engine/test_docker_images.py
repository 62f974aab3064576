"""The real docker CLI and the docker SDK on the images of our daemon."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker  # type: ignore[import-untyped]
import docker.errors  # type: ignore[import-untyped]
import pytest

from barque.oci import digest as digests
from tests.support.barque import Stack
from tests.support.docker_peer import docker_peer, real_docker_cli
from tests.support.images import tar
from tests.support.registry_peer import RegistryPeer, registry_peer
from tools.busybox_image import docker_archive, rootfs

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryPeer]:
    with registry_peer() as peer:
        yield peer


@pytest.fixture
def loaded(barque: Stack) -> Iterator[str]:
    """An image for one test."""
    barque.docker("load", stdin=docker_archive("loaded:1", rootfs()))
    yield "loaded:1"
    for name in ("loaded:1", "again:2"):
        barque.docker("rmi", "-f", name, check=False)


def images(barque: Stack, *arguments: str) -> list[str]:
    template = ["--format", "{{.Repository}}:{{.Tag}}"]
    return barque.docker("images", *template, *arguments).stdout.decode().split()


def test_load_tag_list_and_remove(barque: Stack, loaded: str) -> None:
    barque.docker("tag", loaded, "again:2")
    assert {"loaded:1", "again:2"} <= set(images(barque))
    assert images(barque, "-f", "reference=again") == ["again:2"]
    removed = barque.docker("rmi", "again:2").stdout
    assert removed == b"Untagged: again:2\n"
    lines = barque.docker("rmi", loaded).stdout.decode().splitlines()
    assert lines[0] == "Untagged: loaded:1"
    assert lines[1].startswith("Deleted: sha256:")
    missing = barque.docker("rmi", loaded, check=False)
    assert missing.returncode == 1
    assert missing.stderr.strip().endswith(b"No such image: loaded:1")


def test_a_compressed_archive_from_standard_input(barque: Stack) -> None:
    done = barque.docker("load", "-q", stdin=gzip.compress(docker_archive("zipped:1", rootfs())))
    assert done.stdout == b"Loaded image: zipped:1\n"
    assert barque.docker("run", "--rm", "zipped:1", "echo", "hi").stdout == b"hi\n"
    barque.docker("rmi", "zipped:1")


def test_save_to_a_file_and_load_it_again(barque: Stack, loaded: str, tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    barque.docker("tag", loaded, "again:2")
    barque.docker("save", "-o", str(path), loaded, "again:2")
    id_before = barque.docker("inspect", "-f", "{{.Id}}", loaded).stdout
    barque.docker("rmi", loaded, "again:2")
    out = barque.docker("load", "-i", str(path)).stdout.decode().splitlines()
    assert sorted(out) == ["Loaded image: again:2", "Loaded image: loaded:1"]
    assert barque.docker("inspect", "-f", "{{.Id}}", "again:2").stdout == id_before


def test_import_from_standard_input(barque: Stack) -> None:
    changes = ["-c", 'ENTRYPOINT ["/bin/echo", "hello"]', "-c", "LABEL kind=test", "-m", "mine"]
    done = barque.docker("import", *changes, "-", "imported:1", stdin=rootfs())
    image_id = done.stdout.decode().strip()
    assert image_id.startswith("sha256:")
    assert barque.docker("run", "--rm", "imported:1", "you").stdout == b"hello you\n"
    assert images(barque, "-f", "label=kind=test") == ["imported:1"]
    history = barque.docker("history", "--format", "{{.Comment}}", "imported:1").stdout
    assert history == b"mine\n"
    barque.docker("rmi", image_id)


def test_push_pull_and_run(barque: Stack, loaded: str, registry: RegistryPeer) -> None:
    name = f"{registry.address}/deep/path/busybox:1.0"
    barque.docker("tag", loaded, name)
    pushed = barque.docker("push", name).stdout.decode()
    assert "digest: sha256:" in pushed
    barque.docker("rmi", name, loaded)
    pulled = barque.docker("pull", name).stdout.decode().splitlines()
    assert pulled[0] == "1.0: Pulling from deep/path/busybox"
    assert pulled[-2:] == [f"Status: Downloaded newer image for {name}", name]
    assert barque.docker("run", "--rm", name, "echo", "hi").stdout == b"hi\n"
    digest = next(line for line in pulled if line.startswith("Digest: ")).removeprefix("Digest: ")
    by_digest = f"{name.rpartition(':')[0]}@{digest}"
    assert barque.docker("image", "inspect", "-f", "{{json .RepoDigests}}", name).stdout == (
        json.dumps([by_digest]).encode() + b"\n"
    )
    barque.docker("rmi", name)
    created = barque.docker("run", "--rm", by_digest, "echo", "pulled").stdout  # pulls by itself
    assert created == b"pulled\n"
    barque.docker("rmi", by_digest)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pull", "REGISTRY/nope"], "manifest for REGISTRY/nope:latest not found"),
        (["pull", "127.0.0.1:1/x:1"], "dial tcp 127.0.0.1:1: connect: connection refused"),
        (["pull", "UPPER"], "invalid reference format"),
        (["push", "REGISTRY/nope:1"], "does not exist"),
        (["tag", "nope", "x"], "No such image: nope:latest"),
        (["history", "nope"], "No such image: nope:latest"),
        (["save", "nope"], "No such image: nope:latest"),
        (["image", "inspect", "nope"], "No such image: nope:latest"),
        (["images", "-f", "bogus=1"], "invalid filter 'bogus'"),
        (["search", "REGISTRY/busybox"], "Unexpected status code 404"),
    ],
)
def test_one_clear_line_of_error(
    barque: Stack, registry: RegistryPeer, arguments: list[str], expected: str
) -> None:
    filled = [argument.replace("REGISTRY", registry.address) for argument in arguments]
    done = barque.docker(*filled, check=False)
    assert done.returncode == 1
    message = done.stderr.decode().strip().splitlines()
    assert expected.replace("REGISTRY", registry.address) in message[-1]


def test_an_image_in_use(barque: Stack, loaded: str) -> None:
    barque.docker("create", "--name", "user", loaded)
    refused = barque.docker("rmi", loaded, check=False)
    assert b"conflict: unable to remove repository reference" in refused.stderr
    assert b"(must force)" in refused.stderr
    assert barque.docker("rmi", "-f", loaded).stdout.startswith(b"Untagged: loaded:1")
    assert barque.docker("start", "-a", "user", check=False).returncode == 0
    barque.docker("rm", "-f", "user")


def test_prune_leaves_what_is_used(barque: Stack, loaded: str) -> None:
    barque.docker("import", "-", stdin=tar(("f", b"dangling")))
    barque.docker("create", "--name", "user", loaded)
    pruned = barque.docker("image", "prune", "-f").stdout.decode()
    assert "Total reclaimed space" in pruned
    assert "<none>:<none>" not in images(barque, "-a")
    assert "loaded:1" in images(barque)
    barque.docker("rm", "user")


def test_events(barque: Stack) -> None:
    since = str(time.time())
    barque.docker("load", stdin=docker_archive("told:1", rootfs()))
    barque.docker("tag", "told:1", "told:2")
    barque.docker("rmi", "told:1", "told:2")
    until = str(time.time())
    arguments = ["--since", since, "--until", until, "-f", "type=image", "--format", "{{.Action}}"]
    told = barque.docker("events", *arguments).stdout.decode().split()
    assert told == ["load", "tag", "untag", "untag", "delete"]


def test_the_sdk(barque: Stack, registry: RegistryPeer) -> None:
    client = docker.DockerClient(base_url=barque.host)
    try:
        (image,) = client.images.load(docker_archive("sdk:1", rootfs()))
        assert image.tags == ["sdk:1"]
        assert image.history()[0]["Tags"] == ["sdk:1"]
        name = f"{registry.address}/sdk"
        assert image.tag(name, "2")
        lines = list(client.images.push(name, "2", stream=True, decode=True))
        assert not [line for line in lines if "error" in line]
        client.images.remove(f"{name}:2")
        assert client.images.pull(name, "2").id == image.id
        saved = io.BytesIO(b"".join(image.save(named=True)))
        client.images.remove(image.id, force=True)
        with pytest.raises(docker.errors.ImageNotFound):
            client.images.get("sdk:1")
        assert client.images.load(saved)[0].id == image.id
        client.images.remove("sdk:1")
        with pytest.raises(docker.errors.NotFound, match="manifest unknown"):
            client.images.pull(name, "nope")
    finally:
        client.close()


def test_a_restart_forgets_nothing(own_barque: Stack) -> None:
    own_barque.docker("load", stdin=docker_archive("kept:1", rootfs()))
    own_barque.docker("tag", "kept:1", "kept:2")
    before = own_barque.docker("image", "inspect", "kept:1").stdout
    own_barque.kill("barqued")
    own_barque.start()
    assert own_barque.docker("image", "inspect", "kept:1").stdout == before
    assert own_barque.docker("run", "--rm", "kept:2", "echo", "hi").stdout == b"hi\n"


def test_a_daemon_killed_within_a_load(own_barque: Stack) -> None:
    """Nothing half visible, and what was under way is given up at the next start."""
    archive = docker_archive("half:1", tar(("big", os.urandom(8 << 20))))
    environment = {**os.environ, "DOCKER_HOST": own_barque.host}
    client = subprocess.Popen(
        [real_docker_cli(), "load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert client.stdin is not None
    client.stdin.write(archive[: 5 << 20])
    client.stdin.flush()
    until(lambda: bool(ctr(own_barque, "leases", "ls", "-q")), True)
    own_barque.kill("barqued")
    client.kill()
    client.wait()
    client.stdin.close()
    own_barque.start()
    assert "half:1" not in images(own_barque)
    until(lambda: ctr(own_barque, "content", "active"), ["REF", "SIZE", "AGE"])
    assert ctr(own_barque, "leases", "ls", "-q") == []
    assert own_barque.docker("load", stdin=archive).stdout == b"Loaded image: half:1\n"


def ctr(barque: Stack, *arguments: str) -> list[str]:
    address = barque.root / "r" / "containerd" / "containerd.sock"
    done = subprocess.run(
        ["ctr", "--address", str(address), "--namespace", "moby", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def until(call: Callable[[], object], wanted: object) -> None:
    """Wait for a state that the daemon reaches by itself."""
    deadline = time.monotonic() + 20
    while call() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert call() == wanted


def test_one_platform(barque: Stack, loaded: str, tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    barque.docker("save", "--platform", "linux/amd64", "-o", str(path), loaded)
    barque.docker("load", "--platform", "linux/amd64", "-i", str(path))
    assert barque.docker("history", "--platform", "linux/amd64", "-q", loaded).stdout
    assert barque.docker("image", "inspect", "--platform", "linux/amd64", loaded).stdout
    for words in (
        ("save", "--platform", "linux/arm64", "-o", str(path), loaded),
        ("load", "--platform", "linux/arm64", "-i", str(path)),
        ("history", "--platform", "linux/arm64", loaded),
        ("image", "inspect", "--platform", "linux/arm64", loaded),
    ):
        refused = barque.docker(*words, check=False)
        assert refused.returncode != 0
        assert b"linux/arm64" in refused.stderr


def test_an_image_for_another_machine(barque: Stack) -> None:
    """Told of in the words of Docker's own daemon, unless it was asked for."""
    layer = tar(("bin/sh", b"not for here"))
    rootfs = {"type": "layers", "diff_ids": [digests.sha256(layer)]}
    config = {"architecture": "riscv64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": rootfs}
    entry = {"Config": "c.json", "RepoTags": ["alien:1"], "Layers": ["l.tar"]}
    archive = tar(
        ("c.json", json.dumps(config).encode()),
        ("l.tar", layer),
        ("manifest.json", json.dumps([entry]).encode()),
    )
    said = []
    with docker_peer() as peer:
        for engine in (peer, barque):
            engine.docker("load", stdin=archive)
            made = engine.docker("create", "--net=none", "alien:1")
            said.append(made.stderr.decode().splitlines())
            asked = engine.docker("create", "--net=none", "--platform", "linux/riscv64", "alien:1")
            assert asked.stderr == b""
            for one in (made, asked):
                engine.docker("rm", one.stdout.decode().strip())
            engine.docker("rmi", "alien:1")
    theirs, ours = said
    assert ours[0] == theirs[0]
    assert "no emulator" in ours[1]
