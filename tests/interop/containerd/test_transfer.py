"""Transfer between registries, archives and the store; what arrives is read by others' programs."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from barque.containerd.proto import transfer_types_pb2 as types
from barque.containerd.proto.types_pb2 import Platform
from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported
from tests.support.node import IMAGE, Node, busybox_archive, node
from tests.support.registry_peer import RegistryPeer, registry_peer
from tests.support.transfers import Transfers

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]
BUSYBOX = "docker.io/library/busybox"
HERE = Platform(os="linux", architecture="amd64")
PREFIX = types.ImageReference(name=BUSYBOX, is_prefix=True)


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node("ours") as made:
        yield made


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryPeer]:
    with registry_peer() as made:
        yield made


def run(it: Node, namespace: str, check: Callable[[Transfers], Awaitable[None]]) -> Transfers:
    async def main() -> Transfers:
        async with Transfers(it.address, namespace) as client:
            await asyncio.wait_for(check(client), 120)
            return client

    return asyncio.run(main())


def images(it: Node, namespace: str) -> set[str]:
    return set(it.ctr("-n", namespace, "images", "ls", "-q").stdout.split())


def store(name: str = "", *, unpack: bool = False, **more: object) -> types.ImageStore:
    made = types.ImageStore(name=name, **more)  # type: ignore[arg-type]
    if unpack:
        made.unpacks.add(platform=HERE)
    return made


def imported(it: Node, namespace: str, archive: bytes, *, unpack: bool = False) -> None:
    async def check(client: Transfers) -> None:
        wanted = store(unpack=unpack, extra_references=[PREFIX], labels={"from": "archive"})
        await client.import_archive(archive, wanted)

    told = run(it, namespace, check).progress
    assert [one.event for one in told][-1] == "Completed import"
    assert ("saved", IMAGE) in {(one.event, one.name) for one in told}


def runs(it: Node, namespace: str, image: str) -> None:
    """The image as a container: all of it is there, and unpacked."""
    flags = ("--rm", "--runtime", "io.containerd.barque.v2", "--cgroup", f"/{it.word}/t")
    done = it.ctr("-n", namespace, "run", *flags, image, "t", "echo", "inside", check=False)
    assert done.returncode == 0, done.stderr


def test_an_archive_becomes_an_image_that_runs(it: Node) -> None:
    imported(it, "in", busybox_archive(), unpack=True)
    assert images(it, "in") == {IMAGE}
    assert "from=archive" in it.ctr("-n", "in", "images", "ls").stdout
    runs(it, "in", IMAGE)
    assert it.ctr("-n", "in", "leases", "ls", "-q").stdout == ""
    # What is not held by a name is gone, what is stays.
    it.ctr("-n", "in", "images", "check")


def test_what_skopeo_makes_is_read_and_read_by_it(it: Node, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-x", "-C", str(layout)], input=busybox_archive(), check=True)
    archive = tmp_path / "docker.tar"
    skopeo = ("skopeo", "copy", "--insecure-policy")
    target = f"docker-archive:{archive}:busybox:latest"
    subprocess.run([*skopeo, f"oci:{layout}", target], check=True, capture_output=True)
    imported(it, "skopeo", gzip.compress(archive.read_bytes()), unpack=True)
    runs(it, "skopeo", IMAGE)

    async def check(client: Transfers) -> None:
        out = tmp_path / "out.tar"
        out.write_bytes(await client.export(store(IMAGE)))
        for source in (f"oci-archive:{out}", f"docker-archive:{out}"):
            again = tmp_path / source.partition(":")[0]
            subprocess.run([*skopeo, source, f"dir:{again}"], check=True, capture_output=True)

    run(it, "skopeo", check)


def test_ctr_reads_what_is_exported(it: Node, tmp_path: Path) -> None:
    imported(it, "out", busybox_archive())
    archive = tmp_path / "out.tar"

    async def check(client: Transfers) -> None:
        archive.write_bytes(await client.export(store(IMAGE), skip_compatibility_manifest=True))

    run(it, "out", check)
    with tarfile.open(archive) as members:
        assert "manifest.json" not in members.getnames()
    it.ctr("-n", "again", "images", "import", str(archive))
    assert images(it, "again") == {IMAGE}
    runs(it, "again", IMAGE)


def test_a_name_more(it: Node) -> None:
    imported(it, "tag", busybox_archive())

    async def check(client: Transfers) -> None:
        await client.transfer(store(IMAGE), store("example.com/other:1"))
        await client.transfer(store(IMAGE), store("example.com/other:1"))  # as it is already

    run(it, "tag", check)
    assert images(it, "tag") == {IMAGE, "example.com/other:1"}


def test_push_and_pull(it: Node, registry: RegistryPeer) -> None:
    imported(it, "push", busybox_archive())
    name = f"{registry.address}/pushed/busybox:1"

    async def push(client: Transfers) -> None:
        await client.transfer(store(IMAGE), types.OCIRegistry(reference=name))
        before = len(client.progress)
        await client.transfer(store(IMAGE), types.OCIRegistry(reference=name))
        assert "already exists" in {one.event for one in client.progress[before:]}

    run(it, "push", push)

    async def pull(client: Transfers) -> None:
        source = types.OCIRegistry(reference=name)
        source.resolver.default_scheme = "http"
        await client.transfer(source, store(name, unpack=True, platforms=[HERE]))

    told = run(it, "pull", pull).progress
    assert images(it, "pull") == {name}
    runs(it, "pull", name)
    layers = [one for one in told if one.event == "complete" and "layer" in one.name]
    assert layers
    assert all(one.progress == one.total == one.desc.size for one in layers)
    info = it.ctr("-n", "pull", "content", "ls").stdout
    assert "containerd.io/distribution.source." in info


def test_a_pull_that_fails_leaves_nothing(it: Node, registry: RegistryPeer) -> None:
    async def check(client: Transfers) -> None:
        source = types.OCIRegistry(reference=f"{registry.address}/none/such:1")
        with pytest.raises(NotFound):
            await client.transfer(source, store("x"))

    run(it, "nothing", check)
    assert images(it, "nothing") == set()
    assert it.ctr("-n", "nothing", "leases", "ls", "-q").stdout == ""


def test_credentials_are_asked_for(it: Node, tmp_path: Path) -> None:
    made = subprocess.run(
        ["htpasswd", "-nbB", "-C", "5", "me", "secret"], check=True, capture_output=True, text=True
    )
    with registry_peer(htpasswd=made.stdout) as private:
        layout = tmp_path / "layout"
        layout.mkdir()
        subprocess.run(["tar", "-x", "-C", str(layout)], input=busybox_archive(), check=True)
        name = f"{private.address}/private/busybox:1"
        words = ("--insecure-policy", "--dest-tls-verify=false", "--dest-creds", "me:secret")
        subprocess.run(
            ["skopeo", "copy", *words, f"oci:{layout}", f"docker://{name}"],
            check=True,
            capture_output=True,
        )

        async def check(client: Transfers) -> None:
            for secret, good in (("wrong", False), ("secret", True)):
                answer = types.AuthResponse(
                    authType=types.CREDENTIALS, username="me", secret=secret
                )
                async with client.auth(answer) as (id, asked):
                    source = types.OCIRegistry(reference=name)
                    source.resolver.auth_stream = id
                    if good:
                        await client.transfer(source, store(name))
                    else:
                        with pytest.raises(BarqueError):
                            await client.transfer(source, store(name))
                    assert asked == [private.address]

        run(it, "private", check)
        assert images(it, "private") == {name}


def broken_archives() -> dict[str, bytes]:
    def packed(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()

    lost = [{"Config": "c.json", "Layers": ["l/layer.tar"], "RepoTags": ["a:b"]}]
    return {
        "neither index.json nor manifest.json": packed({"a": b"b"}),
        "names 'c.json', which is not there": packed({"manifest.json": json.dumps(lost).encode()}),
        "manifest.json": packed({"manifest.json": b"{]"}),
        "digest": packed({"blobs/sha256/" + "0" * 64: b"other bytes"}),
        "header with a bad checksum": b"not a tar at all" * 100,
        "broken": gzip.compress(busybox_archive())[:2] + b"\xff" * 600,
    }


@pytest.mark.parametrize("words", broken_archives())
def test_archives_that_are_none(it: Node, words: str) -> None:
    async def check(client: Transfers) -> None:
        with pytest.raises(BarqueError, match=words):
            await client.import_archive(broken_archives()[words], store("x"))

    run(it, "broken", check)
    assert images(it, "broken") == set()
    assert it.ctr("-n", "broken", "leases", "ls", "-q").stdout == ""


def test_what_is_not_done_says_so(it: Node) -> None:
    async def check(client: Transfers) -> None:
        registry = types.OCIRegistry(reference="localhost:1/a:b")
        resolvers = (
            types.RegistryResolver(host_dir="/etc/certs"),
            types.RegistryResolver(http_debug=types.TRACE),
            types.RegistryResolver(logs_stream="lines"),
        )
        for resolver, name in zip(
            resolvers, ("host_dir", "http_debug", "logs_stream"), strict=True
        ):
            refused = types.OCIRegistry(reference="localhost:1/a:b", resolver=resolver)
            with pytest.raises(Unsupported, match=name):
                await client.transfer(refused, store("x"))
        with pytest.raises(Unsupported, match="unable to transfer from"):
            await client.transfer(registry, registry)
        with pytest.raises(Unsupported, match="Progress"):
            await client.transfer(types.Progress(), store("x"))
        with pytest.raises(NotFound, match="stream 'lost'"):
            await client.transfer(types.ImageImportStream(stream="lost"), store("x"))
        with pytest.raises(InvalidArgument, match="no stream"):
            await client.transfer(types.ImageImportStream(), store("x"))
        with pytest.raises(NotFound):
            await client.export(store("docker.io/library/none:1"))

    run(it, "refused", check)
