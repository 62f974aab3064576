"""Making a container for `run` and `create`: a missing image is pulled, the id written down."""

from __future__ import annotations

import posix

from barque import errors
from barque.cli import creation, terminal
from barque.cli.session import Failure, refuse_trust, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options
    from barque.cli.session import Session

PULL_WORDS = ("always", "missing", "never", "")


def create(session: Session, options: Options, body: dict[str, Any]) -> str:
    """The id of the new container; warnings are told. Raises BarqueError, Failure."""
    policy = _pull_policy(options)
    _refuse(session, options)
    if session.settings.get("proxies"):
        from barque.cli.creating.proxies import apply

        apply(session, body)
    accounts: dict[str, Any] = {}
    if options.flag("use-api-socket"):
        from barque.cli.creating import engine_socket

        accounts = engine_socket.mount(session, body)
    _console_size(body)
    for server in options.all("dns"):
        if server.startswith("127.") or server == "::1":
            terminal.err(f"WARNING: Localhost DNS ({server}) may fail in containers.\n")
    created = _create(session, options, body, policy)
    if accounts:
        engine_socket.give(session, str(created["Id"]), accounts)
    for warning in created.get("Warnings") or ():
        terminal.err(f"WARNING: {warning}\n")
    if cidfile := options.text("cidfile"):
        with open(cidfile, "w", encoding="ascii") as file:
            file.write(created["Id"])
    return str(created["Id"])


def _pull_policy(options: Options) -> str:
    policy = options.text("pull", "missing")
    if policy not in PULL_WORDS:
        raise Failure(
            125,
            f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"',
        )
    return policy


def _refuse(session: Session, options: Options) -> None:
    """What this daemon would not do, and what would be written over."""
    refuse_trust(options)
    for flag, version in creation.NEEDS_VERSION.items():
        if flag in options:
            session.require(flag, version)
    if "health-on-failure" in options or "restart" in options:
        from barque.cli.creating.extras import refuse_elsewhere

        refuse_elsewhere(session, options)
    cidfile = options.text("cidfile")
    if cidfile and _exists(cidfile):
        raise errors.Conflict(
            "container ID file found, make sure the other container isn't running or delete "
            f"{cidfile}"
        )
    if "mac-address" in options and not session.client.at_least("1.44"):
        raise errors.InvalidArgument(
            '"specify mac-address per network" requires API version 1.44, but the Docker daemon '
            f"API version is {session.client.version}"
        )


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _console_size(body: dict[str, Any]) -> None:
    if body.get("Tty"):
        rows, columns = terminal.size(terminal.STDOUT)
        if rows and columns:
            body["HostConfig"]["ConsoleSize"] = [rows, columns]


def _create(session: Session, options: Options, body: dict[str, Any], policy: str) -> Any:
    platform = options.text("platform") or variable("DOCKER_DEFAULT_PLATFORM")
    name = options.text("name")
    image = body["Image"]
    if not image:
        raise errors.InvalidArgument("invalid reference format")
    if policy == "always":
        _pull(session, options, image, platform)
    try:
        return session.client.containers.create(body, name=name, platform=platform)
    except errors.InvalidArgument as error:
        _, malformed, rest = str(error).partition("invalid reference format")
        raise errors.InvalidArgument(malformed + rest if malformed else str(error)) from None
    except errors.NotFound as error:
        words = str(error).lower()
        absent = "no such image" in words or "does not match the specified platform" in words
        if policy not in ("missing", "") or not absent:
            raise
    from barque.cli.references import familiar

    terminal.err(f"Unable to find image '{familiar(image)}' locally\n")
    _pull(session, options, image, platform)
    return session.client.containers.create(body, name=name, platform=platform)


def _pull(session: Session, options: Options, image: str, platform: str) -> None:
    from barque.cli import pulling

    fd = -1 if options.flag("quiet") else terminal.STDERR
    pulling.pull(session, image, platform=platform, fd=fd)
