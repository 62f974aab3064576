"""What the client logs in to registries with: kept in config.json or by a helper, sent as a header.

Source: Engine API reference, "Authentication": the JSON of an AuthConfig in URL-safe base64.
"""

from __future__ import annotations

from barque import errors
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB = "https://index.docker.io/v1/"
HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io", HUB)
NOBODY = "e30="  # {}: what a push needs to send even then


def address_of(server: str) -> str:
    """The key that the credentials of a server are kept under: its host, and for the Hub a URL."""
    host = _host_of(server)
    return HUB if not host or host in HUB_NAMES else host


def registry_auth(settings: dict[str, Any], registry: str) -> str:
    """The X-Registry-Auth header for `registry` (a host name), "" without credentials.

    A helper that is missing or fails counts as having none, as with Docker: settings that another
    machine's desktop program left behind must not keep anybody from a public image.
    """
    key = address_of(registry)
    try:
        entry = entry_of(settings, key)
    except (errors.Unavailable, OSError):
        entry = {}
    return _header({**entry, "serveraddress": key}) if entry else ""


def push_auth(settings: dict[str, Any], registry: str) -> str:
    """As `registry_auth`, for requests that must have the header."""
    return registry_auth(settings, registry) or NOBODY


def entry_of(settings: dict[str, Any], key: str) -> dict[str, str]:
    """User and password, or identity token, of `address_of` a server; {} for none.

    What DOCKER_AUTH_CONFIG has comes first.
    """
    from barque.cli import config, credentials

    if given := _entry_in(config.environment_auths(), key):
        return given
    if helper := credentials.helper_of(settings, key):
        return credentials.get(helper, key)
    return _entry_in(settings.get("auths") or {}, key)


def _entry_in(auths: dict[str, Any], key: str) -> dict[str, str]:
    entry = auths.get(key)
    if entry is None:
        names = [name for name in auths if _host_of(name) == key]
        entry = auths[names[0]] if names else None
    return _decoded(entry, key) if isinstance(entry, dict) else {}


def all_entries(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Everything there is, by server, as config.json has it. Raises Unavailable."""
    from barque.cli import credentials

    auths = settings.get("auths") or {}
    found = {name: _decoded(entry, name) for name, entry in auths.items()}
    if helper := settings.get("credsStore"):
        found = {name: credentials.get(helper, name) for name in credentials.servers(helper)}
    for name in settings.get("credHelpers") or ():
        try:
            found[name] = entry_of(settings, name)
        except errors.Unavailable:
            continue  # as Docker: the others are still worth having
    return {name: encoded(entry) for name, entry in found.items() if entry}


def encoded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of config.json."""
    from binascii import b2a_base64

    pair = f"{entry.get('username', '')}:{entry.get('password', '')}".encode()
    tokens = {key: entry[key] for key in ("identitytoken", "registrytoken") if entry.get(key)}
    return {"auth": b2a_base64(pair, newline=False).decode(), **tokens}


def _decoded(entry: dict[str, Any], key: str) -> dict[str, str]:
    user, password = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth"):
        from binascii import Error, a2b_base64

        try:
            text = a2b_base64(entry["auth"]).decode()
        except (Error, ValueError):
            raise errors.InvalidArgument(f"invalid auth of {key} in config.json") from None
        user, _, password = text.rstrip("\0").partition(":")
    found = {"username": user, "password": password}
    for name in ("identitytoken", "registrytoken"):
        if entry.get(name):
            found[name] = str(entry[name])
    return found if any(found.values()) else {}


def keep_entry(directory: str, settings: dict[str, Any], key: str, entry: dict[str, Any]) -> bool:
    """Keep the credentials of a server; True when they lie unencrypted in config.json."""
    from barque.cli import config, credentials

    if helper := credentials.helper_of(settings, key):
        credentials.store(helper, key, entry)
        kept: dict[str, Any] = {}  # so that others see there is a login
    else:
        kept = encoded(entry)
    auths = {**(settings.get("auths") or {}), key: kept}
    config.write_settings(directory, {**settings, "auths": auths})
    return not helper


def drop_entry(directory: str, settings: dict[str, Any], key: str) -> None:
    from barque.cli import config, credentials

    if helper := credentials.helper_of(settings, key):
        credentials.erase(helper, key)
    auths = settings.get("auths") or {}
    left = {name: entry for name, entry in auths.items() if address_of(name) != key}
    if left != auths:
        config.write_settings(directory, {**settings, "auths": left})


def _host_of(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _header(document: dict[str, str]) -> str:
    from binascii import b2a_base64

    encoded = b2a_base64(json.dumps(document).encode(), newline=False).decode()
    return encoded.replace("+", "-").replace("/", "_")
