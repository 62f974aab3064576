"""`--use-api-socket`: a container that may drive the engine, as the user who made it."""

from __future__ import annotations

from barque import errors
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.session import Session

SOCKET = "/var/run/docker.sock"
DIRECTORY = "/run/secrets/docker"  # of the client's settings in the container
BLOCK = 512


def mount(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    """Put our socket into the body of a create; the credentials that shall be in the container.

    None for a container whose DOCKER_CONFIG is given. Raises InvalidArgument, Unavailable.
    """
    host = session.client.host.text
    if not host.startswith("unix://"):
        raise errors.InvalidArgument(
            "flag --use-api-socket can only be used with unix sockets: "
            f"docker endpoint {host} incompatible"
        )
    socket = {
        "Type": "bind",
        "Source": host.removeprefix("unix://"),
        "Target": SOCKET,
        "BindOptions": {},
    }
    body["HostConfig"].setdefault("Mounts", []).append(socket)
    if any(text.startswith("DOCKER_CONFIG=") for text in body.get("Env") or ()):
        return {}
    from barque.cli.logins import all_entries

    accounts = all_entries(session.settings)
    if accounts:
        body.setdefault("Env", []).append(f"DOCKER_CONFIG={DIRECTORY}")
    return accounts


def give(session: Session, container: str, accounts: dict[str, Any]) -> None:
    """Put the credentials where the container's own clients look, for its root's eyes."""
    content = json.dumps({"auths": accounts}).encode()
    try:
        session.client.containers.extract(container, "/", [_archive(content)])
    except errors.BarqueError as error:
        raise type(error)(f"injecting docker config.json into container failed: {error}") from error


def _archive(content: bytes) -> bytes:
    """A tar of that one file. POSIX.1-1988, ustar."""
    name = f"{DIRECTORY}/config.json"[1:].encode()
    header = bytearray(BLOCK)
    for at, field in (
        (0, name),
        (100, b"0000600\0" + b"0000000\0" * 2 + b"%011o\0" % len(content) + b"%011o\0" % 0),
        (148, b" " * 8 + b"0"),
        (257, b"ustar\x0000"),
    ):
        header[at : at + len(field)] = field
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % BLOCK) + bytes(2 * BLOCK)
