"""The manifest lists that the client makes by hand: `manifests/` in its directory, as Docker's.

    manifests/<name of the list>/<name of a manifest>     {"Ref", "Descriptor", "Raw", ...}

A name of a file is a full reference with `_` for `/` and `-` for `:`. Source: the files that
Docker's command writes.
"""

from __future__ import annotations

import os
from binascii import Error, a2b_base64, b2a_base64

from barque import errors
from barque.cli.config import replace_file
from barque.cli.logins import registry_auth
from barque.cli.references import Reference
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.session import Session

    Document = dict[str, Any]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (OCI_INDEX, DOCKER_INDEX)
LARGEST_FILE = 16 << 20  # bytes


def parse(text: str) -> Reference:
    """A reference with its default tag."""
    reference = Reference(text)
    if not reference.tag and not reference.digest:
        reference.tag = "latest"
    return reference


def check_insecure(wanted: bool, reference: Reference) -> None:
    """Which registries need no TLS is the daemon's to know; those of this machine need none."""
    host = reference.registry.rpartition(":")[0] or reference.registry
    if wanted and host not in ("localhost", "[::1]") and not host.startswith("127."):
        raise errors.Unsupported(
            f"--insecure is not supported for {reference.registry}: "
            "name it in the daemon's insecure-registries"
        )


def remote(session: Session, reference: Reference) -> Document:
    """What the registry has, as the files have it."""
    auth = registry_auth(session.settings, reference.registry)
    found: Document = session.client.images.remote_manifest(reference.full, auth=auth)
    descriptor = found["Descriptor"]
    if descriptor["mediaType"] not in INDEXES:
        kind = "OCIManifest" if descriptor["mediaType"] == OCI_MANIFEST else "SchemaV2Manifest"
        found[kind] = json.loads(raw_of(found))
    return found


def raw_of(document: Document) -> bytes:
    """The bytes of the manifest itself. Raises DataLoss."""
    try:
        return a2b_base64(document["Raw"], strict_mode=True)
    except (Error, KeyError, TypeError, ValueError):
        raise errors.DataLoss(f"manifest of {document.get('Ref')} is damaged") from None


class Lists:
    def __init__(self, directory: str) -> None:
        """`directory` is the client's own, ~/.docker."""
        self._root = f"{directory}/manifests"

    def read(self, name: Reference) -> list[Document]:
        """In the order of their files; [] for a list that is not there. Raises DataLoss."""
        try:
            found = sorted(os.listdir(self._path(name)))
        except FileNotFoundError:
            return []
        return [_document(f"{self._path(name)}/{file}") for file in found]

    def get(self, name: Reference, manifest: Reference) -> Document:
        """Raises NotFound."""
        try:
            return _document(f"{self._path(name)}/{_file(manifest)}")
        except FileNotFoundError:
            raise errors.NotFound(f"No such manifest: {manifest.full}") from None

    def put(self, name: Reference, manifest: Reference, document: Document) -> None:
        replace_file(self._path(name), _file(manifest), json.dumps(document).encode())

    def remove(self, name: Reference) -> None:
        """Raises NotFound."""
        path = self._path(name)
        try:
            for file in os.listdir(path):
                os.unlink(f"{path}/{file}")
            os.rmdir(path)
        except FileNotFoundError:
            raise errors.NotFound(f"No such manifest: {name.full}") from None

    def _path(self, name: Reference) -> str:
        return f"{self._root}/{_file(name)}"


def _file(reference: Reference) -> str:
    return reference.full.replace(":", "-").replace("/", "_")


def _document(path: str) -> Document:
    with open(path, "rb") as file:
        raw = file.read(LARGEST_FILE)
    try:
        found = json.loads(raw)
        if isinstance(found["Descriptor"], dict) and isinstance(found["Ref"], str):
            return dict(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise errors.DataLoss(f"{path}: this is no manifest")


def index_of(documents: list[Document]) -> Document:
    """The list itself, as it is sent. Raises InvalidArgument for one without a platform."""
    entries = []
    for document in documents:
        descriptor = document["Descriptor"]
        platform = descriptor.get("platform") or {}
        if not platform.get("os") or not platform.get("architecture"):
            raise errors.InvalidArgument(
                f"manifest {document['Ref']} must have an OS and Architecture "
                "to be pushed to a registry"
            )
        kept = {name: descriptor[name] for name in ("mediaType", "size", "digest")}
        entries.append({**kept, "platform": platform})
    first = entries[0]["mediaType"] if entries else ""
    kind = OCI_INDEX if first == OCI_MANIFEST else DOCKER_INDEX
    return {"schemaVersion": 2, "mediaType": kind, "manifests": entries}


def push(session: Session, name: Reference, documents: list[Document], raw: bytes) -> str:
    """Send the list; its digest."""
    sources = []
    for document in documents:
        source = Reference(document["Ref"])
        source.tag, source.digest = "", document["Descriptor"]["digest"]
        sources.append(source.full)
    done = session.client.images.push_manifest_list(
        name.full,
        b2a_base64(raw, newline=False).decode(),
        sources,
        auth=registry_auth(session.settings, name.registry),
    )
    return str(done["Digest"])
