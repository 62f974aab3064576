"""A client that speaks distribution-spec's own words to a registry: ours, or Debian's."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from barque.oci import image as oci
from tests.support.containerds import containerd
from tests.support.our_registry import OurRegistry, our_registry
from tests.support.registry_peer import RegistryPeer, registry_peer

Registry = OurRegistry | RegistryPeer
PEERS: dict[str, Callable[[], AbstractContextManager[Registry]]] = {
    "ours": our_registry,
    "docker-registry": registry_peer,
}
PUSHED = "registry.test:5000"  # what pushes to an engine are named below


@contextmanager
def engine_registry(kind: str) -> Iterator[OurRegistry]:
    """Ours, straight on a containerd: "ours" or "real"."""
    with (
        containerd(kind) as engine,
        our_registry("--engine", engine, "--engine-push", PUSHED) as running,
    ):
        yield running


PLACES: dict[str, Callable[[], AbstractContextManager[Registry]]] = {
    **PEERS,
    "our engine": partial(engine_registry, "ours"),
    "containerd": partial(engine_registry, "real"),
}


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


class Asker:
    """Requests to one registry; every answer is read whole."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=30)

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Got:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        target = (target.partition("://")[2] and "/" + target.split("/", 3)[3]) or target
        self._connection.request(method, target, body, named)
        answer = self._connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        try:
            return Got(answer.status, found, answer.read())
        except http.client.IncompleteRead as error:  # the peer, which refuses a range
            self._connection.close()
            return Got(answer.status, found, error.partial)

    def upload(self, name: str, data: bytes) -> str:
        digest = digest_of(data)
        where = self.ask("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
        done = self.ask("PUT", f"{where}{'&' if '?' in where else '?'}digest={digest}", data)
        assert done.status == 201, done
        return digest

    def image(self, name: str, reference: str, word: bytes = b"a", **more: Any) -> str:
        """A small image of one layer, pushed; returns the digest of its manifest."""
        config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
        layer = b"layer " + word
        self.upload(name, config)
        self.upload(name, layer)
        document = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": descriptor(oci.OCI_CONFIG, config),
            "layers": [descriptor(oci.OCI_LAYER, layer)],
            **more,
        }
        raw = json.dumps(document).encode()
        digest = digest_of(raw)
        done = self.ask(
            "PUT",
            f"/v2/{name}/manifests/{reference or digest}",
            raw,
            Content_Type=oci.OCI_MANIFEST,
        )
        assert done.status == 201, done
        assert done.headers["docker-content-digest"] == digest
        return digest


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
