"""The client's own files: config.json, and the TLS files beside it."""

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


# What members of config.json are, and what the members of those are. Source: docker's reference,
# "Docker CLI configuration file (config.json) properties".
_KINDS: dict[str, tuple[type, type]] = {
    **dict.fromkeys(("auths", "plugins", "proxies"), (dict, dict)),
    **dict.fromkeys(("HttpHeaders", "aliases", "credHelpers"), (dict, str)),
    **dict.fromkeys(("cliPluginsExtraDirs", "pruneFilters"), (list, str)),
}
_TEXTS = ("credsStore", "currentContext", "detachKeys")


def read_settings(directory: str) -> dict[str, Any]:
    """`config.json` in `directory`; {} without one. Raises InvalidArgument when it is none."""
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
    if wrong := _misfit(document):
        raise errors.InvalidArgument(f"loading config file: {path}: invalid value of {wrong}")
    return document


def _misfit(document: dict[str, Any]) -> str:
    """The first member that is not what it should be; "" when there is none."""
    for key, value in document.items():
        if value is None:
            continue
        if (key in _TEXTS or key.endswith("Format")) and not isinstance(value, str):
            return key
        if key in _KINDS:
            kind, inner = _KINDS[key]
            if not isinstance(value, kind):
                return key
            members = document[key].values() if kind is dict else document[key]
            if not all(isinstance(member, inner) for member in members):
                return key
    return ""


def write_settings(directory: str, document: dict[str, Any]) -> None:
    """Replace `config.json` in `directory`; whoever reads it sees the old one or the new.

    Raises InvalidArgument for one that cannot be read: what is in it would be lost.
    """
    from json import dumps

    read_settings(directory)
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
    verify = options.flag("tlsverify", bool(variable("DOCKER_TLS_VERIFY")))

    def file(option: str, name: str) -> str:
        path = options.text(option) or f"{base}/{name}"
        return path if option in options or posix.access(path, posix.R_OK) else ""

    return Tls(
        file("tlscacert", "ca.pem"), file("tlscert", "cert.pem"), file("tlskey", "key.pem"), verify
    )


def custom_headers(text: str) -> dict[str, str]:
    """DOCKER_CUSTOM_HEADERS: name=value, by commas, quoted as in CSV. Raises InvalidArgument."""
    import csv

    found = {}
    for pair in next(csv.reader([text], strict=True), []):
        name, equals, value = pair.partition("=")
        if not name.strip():
            wrong = f"value contains a key=value pair with an empty key: '{pair}'"
        elif not equals:
            wrong = f"missing \"=\" in key=value pair: '{pair}'"
        else:
            found[name.strip()] = value
            continue
        raise errors.InvalidArgument(
            f"failed to set custom headers from DOCKER_CUSTOM_HEADERS environment variable: {wrong}"
        )
    return found


def environment_auths() -> dict[str, Any]:
    """`auths` of DOCKER_AUTH_CONFIG, which is like config.json; {} where it says nothing.

    One that is no such document is told of, and left out, as with Docker.
    """
    text = variable("DOCKER_AUTH_CONFIG")
    if not text:
        return {}
    try:
        document = json.loads(text.encode())
    except ValueError as error:
        document = str(error)
    auths = document.get("auths") if isinstance(document, dict) else None
    if isinstance(auths, dict) and all(isinstance(entry, dict) for entry in auths.values()):
        return auths
    from barque.cli import terminal

    terminal.err("WARNING: DOCKER_AUTH_CONFIG is left out: it has no auths\n")
    return {}
