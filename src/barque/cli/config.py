"""The client's own files: config.json with credentials, and the TLS files beside it."""

from __future__ import annotations

import posix

from barque import errors
from barque.cli.session import variable
from barque.client import json
from barque.client.connection import Tls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options

HUB = "https://index.docker.io/v1/"
HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")


def read_settings(directory: str) -> dict[str, Any]:
    """`config.json` in `directory`; {} without one. Raises InvalidArgument when it is not JSON."""
    path = f"{directory}/config.json"
    try:
        with open(path, "rb") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise errors.InvalidArgument(
            f"loading config file: {path}: {(error.strerror or '').lower()}"
        ) from None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise errors.InvalidArgument(f"loading config file: {path}: {error}") from None
    if not isinstance(document, dict):
        raise errors.InvalidArgument(f"loading config file: {path}: not an object")
    return document


def write_settings(directory: str, document: dict[str, Any]) -> None:
    """Replace `config.json` in `directory`; whoever reads it sees the old one or the new."""
    from json import dumps

    replace_file(directory, "config.json", dumps(document, indent="\t", sort_keys=True).encode())


def replace_file(directory: str, name: str, data: bytes) -> None:
    """Write a file for our user only, whole or not at all; the directory is made when missing.

    A link in the file's place stays one: what it leads to is replaced.
    """
    import os

    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.realpath(f"{directory}/{name}")
    passing = f"{path}.{os.getpid()}"
    fd = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(passing, path)
    except BaseException:
        os.unlink(passing)
        raise


def tls_files(options: Options, directory: str) -> Tls:
    """From --tls*, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    base = variable("DOCKER_CERT_PATH") or directory
    verify = options.flag("tlsverify") or bool(variable("DOCKER_TLS_VERIFY"))

    def file(option: str, name: str) -> str:
        path = options.text(option) or f"{base}/{name}"
        return path if option in options or posix.access(path, posix.R_OK) else ""

    return Tls(
        file("tlscacert", "ca.pem"), file("tlscert", "cert.pem"), file("tlskey", "key.pem"), verify
    )


def registry_auth(settings: dict[str, Any], registry: str) -> str:
    """The X-Registry-Auth header for `registry` (a host name), "" without credentials.

    Source: Engine API reference, "Authentication": the JSON of an AuthConfig in URL-safe base64.
    Raises Unsupported for credentials that a helper program keeps.
    """
    key = HUB if registry in HUB_NAMES else registry
    if settings.get("credsStore") or (settings.get("credHelpers") or {}).get(registry):
        raise errors.Unsupported(f"credentials for {registry}: helpers are not there yet")
    auths = settings.get("auths") or {}
    entry = auths.get(key)
    if entry is None:
        names = [name for name in auths if _host_of(name) == registry]
        entry = auths[names[0]] if names else None
    if not isinstance(entry, dict):
        return ""
    return _header(entry, key)


def _host_of(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _header(entry: dict[str, Any], address: str) -> str:
    from binascii import Error, a2b_base64, b2a_base64

    user, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            text = a2b_base64(entry["auth"]).decode()
        except (Error, ValueError):
            raise errors.InvalidArgument(f"invalid auth of {address} in config.json") from None
        user, _, password = text.rstrip("\0").partition(":")
    document = {"username": user, "password": password, "serveraddress": address}
    if entry.get("identitytoken"):
        document["identitytoken"] = entry["identitytoken"]
    encoded = b2a_base64(json.dumps(document).encode(), newline=False).decode()
    return encoded.replace("+", "-").replace("/", "_")
