"""Manifest lists made by hand: by our command and by Docker's, on each other's files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barque.oci import image as oci
from tests.support.barque import Stack, stack
from tests.support.images import tar
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import Asker
from tests.support.scripted_registry import sha256
from tools.busybox_image import docker_archive

pytestmark = [pytest.mark.root, pytest.mark.peer]

OURS, PEER = "barque", "docker"


@pytest.fixture(scope="module")
def engine() -> Iterator[Stack]:
    with stack(busybox=False) as made:
        yield made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurRegistry]:
    with our_registry() as running:
        for name in ("one", "two", "other/three"):
            path = tmp_path_factory.mktemp("images") / "image.tar"
            path.write_bytes(docker_archive("x:1", tar((name.replace("/", "-"), name.encode()))))
            running.push(f"docker-archive:{path}", f"{name}:1")
        yield running


class Client:
    """One command with a directory of settings."""

    def __init__(self, engine: Stack, command: str, directory: Path) -> None:
        self._engine, self._command, self._directory = engine, command, directory

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        run = self._engine.cli if self._command == OURS else self._engine.docker
        found: subprocess.CompletedProcess[bytes] = run(
            "--config", str(self._directory), "manifest", *words, check=check
        )
        return found

    def inspect(self, *words: str) -> Any:
        return json.loads(self("inspect", "--insecure", *words).stdout)


@pytest.fixture(params=[OURS, PEER])
def client(request: pytest.FixtureRequest, engine: Stack, tmp_path: Path) -> Client:
    return Client(engine, request.param, tmp_path)


@pytest.fixture(params=[OURS, PEER])
def other(request: pytest.FixtureRequest, engine: Stack, tmp_path: Path) -> Client:
    """Whoever takes the files of `client` over."""
    return Client(engine, request.param, tmp_path)


def test_a_list_from_its_making_to_its_pull(
    client: Client, other: Client, registry: OurRegistry, engine: Stack
) -> None:
    where = registry.address
    target = f"{where}/one:list"
    made = client("create", "--insecure", target, f"{where}/one:1", f"{where}/other/three:1")
    assert made.stdout.decode() == f"Created manifest list {target}\n"
    again = other("create", "--insecure", target, f"{where}/two:1", check=False)
    assert again.returncode == 1
    assert b"refusing to amend an existing manifest list with no --amend flag" in again.stderr
    three = f"{where}/other/three:1"
    other("annotate", target, three, "--arch", "arm64", "--os", "linux", "--variant", "v8")
    for each in (client, other):
        found = each.inspect(target)
        platforms = {entry["platform"]["architecture"] for entry in found["manifests"]}
        assert platforms == {"amd64", "arm64"}
        assert each.inspect(target, three)["schemaVersion"] == 2
    digest = other("push", "--insecure", "--purge", target).stdout.decode().split()[-1]
    assert digest.startswith("sha256:")
    gone = client("rm", target, check=False)
    assert gone.returncode == 1
    assert b"No such manifest" in gone.stderr
    found = client.inspect(target)
    assert {one["platform"].get("variant", "") for one in found["manifests"]} == {"", "v8"}
    raw = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{target}"],
        check=True,
        capture_output=True,
    ).stdout
    assert digest == sha256(raw)
    engine.cli("pull", "-q", target)
    engine.cli("rmi", target)


def test_a_manifest_of_a_registry(client: Client, registry: OurRegistry) -> None:
    found = client.inspect(f"{registry.address}/one:1")
    assert found["schemaVersion"] == 2
    assert len(found["layers"]) == 1
    verbose = client.inspect("-v", f"{registry.address}/one:1")
    assert verbose["Ref"] == f"{registry.address}/one:1"
    assert verbose["Descriptor"]["platform"]["architecture"] == "amd64"


def test_what_cannot_be_listed(engine: Stack, registry: OurRegistry, tmp_path: Path) -> None:
    client = Client(engine, OURS, tmp_path)
    where = registry.address
    refused = client("create", f"{where}/x:1", f"{where}/missing:1", check=False)
    assert refused.returncode == 1
    assert b"manifest unknown" in refused.stderr or b"not found" in refused.stderr
    client("create", f"{where}/x:1", f"{where}/one:1")
    far = client("create", "--insecure", "registry.test/x:1", f"{where}/one:1", check=False)
    assert b"insecure-registries" in far.stderr
    client("create", "registry.test/x:1", f"{where}/one:1")
    foreign = client("push", "registry.test/x:1", check=False)
    assert b"different registry" in foreign.stderr
    client("annotate", f"{where}/x:1", f"{where}/one:1", "--os", "plan9")
    assert client.inspect(f"{where}/x:1")["manifests"][0]["platform"]["os"] == "plan9"
    client("rm", f"{where}/x:1", "registry.test/x:1")
    assert list((tmp_path / "manifests").iterdir()) == []


def test_a_damaged_file_is_told(engine: Stack, registry: OurRegistry, tmp_path: Path) -> None:
    client = Client(engine, OURS, tmp_path)
    name = f"{registry.address}/x:1"
    client("create", name, f"{registry.address}/one:1")
    (file,) = (tmp_path / "manifests").glob("*/*")
    file.write_bytes(b"[]")
    told = client("inspect", name, check=False)
    assert told.returncode == 1
    assert b"this is no manifest" in told.stderr


def test_what_refers_to_an_image(engine: Stack, registry: OurRegistry) -> None:
    asker = Asker(registry.address)
    subject = asker.image("refer/red", "1")
    about = {"mediaType": oci.OCI_MANIFEST, "digest": subject, "size": 1}
    digests = [
        asker.image("refer/red", "", kind.encode(), subject=about, artifactType=f"a/{kind}")
        for kind in ("sbom", "signature")
    ]
    name = f"{registry.address}/refer/red:1"
    table = engine.cli("manifest", "referrers", name).stdout.decode().splitlines()
    assert table[0].split() == ["DIGEST", "ARTIFACT", "TYPE", "SIZE"]
    assert sorted(line.split()[:2] for line in table[1:]) == sorted(
        [digest, f"a/{kind}"] for digest, kind in zip(digests, ("sbom", "signature"), strict=True)
    )
    words = ("manifest", "referrers", "--artifact-type", "a/sbom", "--format", "{{.Digest}}", name)
    assert engine.cli(*words).stdout.decode().split() == digests[:1]
    missing = engine.cli("manifest", "referrers", f"{registry.address}/no/such:1", check=False)
    assert missing.returncode == 1
    assert b"not found" in missing.stderr
