"""The named daemons that the client keeps: `contexts/` in its directory, laid out as Docker's.

    meta/<sha256 of the name>/meta.json
        {"Name": ..., "Metadata": {"Description": ...}, "Endpoints": {"docker": {"Host": ...}}}
    tls/<sha256 of the name>/docker/
        ca.pem, cert.pem, key.pem; each may be missing

Source: Docker's documentation, "Docker contexts"; the layout as its command writes it.
"""

from __future__ import annotations

import os
import posix
import re

from barque import errors
from barque.cli.config import replace_file
from barque.client import json
from barque.client.connection import Tls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT = "default"
DEFAULT_DESCRIPTION = "Current DOCKER_HOST based configuration"
ENDPOINT = "docker"
IN_MEMORY = "<IN MEMORY>"
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")
NAME = "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"
LARGEST_FILE = 10 << 20  # bytes


def check_name(name: str) -> None:
    """Raises InvalidArgument for what cannot be the name of a stored context."""
    if name == DEFAULT:
        raise errors.InvalidArgument('"default" is a reserved context name')
    if not re.fullmatch(NAME.strip("^$"), name):
        raise errors.InvalidArgument(
            f'context name "{name}" is invalid, names are validated against regexp "{NAME}"'
        )


class Contexts:
    def __init__(self, directory: str) -> None:
        """`directory` is the client's own, ~/.docker."""
        self._root = f"{directory}/contexts"

    def metadata_path(self, name: str) -> str:
        return f"{self._root}/meta/{_key(name)}"

    def tls_path(self, name: str) -> str:
        return f"{self._root}/tls/{_key(name)}"

    def read(self, name: str) -> dict[str, Any]:
        """The stored document. Raises NotFound, or DataLoss for one that is damaged."""
        path = f"{self.metadata_path(name)}/meta.json"
        try:
            return _document(path)
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise errors.NotFound(
                f'context "{name}": context not found: open {path}: {reason}'
            ) from None

    def has(self, name: str) -> bool:
        return posix.access(f"{self.metadata_path(name)}/meta.json", posix.F_OK)

    def list(self) -> list[dict[str, Any]]:
        """The stored documents by name. Raises DataLoss for one that is damaged."""
        try:
            keys = os.listdir(f"{self._root}/meta")
        except FileNotFoundError:
            return []
        found = [_document(f"{self._root}/meta/{key}/meta.json") for key in keys]
        return sorted(found, key=lambda document: str(document["Name"]))

    def tls(self, name: str) -> dict[str, bytes]:
        """The context's TLS files by their names."""
        material = {}
        for file in TLS_FILES:
            try:
                with open(f"{self.tls_path(name)}/{ENDPOINT}/{file}", "rb") as stream:
                    material[file] = stream.read(LARGEST_FILE)
            except FileNotFoundError:
                pass
        return material

    def write(self, document: dict[str, Any], tls: dict[str, bytes]) -> None:
        """Make or replace a context; whoever reads sees the old one or the new."""
        name = str(document["Name"])
        self._remove_tls(name)
        for file, data in tls.items():
            replace_file(f"{self.tls_path(name)}/{ENDPOINT}", file, data)
        replace_file(self.metadata_path(name), "meta.json", json.dumps(document).encode())

    def remove(self, name: str) -> None:
        """Raises NotFound."""
        directory = self.metadata_path(name)
        try:
            os.unlink(f"{directory}/meta.json")
        except FileNotFoundError:
            raise errors.NotFound(f'context "{name}" does not exist') from None
        os.rmdir(directory)
        self._remove_tls(name)

    def _remove_tls(self, name: str) -> None:
        base = self.tls_path(name)
        for file in TLS_FILES:
            _gone(os.unlink, f"{base}/{ENDPOINT}/{file}")
        _gone(os.rmdir, f"{base}/{ENDPOINT}")
        _gone(os.rmdir, base)

    def connection(self, name: str) -> tuple[str, Tls | None]:
        """The daemon's address ("" for the default one) and its TLS. Raises NotFound."""
        endpoint = endpoint_of(self.read(name))
        base = f"{self.tls_path(name)}/{ENDPOINT}"
        ca, cert, key = (
            path if posix.access(path, posix.R_OK) else ""
            for path in (f"{base}/{file}" for file in TLS_FILES)
        )
        insecure = bool(endpoint.get("SkipTLSVerify"))
        tls = Tls(ca, cert, key, not insecure) if ca or cert or insecure else None
        return str(endpoint.get("Host") or ""), tls


def endpoint_of(document: dict[str, Any]) -> dict[str, Any]:
    """Where the context's daemon is: `Host`, `SkipTLSVerify`; {} when that is not said."""
    endpoint: dict[str, Any] = (document.get("Endpoints") or {}).get(ENDPOINT) or {}
    return endpoint


def description_of(document: dict[str, Any]) -> str:
    return str((document.get("Metadata") or {}).get("Description") or "")


def checked(document: Any, path: str) -> dict[str, Any]:
    """A context's document as it must be. Raises DataLoss."""
    if not isinstance(document, dict) or not isinstance(document.get("Name"), str):
        raise errors.DataLoss(f"{path}: not the metadata of a context")
    parts = [document.get(key) or {} for key in ("Metadata", "Endpoints")]
    if not all(isinstance(part, dict) for part in parts):
        raise errors.DataLoss(f"{path}: not the metadata of a context")
    if not isinstance(parts[1].get(ENDPOINT) or {}, dict):
        raise errors.DataLoss(f"{path}: not the metadata of a context")
    return document


def _key(name: str) -> str:
    from hashlib import sha256

    return sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def _document(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        text = file.read(LARGEST_FILE)
    try:
        return checked(json.loads(text), path)
    except ValueError as error:
        raise errors.DataLoss(f"{path}: {error}") from None


def _gone(remove: Any, path: str) -> None:
    try:
        remove(path)
    except FileNotFoundError:
        pass
