"""The images that containerd's suite pulls, made here, and a registry that has them.

    python -m tools.suites.image_server DIRECTORY

serves https on the port that all names have, with `cert.pem` and `key.pem` of the directory. The
images have the platforms and several layers, and Debian's busybox in them where the suite runs
them. Two that are named by their digests cannot be made, and are not found.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import ssl
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tools import busybox_image

HOSTS = ("ghcr.io", "k8s.gcr.io", "registry.k8s.io", "gcr.io", "mcr.microsoft.com")
DOCKER = "application/vnd.docker"
INDEX = f"{DOCKER}.distribution.manifest.list.v2+json"
MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"
CONFIG = f"{DOCKER}.container.image.v1+json"
LAYER = f"{DOCKER}.image.rootfs.diff.tar.gzip"
PORT = 443


class Platform(NamedTuple):
    architecture: str
    os: str = "linux"
    variant: str = ""

    def document(self) -> dict[str, str]:
        return {key: value for key, value in self._asdict().items() if value}


EVERYWHERE = (
    Platform("amd64"),
    Platform("arm", variant="v7"),
    Platform("arm64", variant="v8"),
    Platform("ppc64le"),
    Platform("s390x"),
)
USER_3 = "sys:x:3:3:sys:/dev:/bin/false\n"  # Docker's busybox has one; a case asks for its group
# A container's first process is ended only by signals that it handles, as Debian's doesn't.
NC = """#!/bin/sh
trap 'exit 143' TERM
busybox nc "$@" &
wait $!
"""
WINDOWS = (Platform("amd64", os="windows"),)


class Shelf:
    """Blobs by their digests, and the names of some."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.names: dict[str, str] = {}

    def add(self, media_type: str, data: bytes) -> dict[str, object]:
        """The descriptor of a blob that is kept from now on."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_document(self, media_type: str, document: Mapping[str, object]) -> dict[str, object]:
        return self.add(media_type, json.dumps(document).encode())

    def add_image(self, name: str, platforms: Iterable[Platform], layers: Iterable[bytes]) -> None:
        """An image of these layers; one more makes them others for each name and platform."""
        manifests = []
        for platform in platforms:
            mine = [*layers, _layer("etc/image", f"{name} {'/'.join(platform)}")]
            described = self._manifest(platform, mine)
            manifests.append({**described, "platform": platform.document()})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        self.names[name] = str(self.add_document(INDEX, index)["digest"])

    def _manifest(self, platform: Platform, layers: Iterable[bytes]) -> dict[str, object]:
        plain = list(layers)
        config = json.loads(busybox_image.image_config(plain[0]))
        config.update(platform.document())
        config["rootfs"]["diff_ids"] = [
            "sha256:" + hashlib.sha256(one).hexdigest() for one in plain
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add_document(CONFIG, config),
            "layers": [self.add(LAYER, gzip.compress(one, mtime=0)) for one in plain],
        }
        return self.add_document(MANIFEST, document)


def _layer(name: str, text: str, mode: int = 0o644) -> bytes:
    """A layer of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(text), mode
        archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def filled() -> Shelf:
    shelf = Shelf()
    busybox = busybox_image.rootfs()
    passwd = _layer("etc/passwd", busybox_image.FILES["etc/passwd"] + USER_3)
    system = [busybox, passwd, _layer("bin/nc", NC, 0o755)]
    shelf.add_image("containerd/busybox:1.32", EVERYWHERE, system)
    shelf.add_image("containerd/alpine:3.14.0", EVERYWHERE, system)
    shelf.add_image("containerd/volume-copy-up:2.1", EVERYWHERE, [*system, _layer("volume", "")])
    shelf.add_image("pause:3.6", EVERYWHERE, [])
    shelf.add_image("e2e-test-images/busybox:1.29-2", EVERYWHERE, [])
    shelf.add_image("windows/nanoserver:1809", WINDOWS, [])
    return shelf


class Handler(http.server.BaseHTTPRequestHandler):
    """The part of the distribution's API that a pull takes."""

    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def do_GET(self) -> None:
        """Answers HEAD too."""
        repository, _, reference = self.path.removeprefix("/v2/").rpartition("/")
        repository, _, kind = repository.rpartition("/")
        digest = self.shelf.names.get(f"{repository}:{reference}", reference)
        data = self.shelf.blobs.get(digest)
        if data is None:
            self._answer(404, "application/json", b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        elif kind == "manifests":
            self._answer(200, json.loads(data)["mediaType"], data, digest)
        else:
            self._answer(200, "application/octet-stream", data, digest)

    do_HEAD = do_GET

    def _answer(self, status: int, media_type: str, data: bytes, digest: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def main(directory: Path) -> None:
    """Serve until it is ended; `ready` in the directory tells that it listens."""
    Handler.shelf = filled()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    (directory / "ready").touch()
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
