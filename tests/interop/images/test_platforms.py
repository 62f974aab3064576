"""Images of several platforms with attestations: loaded, saved, pulled, pushed, thinned out."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import barque
from barque import errors
from barque.daemon.images.remove import User
from barque.oci import image as oci
from barque.oci.image import Platform
from barque.registry import ANONYMOUS, Credentials
from tests.support.barque import stack
from tests.support.containerds import containerd
from tests.support.images import Bench, bench, on, pieces, tar
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import Asker
from tests.support.registry_peer import registry_peer
from tests.support.scripted_registry import (
    Asked,
    failure,
    response,
    scripted_registry,
    sha256,
)

pytestmark = [pytest.mark.root, pytest.mark.peer]

AMD, ARM, OLD = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "386")
PROVENANCE, SBOM = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"
STATEMENT = {"_type": "https://in-toto.io/Statement/v1", "predicateType": PROVENANCE, "n": [1, 2]}


class Image:
    """An index with its blobs."""

    def __init__(self, *platforms: Platform, attested: Platform | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, str] = {}
        entries = [self._image(platform) for platform in platforms]
        if attested is not None:
            entries.append(self._attestation(self.manifests[str(attested)]))
        document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
        self.index = json.dumps(document).encode()
        self.digest = self._keep(self.index)

    def _keep(self, raw: bytes) -> str:
        self.blobs[sha256(raw)] = raw
        return sha256(raw)

    def _described(self, kind: str, raw: bytes, **more: Any) -> dict[str, Any]:
        return {"mediaType": kind, "digest": self._keep(raw), "size": len(raw), **more}

    def _manifest(self, config: dict[str, Any], layers: list[dict[str, Any]]) -> bytes:
        document = {"schemaVersion": 2, "mediaType": oci.OCI_MANIFEST}
        return json.dumps({**document, "config": config, "layers": layers}).encode()

    def _image(self, platform: Platform) -> dict[str, Any]:
        layer = tar(("etc/platform", str(platform).encode()))
        rootfs = {"type": "layers", "diff_ids": [sha256(layer)]}
        config = json.dumps({**platform.document(), "rootfs": rootfs, "config": {}}).encode()
        described = self._described(oci.OCI_CONFIG, config)
        raw = self._manifest(described, [self._described(oci.OCI_LAYER, layer)])
        self.manifests[str(platform)] = sha256(raw)
        return self._described(oci.OCI_MANIFEST, raw, platform=platform.document())

    def _attestation(self, subject: str) -> dict[str, Any]:
        layers = []
        for kind in (PROVENANCE, SBOM):
            raw = json.dumps({**STATEMENT, "predicateType": kind}).encode()
            notes = {"in-toto.io/predicate-type": kind}
            layers.append(self._described("application/vnd.in-toto+json", raw, annotations=notes))
        config = json.dumps({"architecture": "unknown", "os": "unknown", "rootfs": {}}).encode()
        raw = self._manifest(self._described(oci.OCI_CONFIG, config), layers)
        notes = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": subject,
        }
        platform = {"architecture": "unknown", "os": "unknown"}
        return self._described(oci.OCI_MANIFEST, raw, platform=platform, annotations=notes)

    def archive(self, name: str) -> bytes:
        notes = {"io.containerd.image.name": name}
        entry = {"mediaType": oci.OCI_INDEX, "digest": self.digest, "size": len(self.index)}
        top = {"schemaVersion": 2, "manifests": [{**entry, "annotations": notes}]}
        members = [("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')]
        members += [("blobs/" + d.replace(":", "/"), raw) for d, raw in self.blobs.items()]
        return tar(*members, ("index.json", json.dumps(top).encode()))

    def push(self, address: str, name: str, tag: str) -> None:
        """Blobs, then manifests from the leaves to the index."""
        asker = Asker(address)
        for raw in self.blobs.values():
            asker.upload(name, raw)
        inner = [entry["digest"] for entry in json.loads(self.index)["manifests"]]
        for digest in inner:
            where = f"/v2/{name}/manifests/{digest}"
            asker.ask("PUT", where, self.blobs[digest], Content_Type=oci.OCI_MANIFEST)
        where = f"/v2/{name}/manifests/{tag}"
        done = asker.ask("PUT", where, self.index, Content_Type=oci.OCI_INDEX)
        assert done.status == 201, done


FULL = Image(AMD, ARM, attested=AMD)


@pytest.fixture(scope="module", params=["ours", "real"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with containerd(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def registry() -> Iterator[OurRegistry]:
    with our_registry() as running:
        yield running


async def load(made: Bench, archive: bytes, *platforms: Platform) -> list[dict[str, Any]]:
    return await made.lines(
        lambda progress: made.images.load(pieces(archive), progress, platforms=platforms)
    )


async def save(made: Bench, name: str, *platforms: Platform) -> dict[str, bytes]:
    chunks = [chunk async for chunk in await made.images.save([name], platforms)]
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        members = {one.name: archive.extractfile(one) for one in archive}
        return {name: file.read() for name, file in members.items() if file is not None}


async def available(made: Bench, name: str) -> dict[str, bool]:
    found = await made.images.manifests(name)
    return {one["ID"]: one["Available"] for one in found}


def path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def test_all_that_an_archive_has_is_loaded_and_saved_again(address: str) -> None:
    async def body(made: Bench) -> None:
        await load(made, FULL.archive("docker.io/library/many:1"))
        assert all((await available(made, "many:1")).values())
        saved = await save(made, "many:1")
        for digest, raw in FULL.blobs.items():
            assert saved[path(digest)] == raw
        top = json.loads(saved["index.json"])["manifests"]
        assert [one["digest"] for one in top] == [FULL.digest]
        (docker,) = json.loads(saved["manifest.json"])
        assert docker["RepoTags"] == ["many:1"]
        again = b"".join([chunk async for chunk in await made.images.save(["many:1"])])
        await made.images.remove("many:1", force=False)
        await load(made, again)
        assert all((await available(made, "many:1")).values())

    on(address, body)


def test_some_platforms(address: str) -> None:
    three = Image(AMD, ARM, OLD, attested=ARM)

    async def body(made: Bench) -> None:
        await load(made, three.archive("docker.io/library/three:1"), ARM, OLD)
        found = await available(made, "three:1")
        assert [found[three.manifests[str(one)]] for one in (AMD, ARM, OLD)] == [False, True, True]
        assert (await made.images.inspect("three:1", (1, 48)))["Architecture"] == "arm64"
        saved = await save(made, "three:1", ARM, OLD)
        assert path(three.manifests[str(OLD)]) in saved
        assert path(three.manifests[str(AMD)]) not in saved
        one = await save(made, "three:1", OLD)
        top = json.loads(one["index.json"])["manifests"]
        assert [entry["digest"] for entry in top] == [three.manifests[str(OLD)]]
        with pytest.raises(errors.NotFound):
            await save(made, "three:1", ARM, AMD)
        with pytest.raises(errors.NotFound, match="s390x"):
            await load(made, three.archive("x:1"), AMD, Platform("linux", "s390x"))

    on(address, body)


def test_attestations(address: str) -> None:
    async def body(made: Bench) -> None:
        await load(made, FULL.archive("docker.io/library/many:1"))
        found = await made.images.attestations("many:1", None, [], whole=False)
        assert [one["PredicateType"] for one in found] == [PROVENANCE, SBOM]
        assert "Statement" not in found[0]
        (only,) = await made.images.attestations("many:1", AMD, [PROVENANCE], whole=True)
        assert json.loads(bytes(only["Statement"])) == STATEMENT
        assert only["Descriptor"]["mediaType"] == "application/vnd.in-toto+json"
        assert await made.images.attestations("many:1", ARM, [], whole=True) == []
        with pytest.raises(errors.NotFound):
            await made.images.attestations("many:1", OLD, [], whole=True)

    on(address, body)


def test_a_platform_is_taken_away(address: str) -> None:
    async def body(made: Bench) -> None:
        await load(made, FULL.archive("docker.io/library/many:1"))
        await made.images.tag("many:1", "other", "1")
        before = (await made.images.resolve("many:1")).id
        with pytest.raises(errors.NotFound):
            await made.images.remove("many:1", force=False, platforms=[OLD])
        made.users[before] = [User("c" * 64, False)]
        with pytest.raises(errors.Conflict):
            await made.images.remove("many:1", force=False, platforms=[AMD])
        made.users.clear()
        gone = FULL.manifests[str(AMD)]
        done = await made.images.remove("many:1", force=False, platforms=[AMD])
        assert done == [{"Deleted": gone}]
        found = await available(made, "many:1")
        assert not found[gone]
        assert found[FULL.manifests[str(ARM)]]
        for name in ("many:1", "other:1"):
            assert (await made.images.inspect(name, (1, 48)))["Architecture"] == "arm64"
        assert await made.containerd.content.read_all(FULL.manifests[str(ARM)])
        with pytest.raises(errors.NotFound):
            await made.containerd.content.info(gone)
        left = await made.images.remove("many:1", force=True, platforms=[ARM])
        assert {"Untagged": "many:1"} in left

    on(address, body)


@pytest.mark.parametrize("kind", ["ours", "docker-registry"])
def test_a_pull_brings_attestations_and_a_push_takes_them(address: str, kind: str) -> None:
    async def body(made: Bench) -> None:
        for platform in (AMD, ARM):
            lines = await made.lines(
                lambda progress, platform=platform: made.images.pull(  # type: ignore[misc]
                    f"{where}/many", "1", platform, ANONYMOUS, progress
                )
            )
            assert "error" not in lines[-1], lines
        name = f"{where}/many:1"
        assert all((await available(made, name)).values())
        listed = await made.images.list({}, manifests=True, identity=True)
        for one in listed[0]["Manifests"]:
            if one["Kind"] == "image":
                assert one["ImageData"]["Identity"] == {"Pull": [{"Repository": f"{where}/many"}]}
        assert len(await made.images.attestations(name, AMD, [], whole=True)) == 2
        shown = await made.images.inspect(name, (1, 53))
        assert shown["Identity"] == {"Pull": [{"Repository": f"{where}/many"}]}
        await made.images.tag(name, f"{where}/again", "1")
        lines = await made.lines(
            lambda progress: made.images.push(f"{where}/again", "1", ANONYMOUS, progress)
        )
        assert lines[-1]["aux"]["Digest"] == FULL.digest
        for digest in FULL.manifests.values():
            target = f"/v2/again/manifests/{digest}"
            assert Asker(where).ask("HEAD", target, Accept=oci.OCI_MANIFEST).status == 200

    with our_registry() if kind == "ours" else registry_peer() as running:
        where = running.address
        FULL.push(where, "many", "1")
        on(address, body)


def test_a_push_of_what_is_here_alone_says_so(address: str, registry: OurRegistry) -> None:
    """Docker's command tells its user by this that the other platforms stay behind."""
    FULL.push(registry.address, "part/ly", "1")

    async def body(made: Bench) -> None:
        await made.pull(f"{registry.address}/part/ly", "1")
        await made.images.tag(f"{registry.address}/part/ly:1", f"{registry.address}/sent", "1")
        lines = await made.lines(
            lambda progress: made.images.push(f"{registry.address}/sent", "1", ANONYMOUS, progress)
        )
        notes = [line["aux"] for line in lines if "aux" in line]
        assert notes[0]["manifestPushedInsteadOfIndex"] is True
        assert notes[0]["originalIndex"]["digest"] == FULL.digest
        assert notes[0]["selectedManifest"]["digest"] == FULL.manifests[str(AMD)]
        assert notes[-1]["Digest"] == FULL.manifests[str(AMD)]

    on(address, body)


def test_an_image_for_an_older_processor_of_the_kind(address: str, registry: OurRegistry) -> None:
    """As Docker: what the machine runs by itself is taken, and nothing else."""
    for name, image in (("old", Image(ARM, OLD)), ("alien", Image(ARM))):
        image.push(registry.address, name, "1")

    async def body(made: Bench) -> None:
        await made.pull(f"{registry.address}/old", "1")
        shown = await made.images.inspect(f"{registry.address}/old:1", (1, 48))
        assert shown["Architecture"] == "386"
        with pytest.raises(errors.NotFound, match="no matching manifest for linux/amd64"):
            await made.pull(f"{registry.address}/alien", "1")

    on(address, body)


@pytest.mark.parametrize("way", ["good", "challenged", "wrong", "absent"])
def test_a_foreign_layer_comes_from_its_url(address: str, way: str) -> None:
    """CVE-2020-15157: and whoever is there gets no credentials, whatever they say."""
    layer = tar(("etc/foreign", b"from elsewhere\n"))
    seen: list[Asked] = []

    def elsewhere(asked: Asked) -> bytes:
        seen.append(asked)
        if way == "challenged":
            return response(401, b"", {"WWW-Authenticate": 'Basic realm="give"'})
        if way == "absent":
            return response(404)
        return response(200, layer if way == "good" else bytes(len(layer)))

    async def run() -> None:
        async with scripted_registry(elsewhere) as storage:
            rootfs = {"type": "layers", "diff_ids": [sha256(layer)]}
            config = json.dumps({**AMD.document(), "rootfs": rootfs, "config": {}}).encode()
            foreign = {
                "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar",
                "digest": sha256(layer),
                "size": len(layer),
                "urls": ["ftp://no.where/x", f"http://{storage.address}/layer"],
            }
            manifest = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": oci.DOCKER_MANIFEST,
                    "config": {
                        "mediaType": oci.DOCKER_CONFIG,
                        "digest": sha256(config),
                        "size": len(config),
                    },
                    "layers": [foreign],
                }
            ).encode()

            def answer(asked: Asked) -> bytes:
                if "authorization" not in asked.headers and asked.path != "/v2/":
                    return response(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
                if "/manifests/" in asked.path:
                    return response(200, manifest, {"Content-Type": oci.DOCKER_MANIFEST})
                if asked.path.endswith(sha256(config)):
                    return response(200, config)
                return failure(404, "BLOB_UNKNOWN")

            async with scripted_registry(answer) as first, bench(address) as made:
                user = Credentials("someone", "canary")
                lines = await made.pull(f"{first.address}/a", "1", user)
                if way == "good":
                    assert "error" not in lines[-1], lines
                    entries = (await made.images.show(f"{first.address}/a:1", entries=True))[
                        "Layers"
                    ][0]["Entries"]
                    assert any("foreign" in entry["Path"] for entry in entries)
                    assert not any(sha256(layer) in one.target for one in first.asked)
                else:
                    assert "error" in lines[-1]
                    assert await made.images.list({}) == []

    asyncio.run(run())
    assert seen
    assert not any("authorization" in one.headers for one in seen)


def test_platforms_on_the_command_line(registry: OurRegistry, tmp_path: Path) -> None:
    with stack(busybox=False) as engine:
        name = f"{registry.address}/command/line:1"
        FULL.push(registry.address, "command/line", "1")
        engine.cli("pull", name)
        said = engine.cli("push", name).stderr.decode()
        assert f"only {FULL.manifests[str(AMD)]} was pushed" in said
        engine.cli("rmi", name)
        engine.docker("load", stdin=FULL.archive("docker.io/library/many:1"))
        both = ("save", "--platform", "linux/amd64,linux/arm64", "-o", str(tmp_path / "both.tar"))
        engine.cli(*both, "many:1")
        with tarfile.open(tmp_path / "both.tar") as archive:
            names = set(archive.getnames())
        assert {path(digest) for digest in FULL.manifests.values()} <= names
        with barque.Client(engine.host) as client:
            found = client.images.attestations("many:1", types=[SBOM], statement=True)
            assert [one["PredicateType"] for one in found] == [SBOM]
            assert found[0]["Statement"]["predicateType"] == SBOM
            assert client.images.attestations("many:1", platform="linux/arm64") == []
        gone = FULL.manifests[str(ARM)]
        done = engine.cli("image", "rm", "--platform", "linux/arm64", "many:1").stdout.decode()
        assert done == f"Deleted: {gone}\n"
        again = engine.cli("rmi", "--platform", "linux/arm64", "many:1", check=False)
        assert again.returncode == 1
        assert b"No such image: many:1 for platform linux/arm64" in again.stderr
        assert engine.cli("images", "-q").stdout.split()
        engine.cli("rmi", "--platform", "linux/amd64", "many:1")
        assert engine.cli("images", "-q").stdout == b""
