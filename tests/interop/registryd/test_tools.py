"""Other people's tools on our registry; users, tokens, TLS, caches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_peer import docker_peer
from tests.support.images import tar
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import Asker
from tests.support.registry_peer import registry_peer
from tests.support.token_server import certificate as made_certificate
from tests.support.token_server import signed
from tools.busybox_image import docker_archive, rootfs

pytestmark = [pytest.mark.root, pytest.mark.peer]

PASSWORD = "some secret"


def ran(*argv: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert not check or done.returncode == 0, (argv, done.stdout, done.stderr)
    return done


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    path.write_bytes(docker_archive("busybox:latest", rootfs()))
    return path


@pytest.fixture(scope="module")
def htpasswd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "htpasswd"
    ran("htpasswd", "-cbB", "-C", "5", str(path), "someone", PASSWORD)
    return path


@pytest.fixture
def storage() -> Iterator[list[str]]:
    """Arguments for podman and buildah that keep them apart from the machine's own."""
    root = tempfile.mkdtemp(prefix="bq-", dir="/tmp")
    yield ["--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"]
    shutil.rmtree(root)


def digest_at(address: str, reference: str, *flags: str) -> str:
    where = f"docker://{address}/{reference}"
    return str(json.loads(ran("skopeo", "inspect", *flags, where).stdout)["Digest"])


def test_skopeo_both_ways(own: OurRegistry, archive: Path, tmp_path: Path) -> None:
    own.push(f"docker-archive:{archive}", "skopeo/bb:1")
    plain = "--src-tls-verify=false"
    where = f"docker://{own.address}/skopeo/bb:1"
    target = f"oci:{tmp_path}/layout:1"
    ran(
        "skopeo",
        "copy",
        "--insecure-policy",
        plain,
        "--preserve-digests",
        where,
        f"dir:{tmp_path}/d",
    )
    ran("skopeo", "copy", "--insecure-policy", plain, where, target)
    found = digest_at(own.address, "skopeo/bb:1", "--tls-verify=false")
    manifest = (tmp_path / "d/manifest.json").read_bytes()
    assert ran("skopeo", "manifest-digest", f"{tmp_path}/d/manifest.json").stdout.strip() == found
    assert manifest == Asker(own.address).ask("GET", "/v2/skopeo/bb/manifests/1").body
    ran("skopeo", "delete", "--tls-verify=false", where)
    assert Asker(own.address).ask("GET", "/v2/skopeo/bb/manifests/1").status == 404


def test_a_repository_is_a_layout(own: OurRegistry, archive: Path, tmp_path: Path) -> None:
    push = ("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--format", "oci")
    ran(*push, f"docker-archive:{archive}", f"docker://{own.address}/lay/out:1")
    layout = own.root / "repositories/lay/out/_oci"
    ran("skopeo", "copy", "--insecure-policy", f"oci:{layout}:1", f"oci:{tmp_path}/copy:x")
    ran("umoci", "unpack", "--image", f"{layout}:1", f"{tmp_path}/unpacked")
    ran("umoci", "unpack", "--image", f"{tmp_path}/copy:x", f"{tmp_path}/bundle")
    assert (tmp_path / "bundle/rootfs/bin/busybox").exists()


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_podman_and_buildah(own: OurRegistry, archive: Path, storage: list[str], tool: str) -> None:
    name = f"{own.address}/{tool}/bb"
    own.push(f"docker-archive:{archive}", f"{tool}/bb:1")
    ran(tool, *storage, "pull", "--tls-verify=false", f"{name}:1")
    ran(tool, *storage, "tag", f"{name}:1", f"{name}:2")
    ran(tool, *storage, "push", "--tls-verify=false", f"{name}:2")
    ran(tool, *storage, "rmi", "-a", "-f")
    ran(tool, *storage, "pull", "--tls-verify=false", f"{name}:2")


def test_the_real_dockerd() -> None:
    with docker_peer() as peer, our_registry(netns=peer.netns) as registry:
        name = f"{registry.address}/docker/bb"
        peer.docker("tag", "busybox", f"{name}:1")
        peer.docker("push", f"{name}:1")
        peer.docker("tag", "busybox", f"{registry.address}/docker/again:1")
        mounted = peer.docker("push", f"{registry.address}/docker/again:1").stdout
        assert b"Mounted from docker/bb" in mounted
        before = peer.docker("image", "inspect", "-f", "{{.Id}}", f"{name}:1").stdout
        peer.docker("rmi", "-f", f"{name}:1", "busybox", f"{registry.address}/docker/again:1")
        peer.docker("pull", f"{name}:1")
        after = peer.docker("image", "inspect", "-f", "{{.Id}}", f"{name}:1").stdout
        assert before == after
        assert peer.docker("run", "--rm", "--net=none", f"{name}:1", "echo", "hi").stdout == b"hi\n"


@pytest.mark.parametrize("flags", [(), ("--tokens",)])
def test_users(htpasswd: Path, archive: Path, flags: tuple[str, ...]) -> None:
    with our_registry("--htpasswd", str(htpasswd), *flags) as registry:
        where = f"docker://{registry.address}/a/b:1"
        copy = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"]
        source = f"docker-archive:{archive}"
        ran(*copy, "--dest-creds", f"someone:{PASSWORD}", source, where)
        for bad in ((), ("--dest-creds", "someone:wrong"), ("--dest-creds", f"other:{PASSWORD}")):
            refused = ran(*copy, *bad, source, where, check=False)
            assert refused.returncode != 0
        inspect = ["skopeo", "inspect", "--tls-verify=false"]
        assert "unauthorized: authentication required" in ran(*inspect, where, check=False).stderr
        ran(*inspect, "--creds", f"someone:{PASSWORD}", where)
        got = Asker(registry.address).ask("GET", "/v2/")
        assert (got.status, got.code) == (401, "UNAUTHORIZED")
        assert got.headers["www-authenticate"].startswith("Bearer" if flags else "Basic")


def test_anonymous_pull(htpasswd: Path, archive: Path) -> None:
    flags = ("--htpasswd", str(htpasswd), "--tokens", "--anonymous-pull")
    with our_registry(*flags) as registry:
        where = f"docker://{registry.address}/a/b:1"
        copy = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"]
        ran(*copy, "--dest-creds", f"someone:{PASSWORD}", f"docker-archive:{archive}", where)
        ran("skopeo", "inspect", "--tls-verify=false", where)
        refused = ran(*copy, f"docker-archive:{archive}", where, check=False)
        assert refused.returncode != 0


def test_tls(tmp_path: Path, archive: Path) -> None:
    certificate, key = made_certificate(tmp_path, "registry")
    key.rename(key := tmp_path / "registry.pem")  # skopeo would take it for the client's
    with our_registry("--tls-cert", str(certificate), "--tls-key", str(key)) as registry:
        where = f"docker://{registry.address}/tls/bb:1"
        source = f"docker-archive:{archive}"
        flags = ("--dest-cert-dir", str(tmp_path))
        ran("skopeo", "copy", "--insecure-policy", *flags, source, where)
        digest_at(registry.address, "tls/bb:1", "--cert-dir", str(tmp_path))
        unknown = ran("skopeo", "inspect", where, check=False)
        assert "x509" in unknown.stderr


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_a_token_server(tmp_path: Path, kind: str) -> None:
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    how = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    if kind == "ES256":
        how = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    ran("openssl", "genpkey", *how, "-out", str(key))
    ran("openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public))
    flags = (
        *("--token-realm", "http://127.0.0.1:1/token", "--token-service", "here"),
        *("--token-issuer", "us", "--token-key", str(public)),
    )
    with our_registry(*flags) as registry:
        asker = Asker(registry.address)
        refused = asker.ask("POST", "/v2/a/b/blobs/uploads/")
        assert refused.headers["www-authenticate"] == (
            'Bearer realm="http://127.0.0.1:1/token",service="here",scope="repository:a/b:pull,push"'
        )
        access = [{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}]
        good = {"iss": "us", "aud": "here", "exp": int(time.time()) + 300, "access": access}

        def status(claims: dict[str, object], name: str = "a/b", alter: str = "") -> int:
            token = signed(key, claims, kind) + alter
            target = f"/v2/{name}/blobs/uploads/"
            return asker.ask("POST", target, Authorization=f"Bearer {token}").status

        assert status(good) == 202
        assert status(good, name="a/c") == 401
        assert status(good, alter="A") == 401
        assert status({**good, "iss": "them"}) == 401
        assert status({**good, "aud": "there"}) == 401
        assert status({**good, "exp": 1}) == 401
        assert status({**good, "access": []}) == 401


@pytest.mark.parametrize("upstream", ["ours", "docker-registry"])
def test_a_cache(archive: Path, tmp_path: Path, upstream: str) -> None:
    origin = our_registry() if upstream == "ours" else registry_peer()
    with origin as first:
        first.push(f"docker-archive:{archive}", "far/away:1")
        wanted = digest_at(first.address, "far/away:1", "--tls-verify=false")
        with our_registry("--cache-of", f"http://{first.address}") as cache:
            where = f"docker://{cache.address}/far/away:1"
            flags = ("--insecure-policy", "--src-tls-verify=false")
            ran("skopeo", "copy", *flags, where, f"oci:{tmp_path}/one:x")
            assert digest_at(cache.address, "far/away:1", "--tls-verify=false") == wanted
            missing = Asker(cache.address).ask("GET", "/v2/far/nothing/manifests/1")
            assert missing.status == 404
            assert Asker(cache.address).ask("POST", "/v2/far/away/blobs/uploads/").status == 405
            kept = [path.name for path in (cache.root / "uploads").iterdir()]
            assert kept == []
            first_layer = tar(("moved", b"moved"))
            moved = tmp_path / "moved.tar"
            moved.write_bytes(docker_archive("moved:1", first_layer))
            first.push(f"docker-archive:{moved}", "far/away:1")
            assert digest_at(cache.address, "far/away:1", "--tls-verify=false") != wanted
            by_digest = f"docker://{cache.address}/far/away@{wanted}"
            ran("skopeo", "copy", *flags, by_digest, f"oci:{tmp_path}/two:x")


def test_a_cache_without_its_origin(archive: Path, tmp_path: Path) -> None:
    with our_registry() as first:
        first.push(f"docker-archive:{archive}", "far/away:1")
        origin = first.address
        with our_registry("--cache-of", f"http://{origin}", root=tmp_path) as cache:
            where = f"docker://{cache.address}/far/away:1"
            flags = ("--insecure-policy", "--src-tls-verify=false")
            ran("skopeo", "copy", *flags, where, f"dir:{tmp_path}-out")
    with our_registry("--cache-of", f"http://{origin}", root=tmp_path) as cache:
        where = f"docker://{cache.address}/far/away:1"
        ran("skopeo", "copy", *flags, where, f"dir:{tmp_path}-again")
        gone = Asker(cache.address).ask("GET", "/v2/never/seen/manifests/1")
        assert (gone.status, gone.code) == (503, "UNAVAILABLE")
