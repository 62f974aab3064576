"""distribution-spec 1.1 by its own words, on our registry and on Debian's docker-registry."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from barque import program
from barque.oci import image as oci
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import Asker, descriptor, digest_of
from tests.support.registry_peer import free_port

pytestmark = [pytest.mark.root, pytest.mark.peer]

COMMAND = program.command("barque-registry")


def test_the_base(asker: Asker) -> None:
    got = asker.ask("GET", "/v2/")
    assert got.status == 200
    assert got.headers["docker-distribution-api-version"] == "registry/2.0"


def test_a_blob_in_one_piece(asker: Asker) -> None:
    data = bytes(range(256)) * 300
    digest = asker.upload("one/blob", data)
    got = asker.ask("GET", f"/v2/one/blob/blobs/{digest}")
    assert (got.status, got.body) == (200, data)
    head = asker.ask("HEAD", f"/v2/one/blob/blobs/{digest}")
    assert (head.status, head.headers["content-length"]) == (200, str(len(data)))
    assert head.headers["docker-content-digest"] == digest
    part = asker.ask("GET", f"/v2/one/blob/blobs/{digest}", Range="bytes=100-199")
    assert (part.status, part.body) == (206, data[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
    past = asker.ask("GET", f"/v2/one/blob/blobs/{digest}", Range=f"bytes={len(data)}-")
    assert past.status == 416


def test_a_blob_in_chunks(asker: Asker) -> None:
    parts = [b"a" * 5000, b"b" * 7000, b"c" * 10]
    where = asker.ask("POST", "/v2/in/chunks/blobs/uploads/").headers["location"]
    start = 0
    for part in parts[:2]:
        span = f"{start}-{start + len(part) - 1}"
        got = asker.ask("PATCH", where, part, Content_Range=span)
        assert got.status == 202
        start += len(part)
        assert got.headers["range"] == f"0-{start - 1}"
        where = got.headers["location"]
    status = asker.ask("GET", where)
    assert (status.status, status.headers["range"]) == (204, f"0-{start - 1}")
    whole = b"".join(parts)
    where = asker.ask("GET", where).headers["location"]
    query = f"{'&' if '?' in where else '?'}digest={digest_of(whole)}"
    done = asker.ask("PUT", where + query, parts[2])
    assert done.status == 201
    assert asker.ask("GET", f"/v2/in/chunks/blobs/{digest_of(whole)}").body == whole


def test_an_upload_that_is_not_what_it_says(asker: Asker) -> None:
    where = asker.ask("POST", "/v2/bad/blob/blobs/uploads/").headers["location"]
    wrong = digest_of(b"something else")
    got = asker.ask("PUT", f"{where}{'&' if '?' in where else '?'}digest={wrong}", b"data")
    assert (got.status, got.code) == (400, "DIGEST_INVALID")
    assert asker.ask("HEAD", f"/v2/bad/blob/blobs/{wrong}").status == 404


def test_an_upload_that_is_given_up(asker: Asker) -> None:
    where = asker.ask("POST", "/v2/given/up/blobs/uploads/").headers["location"]
    assert asker.ask("DELETE", where).status == 204
    assert asker.ask("GET", where).code == "BLOB_UPLOAD_UNKNOWN"


def test_a_mount(asker: Asker) -> None:
    digest = asker.upload("mount/from", b"mounted")
    query = f"mount={digest}&from=mount/from"
    got = asker.ask("POST", f"/v2/mount/to/blobs/uploads/?{query}")
    assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
    assert asker.ask("GET", f"/v2/mount/to/blobs/{digest}").body == b"mounted"
    absent = digest_of(b"nowhere")
    got = asker.ask("POST", f"/v2/mount/to/blobs/uploads/?mount={absent}&from=mount/from")
    assert got.status == 202
    assert asker.ask("DELETE", got.headers["location"]).status == 204


def test_a_blob_of_another_repository_is_not_here(asker: Asker) -> None:
    digest = asker.upload("secret/one", b"secret")
    asker.upload("other/one", b"other")
    assert asker.ask("GET", f"/v2/other/one/blobs/{digest}").code == "BLOB_UNKNOWN"


def test_manifests_by_tag_and_digest(asker: Asker) -> None:
    digest = asker.image("by/name", "1")
    by_tag = asker.ask("GET", "/v2/by/name/manifests/1", Accept=oci.OCI_MANIFEST)
    assert by_tag.headers["docker-content-digest"] == digest
    assert by_tag.headers["content-type"] == oci.OCI_MANIFEST
    by_digest = asker.ask("GET", f"/v2/by/name/manifests/{digest}", Accept=oci.OCI_MANIFEST)
    assert by_digest.body == by_tag.body
    head = asker.ask("HEAD", "/v2/by/name/manifests/1", Accept=oci.OCI_MANIFEST)
    assert (head.status, head.headers["content-length"]) == (200, str(len(by_tag.body)))
    other = asker.image("by/name", "1", b"b")
    moved = asker.ask("HEAD", "/v2/by/name/manifests/1", Accept=oci.OCI_MANIFEST)
    assert moved.headers["docker-content-digest"] == other
    before = asker.ask("HEAD", f"/v2/by/name/manifests/{digest}", Accept=oci.OCI_MANIFEST)
    assert before.status == 200


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/v2/no/such/manifests/1", "MANIFEST_UNKNOWN"),
        ("/v2/no/such/tags/list", "NAME_UNKNOWN"),
        (f"/v2/no/such/blobs/{digest_of(b'x')}", "BLOB_UNKNOWN NAME_UNKNOWN"),
    ],
)
def test_what_is_not_there(asker: Asker, target: str, code: str) -> None:
    got = asker.ask("GET", target)
    assert got.status == 404
    assert got.code in code.split()


def test_a_manifest_whose_blobs_are_missing(asker: Asker) -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": descriptor(oci.OCI_CONFIG, b"missing"),
        "layers": [],
    }
    raw = json.dumps(document).encode()
    got = asker.ask("PUT", "/v2/miss/ing/manifests/1", raw, Content_Type=oci.OCI_MANIFEST)
    assert got.status in {400, 404}
    assert got.code == "MANIFEST_BLOB_UNKNOWN"
    assert asker.ask("GET", "/v2/miss/ing/manifests/1").status == 404


@pytest.mark.parametrize("raw", [b"", b"{", b"[]"])
def test_what_is_no_manifest(asker: Asker, raw: bytes) -> None:
    got = asker.ask("PUT", "/v2/no/manifest/manifests/1", raw, Content_Type=oci.OCI_MANIFEST)
    assert (got.status, got.code) == (400, "MANIFEST_INVALID")


def test_the_catalog(asker: Asker) -> None:
    asker.image("cata/log", "1")
    assert "cata/log" in json.loads(asker.ask("GET", "/v2/_catalog").body)["repositories"]


def test_deletion(asker: Asker) -> None:
    digest = asker.image("de/lete", "1")
    assert asker.ask("DELETE", f"/v2/de/lete/manifests/{digest}").status == 202
    assert asker.ask("GET", f"/v2/de/lete/manifests/{digest}").status == 404
    assert asker.ask("GET", "/v2/de/lete/manifests/1").status == 404
    blob = asker.upload("de/lete", b"to be deleted")
    assert asker.ask("DELETE", f"/v2/de/lete/blobs/{blob}").status == 202
    assert asker.ask("HEAD", f"/v2/de/lete/blobs/{blob}").status == 404


# What our registry has beyond the peer's version


def test_tags_page_by_page(own: OurRegistry) -> None:
    asker = Asker(own.address)
    for tag in ("a", "b", "c", "d", "e"):
        asker.image("many/tags", tag)
    assert json.loads(asker.ask("GET", "/v2/many/tags/tags/list").body) == {
        "name": "many/tags",
        "tags": ["a", "b", "c", "d", "e"],
    }
    got = asker.ask("GET", "/v2/many/tags/tags/list?n=2")
    assert json.loads(got.body)["tags"] == ["a", "b"]
    following = got.headers["link"].partition("<")[2].partition(">")[0]
    assert json.loads(asker.ask("GET", following).body)["tags"] == ["c", "d"]
    last = asker.ask("GET", "/v2/many/tags/tags/list?n=10&last=d")
    assert json.loads(last.body)["tags"] == ["e"]
    assert "link" not in last.headers


def test_a_chunk_that_does_not_follow(own: OurRegistry) -> None:
    asker = Asker(own.address)
    where = asker.ask("POST", "/v2/out/of/order/blobs/uploads/").headers["location"]
    asker.ask("PATCH", where, b"12345", Content_Range="0-4")
    wrong = asker.ask("PATCH", where, b"x" * 5, Content_Range="3-7")
    assert (wrong.status, wrong.code) == (416, "BLOB_UPLOAD_INVALID")
    assert wrong.headers["range"] == "0-4"
    assert asker.ask("GET", "/v2/out/of/order/blobs/uploads/0123").code == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"schemaVersion": 2}',
        b'{"schemaVersion": 1, "fsLayers": []}',
        b'{"schemaVersion": 2, "config": {}, "layers": []}',
        b'{"schemaVersion": 2, "manifests": [], "layers": []}',
        b'{"schemaVersion": 2, "mediaType": "text/plain", "layers": []}',
        b"[" * 100_000,
    ],
)
def test_what_only_looks_like_a_manifest(own: OurRegistry, raw: bytes) -> None:
    asker = Asker(own.address)
    got = asker.ask("PUT", "/v2/no/manifest/manifests/1", raw, Content_Type=oci.OCI_MANIFEST)
    assert (got.status, got.code) == (400, "MANIFEST_INVALID")
    big = asker.ask("PUT", "/v2/no/manifest/manifests/1", bytes((4 << 20) + 1))
    assert (big.status, big.code) == (413, "SIZE_INVALID")


def test_a_tag_alone_is_deleted(own: OurRegistry) -> None:
    asker = Asker(own.address)
    digest = asker.image("untag/one", "1")
    assert asker.ask("DELETE", "/v2/untag/one/manifests/1").status == 202
    assert asker.ask("GET", "/v2/untag/one/manifests/1").status == 404
    assert asker.ask("GET", f"/v2/untag/one/manifests/{digest}").status == 200


def test_referrers(own: OurRegistry) -> None:
    asker = Asker(own.address)
    subject = asker.image("refer/red", "1")
    described = {"mediaType": oci.OCI_MANIFEST, "digest": subject, "size": 1}
    first = asker.image(
        "refer/red", "", b"s", subject=described, artifactType="a/sbom", annotations={"k": "v"}
    )
    second = asker.image("refer/red", "", b"t", subject=described, artifactType="a/signature")
    got = asker.ask("GET", f"/v2/refer/red/referrers/{subject}")
    assert got.headers["content-type"] == oci.OCI_INDEX
    found = {one["digest"]: one for one in json.loads(got.body)["manifests"]}
    assert set(found) == {first, second}
    assert found[first]["artifactType"] == "a/sbom"
    assert found[first]["annotations"] == {"k": "v"}
    only = asker.ask("GET", f"/v2/refer/red/referrers/{subject}?artifactType=a/signature")
    assert only.headers["oci-filters-applied"] == "artifactType"
    assert [one["digest"] for one in json.loads(only.body)["manifests"]] == [second]
    asker.ask("DELETE", f"/v2/refer/red/manifests/{first}")
    left = json.loads(asker.ask("GET", f"/v2/refer/red/referrers/{subject}").body)["manifests"]
    assert [one["digest"] for one in left] == [second]
    none = asker.ask("GET", f"/v2/refer/red/referrers/{digest_of(b'none')}")
    assert json.loads(none.body)["manifests"] == []


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    with our_registry(root=tmp_path) as first:
        asker = Asker(first.address)
        where = asker.ask("POST", "/v2/go/on/blobs/uploads/").headers["location"]
        asker.ask("PATCH", where, b"begun, ")
    with our_registry(root=tmp_path) as second:
        asker = Asker(second.address)
        assert asker.ask("GET", where).headers["range"] == "0-6"
        digest = digest_of(b"begun, ended")
        assert asker.ask("PUT", f"{where}?digest={digest}", b"ended").status == 201
        assert asker.ask("GET", f"/v2/go/on/blobs/{digest}").body == b"begun, ended"


def test_read_only(tmp_path: Path) -> None:
    with our_registry(root=tmp_path) as open_one:
        Asker(open_one.address).image("read/only", "1")
    with our_registry("--read-only", root=tmp_path) as closed:
        asker = Asker(closed.address)
        assert asker.ask("GET", "/v2/read/only/manifests/1").status == 200
        got = asker.ask("POST", "/v2/read/only/blobs/uploads/")
        assert (got.status, got.code) == (405, "UNSUPPORTED")


@pytest.mark.parametrize(
    "target",
    [
        "/v2/../../etc/passwd/tags/list",
        "/v2/a/..%2f..%2fb/tags/list",
        "/v2/UPPER/tags/list",
        "/v2/_oci/tags/list",
        "/v2/a//b/tags/list",
        "/v2/" + "a/" * 200 + "b/tags/list",
        "/v2/a/manifests/%00",
        "/v2/a/blobs/sha256:..%2f..%2fetc",
        "/v2/a/blobs/md5:" + "0" * 32,
        "/v2/a/tags/list?n=x",
        "/nonsense",
    ],
)
def test_hostile_names(own: OurRegistry, target: str) -> None:
    asker = Asker(own.address)
    asker.image("a", "1")
    got = asker.ask("GET", target)
    assert got.status in {400, 404}
    assert json.loads(got.body)["errors"]


def test_garbage(tmp_path: Path) -> None:
    with our_registry(root=tmp_path) as running:
        asker = Asker(running.address)
        kept = asker.image("col/lect", "1")
        gone = asker.image("col/lect", "", b"gone")
        loose = asker.upload("col/lect", b"loose")
        other = asker.image("other", "1", b"gone")
        argv = [*COMMAND, "gc", "--grace=0", "--untagged", f"--root={tmp_path}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert "removed 1 manifests" in done.stdout
        assert asker.ask("GET", f"/v2/col/lect/manifests/{kept}").status == 200
        assert asker.ask("GET", f"/v2/col/lect/manifests/{gone}").status == 404
        assert asker.ask("GET", f"/v2/col/lect/blobs/{loose}").status == 404
        assert asker.ask("GET", f"/v2/other/manifests/{other}").status == 200
        assert asker.ask("GET", f"/v2/other/blobs/{digest_of(b'layer gone')}").status == 200
        assert asker.ask("GET", f"/v2/col/lect/blobs/{digest_of(b'layer gone')}").status == 404
        assert not (tmp_path / "blobs/sha256" / loose.partition(":")[2]).exists()


def test_metrics(tmp_path: Path) -> None:
    port = free_port()
    with our_registry("--metrics-address", f"127.0.0.1:{port}", root=tmp_path) as running:
        Asker(running.address).ask("GET", "/v2/no/such/tags/list")
        text = Asker(f"127.0.0.1:{port}").ask("GET", "/metrics").body.decode()
    line = 'barque_registry_requests_total{method="GET",endpoint="other",status="404"} 1'
    assert line in text.splitlines()
