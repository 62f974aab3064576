"""Ways to a registry: mirrors, proxies, shared blobs, whole indexes."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import json
import socket
import socketserver
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barque import errors
from barque.registry import Credentials, Policy, Proxies
from tests.support.images import Bench, bench, tar
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_asker import PEERS
from tests.support.registry_peer import registry_peer
from tests.support.scripted_registry import Asked, response, scripted_registry
from tools.busybox_image import docker_archive

pytestmark = [pytest.mark.root, pytest.mark.peer]

LAYER = tar(("etc/hello", b"hello\n"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "hello.tar"
    path.write_bytes(docker_archive("hello:latest", LAYER))
    return path


def on(
    address: str, body: Callable[[Bench], Awaitable[None]], policy: Policy | None = None
) -> None:
    async def run() -> None:
        async with bench(address) as made:
            if policy is not None:
                made.images.reload(policy, 3, 5)
            await body(made)

    asyncio.run(run())


def test_docker_hub_by_its_mirrors(address: str, archive: Path) -> None:
    with our_registry() as empty, our_registry() as mirror:
        mirror.push(f"docker-archive:{archive}", "library/hello:1")
        policy = Policy(
            mirrors=("http://127.0.0.1:1", f"http://{empty.address}", f"http://{mirror.address}/")
        )

        async def body(b: Bench) -> None:
            lines = await b.pull("hello", "1")
            assert lines[-1]["status"] == "Status: Downloaded newer image for hello:1"
            found = await b.images.inspect("hello:1", (1, 47))
            assert found["RepoTags"] == ["hello:1"]

        on(address, body, policy)


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Answers whole URLs by asking `upstream`, whatever host they name."""

    upstream = ""
    asked: list[str] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers.get('Proxy-Authorization', '')}")
        target = "/" + self.path.split("/", 3)[3]
        connection = http.client.HTTPConnection(self.upstream)
        connection.request("GET", target, headers={"Accept": self.headers.get("Accept", "*/*")})
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Type", "Docker-Content-Digest"):
            if value := answer.getheader(name):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    """Where `handler` answers, a thread for each connection."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def proxy(upstream: str) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (_Proxy,), {"upstream": upstream, "asked": asked})
    with serving(handler) as address:
        yield address, asked


def test_a_proxy_for_plain_http(address: str, archive: Path) -> None:
    with our_registry() as registry, proxy(registry.address) as (where, asked):
        registry.push(f"docker-archive:{archive}", "far/hello:1")
        policy = Policy(
            insecure=frozenset({"registry.test:5000"}),
            mirrors=("http://registry.test:5000",),
            proxies=Proxies(http=f"http://me:secret@{where}"),
        )

        async def body(b: Bench) -> None:
            await b.pull("far/hello", "1")

        on(address, body, policy)
        assert asked
        assert all(one.startswith("http://registry.test:5000/v2/far/hello/") for one in asked)
        assert all(one.endswith("Basic bWU6c2VjcmV0") for one in asked)


@pytest.mark.parametrize("status", [200, 407])
def test_a_tunnel_for_tls(address: str, archive: Path, tmp_path: Path, status: int) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "registry.test" / "ca.crt"
    certificate.parent.mkdir()
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"),
            *("-subj", "/CN=registry.test", "-addext"),
            "subjectAltName=DNS:registry.test,IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )
    with our_registry("--tls-cert", str(certificate), "--tls-key", str(key)) as registry:
        subprocess.run(
            [
                *(
                    "skopeo",
                    "copy",
                    "--insecure-policy",
                    "--dest-cert-dir",
                    str(certificate.parent),
                ),
                *(f"docker-archive:{archive}", f"docker://{registry.address}/far/hello:1"),
            ],
            check=True,
            capture_output=True,
        )
        with tunnel(registry, status) as (where, asked):
            policy = Policy(certificates=str(tmp_path), proxies=Proxies(https=f"http://{where}"))

            async def body(b: Bench) -> None:
                lines = await b.lines(
                    lambda p: b.images.pull("registry.test/far/hello", "1", None, Credentials(), p)
                )
                assert lines[-1]["status"].startswith("Status: Downloaded newer image")

            if status == 200:
                on(address, body, policy)
            else:
                with pytest.raises(Exception, match=r"proxy 127\.0\.0\.1:\d+: status 407"):
                    on(address, body, policy)
            assert set(asked) == {"CONNECT registry.test:443 HTTP/1.1"}


@contextmanager
def tunnel(registry: OurRegistry, status: int) -> Iterator[tuple[str, list[str]]]:
    """A proxy that connects everyone to the registry."""
    asked: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().decode().strip())
            while self.rfile.readline().strip():
                pass
            self.wfile.write(f"HTTP/1.1 {status} Whatever\r\n\r\n".encode())
            if status != 200:
                return
            host, _, port = registry.address.rpartition(":")
            with socket.create_connection((host, int(port))) as onward:
                back = threading.Thread(target=_pump, args=(onward, self.request), daemon=True)
                back.start()
                _pump(self.request, onward)
                back.join()

    with serving(Handler) as address:
        yield address, asked


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.parametrize("kind", ["ours", "docker-registry"])
def test_a_blob_that_the_registry_has_is_not_sent_again(
    address: str, archive: Path, kind: str
) -> None:
    with our_registry() if kind == "ours" else registry_peer() as registry:
        registry.push(f"docker-archive:{archive}", "one/hello:1")

        async def body(b: Bench) -> None:
            await b.pull(f"{registry.address}/one/hello", "1")
            target = f"{registry.address}/two/hello"
            await b.images.tag(f"{registry.address}/one/hello:1", target, "1")
            lines = await b.lines(lambda p: b.images.push(target, "1", Credentials(), p))
            words = {line.get("status") for line in lines}
            assert "Mounted from one/hello" in words
            again = await b.lines(lambda p: b.images.push(target, "1", Credentials(), p))
            assert "Layer already exists" in {line.get("status") for line in again}

        on(address, body)


def test_an_index_goes_whole(address: str, archive: Path, tmp_path: Path) -> None:
    with our_registry() as registry:
        registry.push(f"docker-archive:{archive}", "single:1")
        asked = http.client.HTTPConnection(registry.address)
        asked.request("GET", "/v2/single/manifests/1")
        answer = asked.getresponse()
        raw, kind = answer.read(), answer.getheader("Content-Type")
        platform = {"os": "linux", "architecture": "amd64"}
        entry = {
            "mediaType": kind,
            "digest": answer.getheader("Docker-Content-Digest"),
            "size": len(raw),
            "platform": platform,
        }
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        }
        sent = json.dumps(index).encode()
        asked.request(
            "PUT", "/v2/single/manifests/multi", sent, {"Content-Type": str(index["mediaType"])}
        )
        assert asked.getresponse().status == 201

        async def body(b: Bench) -> None:
            source = f"{registry.address}/single"
            await b.pull(source, "multi")
            target = f"{registry.address}/other"
            await b.images.tag(f"{source}:multi", target, "1")
            await b.lines(lambda p: b.images.push(target, "1", Credentials(), p))

        on(address, body)
        asked = http.client.HTTPConnection(registry.address)
        asked.request("GET", "/v2/other/manifests/1")
        assert asked.getresponse().read() == sent


def test_search(address: str) -> None:
    results = [
        {"name": "one", "description": "the one", "star_count": 5, "is_official": True},
        {"name": "two", "star_count": 1, "unknown": 3},
        "nonsense",
    ]

    def answer(asked: Asked) -> bytes:
        if asked.path.startswith("/v1/search"):
            return response(200, json.dumps({"results": results}).encode())
        return response(404, b"")

    async def body(b: Bench) -> None:
        async with scripted_registry(answer) as registry:
            term = f"{registry.address}/some word"
            found = await b.images.search(term, 0, {}, Credentials())
            assert [one["name"] for one in found] == ["one", "two"]
            assert found[0]["description"] == "the one"
            official = await b.images.search(term, 7, {"is-official": ["true"]}, Credentials())
            assert [one["name"] for one in official] == ["one"]
            starred = await b.images.search(term, 7, {"stars": ["2"]}, Credentials())
            assert [one["name"] for one in starred] == ["one"]
            with pytest.raises(errors.InvalidArgument, match="outside the range"):
                await b.images.search(term, 101, {}, Credentials())
            with pytest.raises(errors.InvalidArgument, match="invalid filter"):
                await b.images.search(term, 1, {"nonsense": ["1"]}, Credentials())

    on(address, body)


@pytest.mark.parametrize("kind", list(PEERS))
def test_a_registry_without_search(address: str, kind: str) -> None:
    with PEERS[kind]() as registry:

        async def body(b: Bench) -> None:
            with pytest.raises(errors.Unavailable, match=r"^Unexpected status code 404$"):
                await b.images.search(f"{registry.address}/word", 0, {}, Credentials())

        on(address, body)


def test_an_image_at_its_registry(address: str, archive: Path) -> None:
    with our_registry() as registry:
        registry.push(f"docker-archive:{archive}", "far/hello:1")

        async def body(b: Bench) -> None:
            name = f"{registry.address}/far/hello"
            found = await b.images.distribution(f"{name}:1", Credentials())
            assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
            await b.pull(name, "1")
            target = (await b.images.resolve(f"{name}:1")).target
            assert found["Descriptor"] == target.document()
            with pytest.raises(errors.NotFound):
                await b.images.distribution(f"{name}:2", Credentials())

        on(address, body)
