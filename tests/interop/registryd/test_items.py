"""What docs/registry.md lists beyond the plain road: limits, rights, errors, collection."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from barque import program
from barque.oci import image as oci
from tests.support.disks import small_disk
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import (
    PEERS,
    Asker,
    descriptor,
    digest_of,
)
from tests.support.registry_peer import registry_peer
from tests.support.scripted_registry import Asked, response, scripted_registry

pytestmark = [pytest.mark.root, pytest.mark.peer]

USERS = ("alice", "bob")
COMMAND = program.command("barque-registry")
PASSWORD = "some secret"
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def htpasswd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "htpasswd"
    path.touch()
    for user in USERS:
        argv = ["htpasswd", "-bB", "-C", "5", str(path), user, PASSWORD]
        subprocess.run(argv, check=True, capture_output=True)
    return path


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def basic(user: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("bytes=-100", (900, 1000)), ("bytes=990-5000", (990, 1000)), ("bytes=0-0", (0, 1))],
)
def test_ranges(asker: Asker, wanted: str, expected: tuple[int, int]) -> None:
    data = bytes(range(250)) * 4
    digest = asker.upload("ran/ges", data)
    got = asker.ask("GET", f"/v2/ran/ges/blobs/{digest}", Range=wanted)
    assert (got.status, got.body) == (206, data[slice(*expected)])
    assert got.headers["content-range"] == f"bytes {expected[0]}-{expected[1] - 1}/1000"


def test_a_blob_in_the_first_request(asker: Asker) -> None:
    data = b"at once"
    target = f"/v2/at/once/blobs/uploads/?digest={digest_of(data)}"
    got = asker.ask("POST", target, data, Content_Type="application/octet-stream")
    if got.status == 202:  # a registry need not take it so
        where = got.headers["location"]
        query = f"{'&' if '?' in where else '?'}digest={digest_of(data)}"
        got = asker.ask("PUT", where + query, data)
    assert got.status == 201
    assert asker.ask("GET", f"/v2/at/once/blobs/{digest_of(data)}").body == data


def test_a_blob_deleted_in_one_repository_stays_in_another(asker: Asker) -> None:
    """CVE-2026-35172: nor is it to be had in the first one again."""
    digest = asker.upload("one/here", b"shared")
    asker.upload("two/here", b"shared")
    assert asker.ask("HEAD", f"/v2/one/here/blobs/{digest}").status == 200
    assert asker.ask("DELETE", f"/v2/one/here/blobs/{digest}").status == 202
    for _ in range(2):
        assert asker.ask("GET", f"/v2/one/here/blobs/{digest}").status == 404
        assert asker.ask("GET", f"/v2/two/here/blobs/{digest}").body == b"shared"


@pytest.mark.parametrize("count", ["2147483648", "9" * 30, "-1"])
def test_pages_are_bounded(asker: Asker, count: str) -> None:
    """CVE-2023-2253."""
    asker.image("some/where", "1")
    got = asker.ask("GET", f"/v2/_catalog?n={count}")
    assert got.status in {200, 400}
    if got.status == 400:
        assert got.code == "PAGINATION_NUMBER_INVALID"


@pytest.mark.parametrize("kind", list(PEERS))
def test_nothing_is_deleted(kind: str) -> None:
    """CVE-2026-41888: the switch holds for tags, manifests and blobs."""
    ours = kind == "ours"
    with our_registry("--no-delete") if ours else registry_peer(deletes=False) as running:
        asker = Asker(running.address)
        digest = asker.image("kept/here", "1")
        blob = asker.upload("kept/here", b"kept")
        targets = [f"manifests/{digest}", f"blobs/{blob}", *(["manifests/1"] if ours else [])]
        for target in targets:
            got = asker.ask("DELETE", f"/v2/kept/here/{target}")
            assert (got.status, got.code) == (405, "UNSUPPORTED")
        assert asker.ask("HEAD", "/v2/kept/here/manifests/1", Accept=oci.OCI_MANIFEST).status == 200
        where = asker.ask("POST", "/v2/kept/here/blobs/uploads/").headers["location"]
        assert asker.ask("DELETE", where).status == 204


# What our registry has beyond the peer's version


def test_a_chunk_out_of_order(own: OurRegistry) -> None:
    asker = Asker(own.address)
    where = asker.ask("POST", "/v2/out/of/order/blobs/uploads/").headers["location"]
    where = asker.ask("PATCH", where, b"12345", Content_Range="0-4").headers["location"]
    again = asker.ask("PATCH", where, b"12345", Content_Range="0-4")
    assert again.status == 416
    beyond = asker.ask("PATCH", where, b"12345", Content_Range="7-11")
    assert beyond.status == 416
    status = asker.ask("GET", where)
    assert status.headers["range"] == "0-4"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_algorithm_of_a_digest(own: OurRegistry, algorithm: str) -> None:
    asker = Asker(own.address)
    data = f"by {algorithm}".encode()
    digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    target = f"/v2/al/go/blobs/uploads/?digest-algorithm={algorithm}"
    where = asker.ask("POST", target).headers["location"]
    asker.ask("PATCH", where, data[:4], Content_Range="0-3")
    assert asker.ask("PUT", f"{where}?digest={digest}", data[4:]).status == 201
    assert asker.ask("GET", f"/v2/al/go/blobs/{digest}").body == data
    wrong = asker.ask("POST", "/v2/al/go/blobs/uploads/?digest-algorithm=md5")
    assert (wrong.status, wrong.code) == (400, "DIGEST_INVALID")


def test_a_manifest_with_several_tags(own: OurRegistry) -> None:
    asker = Asker(own.address)
    asker.image("tag/ged", "first")
    raw = asker.ask("GET", "/v2/tag/ged/manifests/first").body
    target = f"/v2/tag/ged/manifests/{digest_of(raw)}?tag=a&tag=b"
    got = asker.ask("PUT", target, raw, Content_Type=oci.OCI_MANIFEST)
    assert (got.status, got.headers["oci-tag"]) == (201, "a, b")
    assert json.loads(asker.ask("GET", "/v2/tag/ged/tags/list").body)["tags"] == ["a", "b", "first"]
    bad = asker.ask("PUT", target + "&tag=-", raw, Content_Type=oci.OCI_MANIFEST)
    assert (bad.status, bad.code) == (400, "TAG_INVALID")
    many = "&".join(f"tag=t{number}" for number in range(101))
    far = asker.ask(
        "PUT", target.partition("?")[0] + "?" + many, raw, Content_Type=oci.OCI_MANIFEST
    )
    assert far.status == 414


def test_a_subject_is_told_of(own: OurRegistry) -> None:
    asker = Asker(own.address)
    missing = {"mediaType": oci.OCI_MANIFEST, "digest": digest_of(b"not here yet"), "size": 12}
    config = descriptor("application/vnd.oci.empty.v1+json", b"{}")
    asker.upload("sub/ject", b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "artifactType": "a/sbom",
        "config": config,
        "layers": [config],
        "subject": missing,
    }
    raw = json.dumps(document).encode()
    target = f"/v2/sub/ject/manifests/{digest_of(raw)}"
    got = asker.ask("PUT", target, raw, Content_Type=oci.OCI_MANIFEST)
    assert (got.status, got.headers["oci-subject"]) == (201, missing["digest"])
    listed = asker.ask("GET", f"/v2/sub/ject/referrers/{missing['digest']}")
    assert [one["digest"] for one in json.loads(listed.body)["manifests"]] == [digest_of(raw)]
    bad = asker.ask("GET", "/v2/sub/ject/referrers/sha256:1")
    assert (bad.status, bad.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("flags", [(), ("--tokens",)])
def test_who_may_push(htpasswd: Path, flags: tuple[str, ...]) -> None:
    with our_registry("--htpasswd", str(htpasswd), "--push-users", "alice", *flags) as running:
        asker = Asker(running.address)
        start = "/v2/a/b/blobs/uploads/"

        def rights(user: str, actions: str) -> str:
            if not flags:
                return basic(user)
            target = f"/token?service=x&scope=repository:a/b:{actions}"
            answer = asker.ask("GET", target, Authorization=basic(user))
            return "Bearer " + str(json.loads(answer.body)["token"])

        assert asker.ask("POST", start).code == "UNAUTHORIZED"
        alice, bob = (rights(user, "pull,push") for user in USERS)
        assert asker.ask("POST", start, Authorization=alice).status == 202
        refused = asker.ask("POST", start, Authorization=bob)
        wanted = (401, "UNAUTHORIZED") if flags else (403, "DENIED")
        assert (refused.status, refused.code) == wanted
        allowed = asker.ask("GET", "/v2/a/b/tags/list", Authorization=bob)
        assert allowed.status in {200, 404}


def test_too_many_connections() -> None:
    with our_registry("--max-connections", "1") as running:
        first = http.client.HTTPConnection(running.address, timeout=30)
        with closing(first):
            first.request("GET", "/v2/")
            first.getresponse().read()
            got = Asker(running.address).ask("GET", "/v2/")
            assert (got.status, got.code) == (429, "TOOMANYREQUESTS")
            assert got.headers["retry-after"] == "1"


def test_a_full_disk() -> None:
    with small_disk(4 << 20) as root, our_registry(root=root) as running:
        asker = Asker(running.address)
        asker.image("fits/in", "1")
        where = asker.ask("POST", "/v2/too/large/blobs/uploads/").headers["location"]
        got = asker.ask("PUT", f"{where}?digest={digest_of(bytes(8 << 20))}", bytes(8 << 20))
        assert (got.status, got.code) == (507, "UNKNOWN")
        assert asker.ask("DELETE", where).status == 204
        assert asker.ask("GET", "/v2/fits/in/manifests/1").status == 200
        asker.image("fits/in", "2", b"after")


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256", "jwk": {}}])
def test_a_token_that_brings_its_own_key(tmp_path: Path, header: dict[str, object]) -> None:
    """CVE-2025-24976: nothing in a token says how it is to be checked."""
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    for argv in (
        ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)),
        ("pkey", "-in", str(key), "-pubout", "-out", str(public)),
    ):
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    flags = ("--token-realm", "http://127.0.0.1:1/t", "--token-service", "here")
    with our_registry(*flags, "--token-issuer", "us", "--token-key", str(public)) as running:
        access = [{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}]
        claims = {"iss": "us", "aud": "here", "exp": 1 << 40, "access": access}
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in (header, claims)
        ]
        for signature in ("", "AAAA"):
            token = ".".join([*parts, signature])
            got = Asker(running.address).ask(
                "POST", "/v2/a/b/blobs/uploads/", Authorization=f"Bearer {token}"
            )
            assert got.status == 401


def test_collection_while_images_come_and_go(tmp_path: Path) -> None:
    """Nothing that is pushed meanwhile is lost; what was deleted goes."""
    with our_registry(root=tmp_path) as running:
        ended = threading.Event()
        kept: dict[str, str] = {}

        def push(number: int) -> None:
            asker = Asker(running.address)
            count = 0
            while not ended.is_set() or count < 3:
                name, tag = f"re/po{number}", f"t{count}"
                digest = asker.image(name, tag, f"{number} {count}".encode())
                if count % 3 == 2:
                    asker.ask("DELETE", f"/v2/{name}/manifests/{digest}")
                else:
                    kept[f"{name}/manifests/{tag}"] = f"layer {number} {count}"
                count += 1

        pushing = [threading.Thread(target=push, args=(number,)) for number in range(2)]
        for thread in pushing:
            thread.start()
        try:
            for _ in range(4):
                argv = [*COMMAND, "gc", "--untagged", f"--root={tmp_path}"]
                subprocess.run(argv, check=True, capture_output=True)
        finally:
            ended.set()
            for thread in pushing:
                thread.join()
        argv = [*COMMAND, "gc", "--grace=0", f"--root={tmp_path}"]
        subprocess.run(argv, check=True, capture_output=True)
        asker = Asker(running.address)
        for where, layer in kept.items():
            assert asker.ask("GET", f"/v2/{where}").status == 200
            name = where.partition("/manifests/")[0]
            digest = digest_of(layer.encode())
            assert asker.ask("GET", f"/v2/{name}/blobs/{digest}").body == layer.encode()
        assert asker.ask("HEAD", f"/v2/re/po0/blobs/{digest_of(b'layer 0 2')}").status == 404


def test_what_nobody_asks_for_expires(tmp_path: Path) -> None:
    """Its bytes go too; it is fetched again, while the other registry is there."""
    flags = ("--cache-expiry=1", "--gc-grace=0", "--gc-interval=1")
    with our_registry() as origin:
        digest = Asker(origin.address).image("ex/pires", "1")
        layer = digest_of(b"layer a")
        files = [tmp_path / "blobs/sha256" / one[7:] for one in (digest, layer)]
        with our_registry(f"--cache-of=http://{origin.address}", *flags, root=tmp_path) as cache:
            asker = Asker(cache.address)
            for _ in range(2):
                assert asker.ask("GET", "/v2/ex/pires/manifests/1").status == 200
                assert asker.ask("GET", f"/v2/ex/pires/blobs/{layer}").body == b"layer a"
                until(lambda: not any(file.exists() for file in files))
    with our_registry(f"--cache-of=http://{origin.address}", *flags, root=tmp_path) as cache:
        assert Asker(cache.address).ask("GET", "/v2/ex/pires/manifests/1").status == 503


@pytest.mark.parametrize("kind", list(PEERS))
def test_discovery_through_a_cache(kind: str) -> None:
    """Tags and referrers are those of the other registry, not only what was asked for so far."""
    with PEERS[kind]() as origin, our_registry("--cache-of", f"http://{origin.address}") as cache:
        asker = Asker(origin.address)
        subject = asker.image("dis/cover", "one")
        asker.image("dis/cover", "two", b"b")
        found = Asker(cache.address).ask("GET", "/v2/dis/cover/tags/list")
        assert json.loads(found.body)["tags"] == ["one", "two"]
        about = {"mediaType": oci.OCI_MANIFEST, "digest": subject, "size": 1}
        if kind == "ours":
            signature = asker.image("dis/cover", "", b"c", subject=about, artifactType="a/sig")
            target = f"/v2/dis/cover/referrers/{subject}?artifactType=a/sig"
            listed = json.loads(Asker(cache.address).ask("GET", target).body)["manifests"]
            assert [one["digest"] for one in listed] == [signature]
        missing = Asker(cache.address).ask("GET", "/v2/no/such/tags/list")
        assert (missing.status, missing.code) == (404, "NAME_UNKNOWN")


def test_a_cache_keeps_its_credentials_from_a_hostile_realm(tmp_path: Path) -> None:
    """CVE-2026-33540: the other registry names a token server under another domain."""
    secret = tmp_path / "credentials"
    secret.write_text("someone:canary\n")
    realm = 'Bearer realm="http://token.example/token",service="x"'

    def answer(asked: Asked) -> bytes:
        return response(401, b"", {"WWW-Authenticate": realm})

    async def run() -> tuple[int, list[Asked]]:
        async with scripted_registry(answer) as hostile:
            flags = (f"--cache-of=http://{hostile.address}", f"--cache-credentials={secret}")

            def ask() -> int:
                with our_registry(*flags) as cache:
                    return Asker(cache.address).ask("GET", "/v2/a/b/manifests/1").status

            return await asyncio.to_thread(ask), hostile.asked

    status, asked = asyncio.run(run())
    assert status == 503
    assert asked
    assert not any("authorization" in one.headers for one in asked)
