"""The images of a containerd, ours or the real one, served as a registry without a copy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque import program
from barque.oci import image as oci
from tests.interop.registryd.test_tools import digest_at, ran
from tests.support.containerds import containerd
from tests.support.images import tar
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import Asker, descriptor, digest_of
from tools.busybox_image import docker_archive

pytestmark = [pytest.mark.root, pytest.mark.peer]

LAYER = tar(("etc/hello", b"hello\n"), ("large", bytes(3 << 20)))
NAMES = ("docker.io/library/hello:1", "127.0.0.1:5000/local/app:2", "far.example:5000/team/app:3")


@pytest.fixture(scope="module", params=["ours", "real"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with containerd(request.param) as running:
        yield running


def ctr(address: str, *words: str) -> None:
    ran("ctr", "--address", address, "--namespace", "moby", *words)


@pytest.fixture(scope="module")
def served(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurRegistry]:
    archive = tmp_path_factory.mktemp("image") / "hello.tar"
    archive.write_bytes(docker_archive("hello:1", LAYER))
    ctr(address, "images", "import", "--no-unpack", "--snapshotter", "native", str(archive))
    for name in NAMES[1:]:
        ctr(address, "images", "tag", NAMES[0], name)
    with our_registry("--engine", address) as running:
        yield running


def test_tools_pull_from_it(served: OurRegistry, tmp_path: Path) -> None:
    found = set()
    for number, name in enumerate(("library/hello:1", "local/app:2", "far.example/team/app:3")):
        found.add(digest_at(served.address, name, "--tls-verify=false"))
        flags = ("--insecure-policy", "--src-tls-verify=false")
        ran(
            "skopeo",
            "copy",
            *flags,
            f"docker://{served.address}/{name}",
            f"dir:{tmp_path}/{number}",
        )
    assert len(found) == 1
    assert not any(served.root.iterdir())


def test_names_tags_and_pages(served: OurRegistry) -> None:
    asker = Asker(served.address)
    names = json.loads(asker.ask("GET", "/v2/_catalog").body)["repositories"]
    assert names == ["far.example/team/app", "library/hello", "local/app"]
    assert json.loads(asker.ask("GET", "/v2/local/app/tags/list").body)["tags"] == ["2"]
    assert asker.ask("GET", "/v2/no/such/tags/list").code == "NAME_UNKNOWN"
    by_space = asker.ask("GET", "/v2/team/app/manifests/3?ns=far.example:5000")
    assert by_space.status == 200
    assert asker.ask("GET", "/v2/team/app/manifests/3").code == "MANIFEST_UNKNOWN"


def test_blobs_and_ranges(served: OurRegistry) -> None:
    asker = Asker(served.address)
    manifest = asker.ask("GET", "/v2/library/hello/manifests/1")
    document = json.loads(manifest.body)
    if "manifests" in document:
        digest = document["manifests"][0]["digest"]
        document = json.loads(asker.ask("GET", f"/v2/library/hello/manifests/{digest}").body)
    layer = document["layers"][0]
    where = f"/v2/library/hello/blobs/{layer['digest']}"
    assert asker.ask("HEAD", where).headers["content-length"] == str(layer["size"])
    whole = asker.ask("GET", where)
    assert digest_of(whole.body) == layer["digest"]
    part = asker.ask("GET", where, Range="bytes=100-199")
    assert (part.status, part.body) == (206, whole.body[100:200])
    assert asker.ask("GET", f"/v2/library/hello/blobs/{digest_of(b'no')}").code == "BLOB_UNKNOWN"


def test_nothing_is_written(served: OurRegistry) -> None:
    asker = Asker(served.address)
    got = asker.ask("POST", "/v2/library/hello/blobs/uploads/")
    assert (got.status, got.code) == (405, "UNSUPPORTED")
    assert asker.ask("DELETE", "/v2/library/hello/manifests/1").status == 405


def test_what_comes_later_is_there(served: OurRegistry, address: str) -> None:
    asker = Asker(served.address)
    assert asker.ask("GET", "/v2/come/later/manifests/1").status == 404
    ctr(address, "images", "tag", NAMES[0], "docker.io/come/later:1")
    got = asker.ask("GET", "/v2/come/later/manifests/1")
    assert got.status == 200
    digest = got.headers["docker-content-digest"]
    assert asker.ask("GET", f"/v2/come/later/manifests/{digest}").body == got.body
    ctr(address, "images", "rm", "docker.io/come/later:1")
    assert asker.ask("GET", "/v2/come/later/manifests/1").status == 404


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    argv = program.command("barque-registry", "serve", "--engine", str(tmp_path / "no.sock"))
    done = subprocess.run([*argv, "--address=127.0.0.1:0"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no.sock" in done.stderr


def test_what_refers_to_an_image_of_the_engine(
    served: OurRegistry, address: str, tmp_path: Path
) -> None:
    """An artifact that was loaded beside the image, under a name of the same repository."""
    asker = Asker(served.address)
    subject = asker.ask("GET", "/v2/library/hello/manifests/1").headers["docker-content-digest"]
    config = descriptor(oci.OCI_CONFIG, b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "artifactType": "a/sbom",
        "config": config,
        "layers": [],
        "subject": {"mediaType": oci.OCI_MANIFEST, "digest": subject, "size": 1},
    }
    raw = json.dumps(document).encode()
    notes = {"io.containerd.image.name": "docker.io/library/hello:sbom"}
    index = {
        "schemaVersion": 2,
        "manifests": [{**descriptor(oci.OCI_MANIFEST, raw), "annotations": notes}],
    }
    members = [("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')]
    members += [(f"blobs/sha256/{digest_of(blob)[7:]}", blob) for blob in (b"{}", raw)]
    members += [("index.json", json.dumps(index).encode())]
    path = tmp_path / "sbom.tar"
    path.write_bytes(tar(*members))
    ctr(address, "images", "import", "--no-unpack", "--all-platforms", str(path))
    listed = asker.ask("GET", f"/v2/library/hello/referrers/{subject}?artifactType=a/sbom")
    assert [one["digest"] for one in json.loads(listed.body)["manifests"]] == [digest_of(raw)]
    ctr(address, "images", "rm", "docker.io/library/hello:sbom")
