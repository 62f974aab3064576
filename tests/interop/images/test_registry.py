"""Pull and push against Debian's docker-registry, and pulls from a registry that lies."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.oci import image as oci
from barque.registry import Credentials, connection
from tests.support.images import Bench, on, tar
from tests.support.registry_peer import RegistryPeer, registry_peer
from tests.support.scripted_registry import (
    Answer,
    Asked,
    ScriptedImage,
    response,
    scripted_image,
    scripted_registry,
    sha256,
)
from tools.busybox_image import docker_archive

pytestmark = [pytest.mark.root, pytest.mark.peer]

LAYER = tar(("etc/hello", b"hello\n"), ("big", bytes(range(256)) * 4096))
# htpasswd of the user "someone" with the password "secret"
PASSWORDS = "someone:$2y$05$T5ezY14PQxOKBDTlfR8I6uMV0wu4j3RohiO7EEvO8cvGlqVoyTFPq\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryPeer]:
    archive = tmp_path_factory.mktemp("images") / "busybox.tar"
    archive.write_bytes(docker_archive("busybox:latest", LAYER))
    with registry_peer() as peer:
        peer.push(f"docker-archive:{archive}", "library/busybox:1")
        yield peer


def test_pull_and_pull_again(address: str, registry: RegistryPeer) -> None:
    repository = f"{registry.address}/library/busybox"

    async def body(b: Bench) -> None:
        lines = await b.pull(repository, "1")
        words = [line["status"] for line in lines]
        assert words[0] == "Pulling from library/busybox"
        assert lines[0]["id"] == "1"
        for word in ("Pulling fs layer", "Downloading", "Download complete", "Extracting"):
            assert word in words
        assert words[-3] == "Pull complete"
        assert words[-2].startswith("Digest: sha256:")
        assert words[-1] == f"Status: Downloaded newer image for {repository}:1"
        again = await b.pull(repository, "1")
        assert len(again) == 3
        assert again[-1]["status"] == f"Status: Image is up to date for {repository}:1"
        digest = words[-2].removeprefix("Digest: ")
        document = await b.images.inspect(f"{repository}:1", (1, 47))
        assert document["RepoDigests"] == [f"{repository}@{digest}"]
        assert (await b.images.resolve(f"{repository}@{digest}")).id == document["Id"]
        by_digest = await b.pull(repository, digest)
        assert by_digest[-1]["status"].endswith(f"{repository}@{digest}")
        removed = await b.images.remove(f"{repository}:1", force=False)
        assert {"Deleted": document["Id"]} in removed
        assert b.actions() == ["pull", "pull", "pull", "untag", "delete"]

    on(address, body)


def test_two_pulls_of_one_image_at_once(address: str, registry: RegistryPeer) -> None:
    async def body(b: Bench) -> None:
        repository = f"{registry.address}/library/busybox"
        await asyncio.gather(*(b.pull(repository, "1") for _ in range(4)))
        assert b.images.count() == 1

    on(address, body)


def test_push_and_pull_back_by_others(address: str, registry: RegistryPeer, tmp_path: Path) -> None:
    async def body(b: Bench) -> None:
        await b.import_(gzip.compress(LAYER), f"{registry.address}/mine/a", "2")
        target = (await b.images.resolve(f"{registry.address}/mine/a:2")).target
        lines = await b.lines(
            lambda progress: b.images.push(
                f"{registry.address}/mine/a", "2", Credentials(), progress
            )
        )
        assert lines[-1]["aux"] == {"Tag": "2", "Digest": target.digest, "Size": target.size}
        names = await b.images.names_of((await b.images.resolve(f"{registry.address}/mine/a:2")).id)
        assert names.digests == (f"{registry.address}/mine/a@{target.digest}",)

    on(address, body)
    inspected = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{registry.address}/mine/a:2"],
        check=True,
        capture_output=True,
    )
    assert json.loads(inspected.stdout)["Os"] == "linux"
    subprocess.run(
        [
            *("skopeo", "copy", "--insecure-policy", "--src-tls-verify=false"),
            *(f"docker://{registry.address}/mine/a:2", f"oci:{tmp_path}/layout:x"),
        ],
        check=True,
        capture_output=True,
    )


def test_what_is_not_there(address: str, registry: RegistryPeer) -> None:
    async def body(b: Bench) -> None:
        with pytest.raises(errors.NotFound) as refused:
            await b.pull(f"{registry.address}/library/busybox", "nope")
        assert str(refused.value) == (
            f"manifest for {registry.address}/library/busybox:nope not found: "
            "manifest unknown: manifest unknown"
        )
        assert await b.remains() == {}

    on(address, body)


def test_a_password_is_asked_for(address: str, tmp_path: Path) -> None:
    archive = tmp_path / "busybox.tar"
    archive.write_bytes(docker_archive("busybox:latest", LAYER))
    right = Credentials(username="someone", password="secret")
    with registry_peer(PASSWORDS) as peer:

        async def body(b: Bench) -> None:
            name = f"{peer.address}/a"
            await b.load(docker_archive(f"{name}:1", LAYER))

            def push(credentials: Credentials) -> Awaitable[list[dict[str, Any]]]:
                return b.lines(lambda p: b.images.push(name, "1", credentials, p))

            for wrong in (Credentials(), Credentials(username="someone", password="wrong")):
                lines = await push(wrong)
                assert "error" in lines[-1]
                with pytest.raises(errors.Unauthorized):
                    await b.images.authenticate(peer.address, wrong)
            await b.images.authenticate(f"http://{peer.address}/v2/", right)
            assert "aux" in (await push(right))[-1]
            with pytest.raises(errors.NotFound, match=r"pull access denied for .*docker login"):
                await b.pull(name, "1")
            await b.pull(name, "1", right)

        on(address, body)


def test_a_layer_damaged_at_the_registry(address: str, tmp_path: Path) -> None:
    archive = tmp_path / "busybox.tar"
    archive.write_bytes(docker_archive("busybox:latest", LAYER))
    with registry_peer() as peer:
        peer.push(f"docker-archive:{archive}", "a:1")
        layers = sorted(peer.root.glob("docker/registry/v2/blobs/sha256/*/*/data"))
        largest = max(layers, key=lambda path: path.stat().st_size)
        data = bytearray(largest.read_bytes())
        data[len(data) // 2] ^= 0xFF
        largest.write_bytes(data)

        async def body(b: Bench) -> None:
            lines = await b.pull(f"{peer.address}/a", "1")
            assert "verification failed for digest sha256:" in lines[-1]["error"]
            assert await b.remains() == {}

        on(address, body)


# A registry that lies

GOOD = scripted_image(LAYER)


def replaced(name: str, raw: bytes) -> Answer:
    """The good image, but for the bytes of one thing."""
    digest = {"config": sha256(GOOD.config), "layer": sha256(GOOD.layer)}.get(name, "")

    def answer(asked: Asked) -> bytes:
        if name == "manifest" and "/manifests/" in asked.path:
            return response(200, raw, {"Content-Type": oci.OCI_MANIFEST})
        if digest and asked.path.endswith(digest):
            return response(200, raw)
        return GOOD.answer(asked)

    return answer


def with_manifest(**changes: Any) -> bytes:
    return json.dumps({**json.loads(GOOD.manifest), **changes}).encode()


def pulled(address: str, answer: Answer) -> tuple[str, dict[str, list[str]]]:
    """The error of a pull, and what containerd still has; asserts that no image is there."""
    found: list[Any] = []

    async def body(b: Bench) -> None:
        async with scripted_registry(answer) as registry:
            try:
                lines = await b.pull(f"{registry.address}/a", "1")
                found.append(lines[-1].get("error", ""))
            except errors.BarqueError as error:
                found.append(str(error))
        assert await b.images.list({}) == []
        found.append(await b.remains())

    on(address, body)
    return found[0], found[1]


def test_the_good_image_is_good(address: str) -> None:
    async def body(b: Bench) -> None:
        async with scripted_registry(GOOD.answer) as registry:
            await b.pull(f"{registry.address}/a", "1")
            assert b.images.count() == 1

    on(address, body)


HUGE = {"mediaType": oci.OCI_CONFIG, "digest": sha256(b"x"), "size": 1 << 40}
OTHER = tar(("other", b"x"))


@pytest.mark.parametrize(
    "answer",
    [
        replaced("config", GOOD.config[:-1] + b" "),
        replaced("config", GOOD.config + b" "),
        replaced("config", GOOD.config[:-1]),
        replaced("layer", LAYER[:-1] + b"!"),
        replaced("layer", LAYER[:-1]),
        replaced("layer", LAYER + b"!"),
        replaced("layer", b""),
        replaced("manifest", b"{}"),
        replaced("manifest", b"[" * 100_000),
        replaced("manifest", with_manifest(manifests=[])),
        replaced("manifest", with_manifest(mediaType=oci.OCI_INDEX)),
        replaced("manifest", with_manifest(layers=[])),
        replaced("manifest", with_manifest(layers=[HUGE])),
        replaced("manifest", with_manifest(config=HUGE)),
        replaced("manifest", with_manifest(layers=[{**HUGE, "digest": "sha256:../../x"}])),
        replaced(
            "manifest",
            with_manifest(
                layers=[{**HUGE, "mediaType": "application/vnd.oci.image.layer.v1.tar+xz"}]
            ),
        ),
        scripted_image(LAYER, diff_id=sha256(OTHER)).answer,
        scripted_image(b"no tar at all").answer,
        scripted_image(tar(("../../../../tmp/x", b""))).answer,
    ],
)
def test_a_lie_is_one_clear_error_and_leaves_nothing(address: str, answer: Answer) -> None:
    """CVE-2014-8178, CVE-2014-8179, CVE-2021-41190."""
    message, left = pulled(address, answer)
    assert message.isprintable()
    assert 0 < len(message) < 600
    assert "internal error" not in message
    assert left == {}


def test_another_platform_is_refused(address: str) -> None:
    entry = {
        "mediaType": oci.OCI_MANIFEST,
        "digest": sha256(GOOD.manifest),
        "size": len(GOOD.manifest),
        "platform": {"os": "linux", "architecture": "s390x"},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()

    def answer(asked: Asked) -> bytes:
        if asked.path.endswith("/manifests/1"):
            return response(200, index, {"Content-Type": oci.OCI_INDEX})
        return GOOD.answer(asked)

    message, left = pulled(address, answer)
    assert "no matching manifest for linux/" in message
    assert left == {}


def test_a_platform_that_is_asked_for(address: str) -> None:
    other = scripted_image(OTHER, architecture="s390x")

    async def body(b: Bench) -> None:
        async with scripted_registry(other.answer) as registry:
            name = f"{registry.address}/a"
            for wanted in ("linux/arm64", "linux/s390x"):
                platform = oci.parse_platform(wanted)
                lines = await b.lines(
                    lambda p, platform=platform: b.images.pull(  # type: ignore[misc]
                        name, "1", platform, Credentials(), p
                    )
                )
                if wanted == "linux/arm64":
                    assert "does not match" in lines[-1]["error"]
                    assert await b.remains() == {}
            document = await b.images.inspect(f"{name}:1", (1, 47))
            assert document["Architecture"] == "s390x"

    on(address, body)


def test_an_index_leads_to_the_host(address: str) -> None:
    other = scripted_image(OTHER, architecture="s390x")
    host = oci.host_platform(os.uname().machine)

    def entry(image: ScriptedImage, architecture: str) -> dict[str, Any]:
        return {
            "mediaType": oci.OCI_MANIFEST,
            "digest": sha256(image.manifest),
            "size": len(image.manifest),
            "platform": {"os": "linux", "architecture": architecture},
        }

    entries = [entry(other, "s390x"), entry(GOOD, host.architecture)]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()

    def answer(asked: Asked) -> bytes:
        if asked.path.endswith("/manifests/1"):
            return response(200, index, {"Content-Type": oci.OCI_INDEX})
        if asked.path.endswith(sha256(other.manifest)):
            return other.answer(asked)
        return GOOD.answer(asked)

    async def body(b: Bench) -> None:
        async with scripted_registry(answer) as registry:
            name = f"{registry.address}/a"
            await b.pull(name, "1")
            image = await b.images.resolve(f"{name}:1")
            assert image.id == sha256(GOOD.config)
            assert image.target.digest == sha256(index)
            assert image.manifest == sha256(GOOD.manifest)
            content = [info.digest async for info in b.containerd.content.list()]
            assert sha256(other.layer) not in content
            archive = await b.save(f"{name}:1")
            await b.images.remove(f"{name}:1", force=False)
            await b.load(archive)
            assert (await b.images.resolve(f"{name}:1")).id == image.id

    on(address, body)


def test_all_tags_both_ways(address: str) -> None:
    with registry_peer() as peer:
        name = f"{peer.address}/many"

        async def body(b: Bench) -> None:
            for tag in ("1", "2", "3"):
                await b.load(docker_archive(f"{name}:{tag}", LAYER))
            lines = await b.lines(lambda p: b.images.push(name, "", Credentials(), p))
            assert [line["aux"]["Tag"] for line in lines if "aux" in line] == ["1", "2", "3"]
            for tag in ("1", "2", "3"):
                await b.images.remove(f"{name}:{tag}", force=False)
            await b.pull(name, "")
            (summary,) = await b.images.list({})
            assert summary["RepoTags"] == [f"{name}:1", f"{name}:2", f"{name}:3"]

        on(address, body)


def test_import_from_a_url(address: str) -> None:
    packed = gzip.compress(LAYER)

    def answer(asked: Asked) -> bytes:
        return response(200, packed) if asked.path == "/rootfs.tar.gz" else response(404)

    async def body(b: Bench) -> None:
        async with scripted_registry(answer) as server:

            def import_(path: str) -> Awaitable[list[dict[str, Any]]]:
                url = f"http://{server.address}{path}"
                return b.lines(lambda p: b.images.import_from(url, "a", "1", "", (), None, p))

            lines = await import_("/rootfs.tar.gz?key=canary")
            assert lines[0] == {"status": f"Downloading from http://{server.address}/rootfs.tar.gz"}
            image = await b.images.resolve("a:1")
            assert lines[-1] == {"status": image.id}
            assert image.diff_ids == (sha256(LAYER),)
            assert b"canary" not in image.raw_config
            with pytest.raises(errors.InvalidArgument):
                await b.lines(
                    lambda p: b.images.import_from("file:///etc/x", "a", "1", "", (), None, p)
                )

    on(address, body)


@pytest.mark.parametrize("path", ["cut", "longer", "none", "round", "file", "stall", "noise"])
def test_import_from_a_hostile_url(
    address: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALL_TIMEOUT_S", 1.0)
    packed = gzip.compress(LAYER)
    answers = {
        "cut": response(200, packed[:100], length=len(packed)),
        "longer": response(200, packed, length=len(packed) + 1),
        "none": response(404),
        "round": response(302, b"", {"Location": "/round"}),
        "file": response(302, b"", {"Location": "file:///etc/passwd"}),
        "stall": response(200, packed[:100], length=len(packed)),
        "noise": b"\0" * 1000,
    }

    async def body(b: Bench) -> None:
        async with scripted_registry(
            lambda asked: answers[path], stalls=lambda asked: path == "stall"
        ) as server:
            url = f"http://{server.address}/{path}"
            try:
                lines = await b.lines(
                    lambda p: b.images.import_from(url, "a", "1", "", (), None, p)
                )
                error = lines[-1]["error"]
            except errors.BarqueError as failure:
                error = str(failure)
        assert error.isprintable()
        assert 0 < len(error) < 600
        assert "internal error" not in error
        assert await b.images.list({}) == []
        assert await b.remains() == {}

    on(address, body)
