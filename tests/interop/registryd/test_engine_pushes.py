"""Pushes to an engine, ours and the real containerd: what its images are called, and what stays."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque import program
from barque.oci import image as oci
from tests.interop.registryd.test_tools import ran
from tests.support.barque import Stack, stack
from tests.support.containerds import containerd
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import PUSHED, Asker, descriptor, digest_of
from tools.busybox_image import docker_archive, rootfs

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module", params=["ours", "real"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with containerd(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def served(address: str) -> Iterator[OurRegistry]:
    with our_registry("--engine", address, "--engine-push", PUSHED) as running:
        yield running


def names(address: str) -> set[str]:
    listed = ran("ctr", "--address", address, "--namespace", "moby", "images", "ls", "-q")
    return set(listed.stdout.split())


def test_what_images_are_called(served: OurRegistry, address: str) -> None:
    asker = Asker(served.address)
    first = asker.image("team/app", "1")
    assert names(address) >= {f"{PUSHED}/team/app:1"}
    asker.image("team/app", "1", b"second")
    assert names(address) >= {f"{PUSHED}/team/app:1", f"{PUSHED}/team/app@{first}"}
    assert asker.ask("DELETE", f"/v2/team/app/manifests/{first}").status == 202
    assert asker.ask("DELETE", "/v2/team/app/manifests/1").status == 202
    left = {name for name in names(address) if name.startswith(f"{PUSHED}/team/app")}
    assert [name.partition("@")[0] for name in left] == [f"{PUSHED}/team/app"]


def test_names_of_others_are_not_taken_over(served: OurRegistry, address: str) -> None:
    asker = Asker(served.address)
    theirs = asker.image("origin/al", "1")
    ctr = ("ctr", "--address", address, "--namespace", "moby", "images")
    ran(*ctr, "tag", f"{PUSHED}/origin/al:1", "docker.io/library/mine:1")
    for target in ("manifests/1", f"manifests/{theirs}", f"blobs/{digest_of(b'layer a')}"):
        refused = asker.ask("DELETE", f"/v2/library/mine/{target}")
        assert (refused.status, refused.code) == (405, "UNSUPPORTED")
    other = asker.image("library/mine", "1", b"other")
    assert {"docker.io/library/mine:1", f"{PUSHED}/library/mine:1"} <= names(address)
    shown = asker.ask("HEAD", "/v2/library/mine/manifests/1")
    assert shown.headers["docker-content-digest"] == other
    assert asker.ask("DELETE", f"/v2/library/mine/manifests/{other}").status == 202
    shown = asker.ask("HEAD", "/v2/library/mine/manifests/1")
    assert shown.headers["docker-content-digest"] == theirs


def test_manifests_of_an_index_have_no_names_of_their_own(
    served: OurRegistry, address: str
) -> None:
    asker = Asker(served.address)
    digest = asker.image("in/dex", "")
    raw = asker.ask("GET", f"/v2/in/dex/manifests/{digest}").body
    document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX}
    document["manifests"] = [descriptor(oci.OCI_MANIFEST, raw)]
    index = json.dumps(document).encode()
    done = asker.ask("PUT", "/v2/in/dex/manifests/all", index, Content_Type=oci.OCI_INDEX)
    assert done.status == 201
    own = {name for name in names(address) if name.startswith(f"{PUSHED}/in/dex")}
    assert own == {f"{PUSHED}/in/dex:all"}
    assert asker.ask("GET", f"/v2/in/dex/manifests/{digest}").body == raw


def test_a_push_goes_on_after_a_restart(address: str) -> None:
    """What is uploaded and what is under way, both without any state of the registry's own."""
    flags = ("--engine", address, "--engine-push", PUSHED)
    word = secrets.token_bytes(8)
    with our_registry(*flags) as first:
        asker = Asker(first.address)
        whole = asker.upload("go/on", word)
        where = asker.ask("POST", "/v2/go/on/blobs/uploads/").headers["location"]
        asker.ask("PATCH", where, b"begun, " + word)
    with our_registry(*flags) as second:
        asker = Asker(second.address)
        assert asker.ask("HEAD", f"/v2/go/on/blobs/{whole}").status == 200
        assert asker.ask("GET", where).headers["range"] == "0-14"
        elsewhere = where.replace("go/on", "go/off")
        assert asker.ask("GET", elsewhere).code == "BLOB_UPLOAD_UNKNOWN"
        digest = digest_of(b"begun, " + word + b" ended")
        assert asker.ask("PUT", f"{where}?digest={digest}", b" ended").status == 201
        assert asker.ask("GET", f"/v2/go/on/blobs/{digest}").status == 200


def test_other_algorithms_are_refused(served: OurRegistry) -> None:
    asker = Asker(served.address)
    got = asker.ask("POST", "/v2/al/go/blobs/uploads/?digest-algorithm=sha512")
    assert (got.status, got.code) == (400, "DIGEST_INVALID")
    where = asker.ask("POST", "/v2/al/go/blobs/uploads/").headers["location"]
    got = asker.ask("PUT", f"{where}?digest=sha512:{'0' * 128}", b"x")
    assert (got.status, got.code) == (400, "DIGEST_INVALID")
    assert asker.ask("GET", where).code == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize("kind", ["ours", "real"])
def test_a_full_disk(kind: str) -> None:
    with (
        containerd(kind, disk_bytes=12 << 20) as engine,
        our_registry("--engine", engine, "--engine-push", PUSHED) as running,
    ):
        asker = Asker(running.address)
        asker.image("fits/in", "1")
        where = asker.ask("POST", "/v2/too/large/blobs/uploads/").headers["location"]
        got = asker.ask("PATCH", where, bytes(24 << 20))
        assert got.status in {503, 507}, got
        assert "no space left on device" in got.body.decode()
        assert asker.ask("DELETE", where).status == 204
        assert asker.ask("GET", "/v2/fits/in/manifests/1").status == 200
        asker.image("fits/in", "2", b"after")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((f"--engine-push={PUSHED}",), "--engine-push needs --engine"),
        *(
            (("--engine=/nowhere", f"--engine-push={name}"), "invalid name of a registry")
            for name in ("docker.io", "a/b", "word")
        ),
    ],
)
def test_where_pushes_cannot_go(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    argv = program.command("barque-registry", "serve", "--address=127.0.0.1:0", *flags)
    done = subprocess.run([*argv, f"--root={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"barque-registry: {words}")


@pytest.fixture(scope="module")
def engine() -> Iterator[Stack]:
    with stack() as running:
        yield running


def images(engine: Stack) -> list[str]:
    listed = engine.docker("images", "--all", "--format={{.Repository}}:{{.Tag}} {{.Size}}")
    return listed.stdout.decode().splitlines()


def test_what_is_pushed_runs(engine: Stack, tmp_path: Path) -> None:
    """At once, without a pull, and with its size; what refers to it is no trouble to the list."""
    before = images(engine)
    archive = tmp_path / "busybox.tar"
    archive.write_bytes(docker_archive("busybox:latest", rootfs()))
    socket = engine.root / "r" / "containerd" / "containerd.sock"
    with our_registry("--engine", str(socket), "--engine-push", PUSHED) as running:
        running.push(f"docker-archive:{archive}", "team/box:1")
        asker = Asker(running.address)
        subject = asker.ask("GET", "/v2/team/box/manifests/1").headers["docker-content-digest"]
        about = {"mediaType": oci.OCI_MANIFEST, "digest": subject, "size": 1}
        signature = asker.image("team/box", "", b"s", subject=about, artifactType="a/signature")
        listed = asker.ask("GET", f"/v2/team/box/referrers/{subject}")
        assert [one["digest"] for one in json.loads(listed.body)["manifests"]] == [signature]
    done = engine.docker("run", "--rm", "--network=none", f"{PUSHED}/team/box:1", "echo", "here")
    assert done.stdout == b"here\n"
    (size,) = [line for line in images(engine) if line.startswith(f"{PUSHED}/team/box:1 ")]
    assert size.endswith("MB")
    engine.docker("rmi", f"{PUSHED}/team/box:1", f"{PUSHED}/team/box@{signature}")
    assert images(engine) == before
