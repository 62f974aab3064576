"""Commands that other programs add: docker's CLI plugins (compose, buildx, ...).

A plugin is an executable `docker-NAME` in one of the directories below. Called with the word
`docker-cli-plugin-metadata` it prints a JSON document of itself; to run one of its commands it is
given the whole command line. Source: docker/cli, cli-plugins/metadata and cli-plugins/manager.
"""

from __future__ import annotations

import os
import sys

from barque import errors
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from barque.cli.session import Session

METADATA = "docker-cli-plugin-metadata"
ORIGINAL_COMMAND = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"
PREFIX = "docker-"
SCHEMA_VERSION = "0.1.0"
SYSTEM_DIRECTORIES = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
MAX_METADATA_BYTES = 1 << 20
# Commands of docker that its plugin buildx does.
OF_BUILDX = {
    "bake": ("buildx", "bake"),
    "build": ("buildx", "build"),
    "builder": ("buildx",),
    "image build": ("buildx", "build"),
}


class Plugin:
    """A candidate; `error` says why it is none, and is "" for one that can be run."""

    def __init__(self, name: str, path: str, metadata: dict[str, Any], error: str) -> None:
        self.name = name
        self.path = path
        self.metadata = metadata
        self.error = error
        self.shadowed: tuple[str, ...] = ()  # of the same name, in directories behind its own

    @property
    def summary(self) -> str:
        return str(self.metadata.get("ShortDescription") or "")

    def document(self) -> dict[str, Any]:
        """With docker's names, as `info --format json` shows it."""
        shown = {**self.metadata, "Name": self.name, "Path": self.path}
        if self.shadowed:
            shown["ShadowedPaths"] = list(self.shadowed)
        return {**shown, "Err": self.error} if self.error else shown


def find(session: Session, name: str) -> str:
    """The path of the plugin `name`, "" where no directory has it."""
    if not _is_name(name):
        return ""
    for directory in directories(session):
        path = f"{directory}/{PREFIX}{name}"
        if os.path.exists(path) and not os.path.isdir(path):
            return path
    return ""


def all_of(session: Session, builtin: Collection[str]) -> list[Plugin]:
    """Every candidate by name, asked for its metadata; one in an earlier directory wins."""
    found: dict[str, list[str]] = {}
    for directory in directories(session):
        for name in _names(directory):
            found.setdefault(name, []).append(f"{directory}/{PREFIX}{name}")
    plugins = []
    for name, paths in sorted(found.items()):
        plugin = look(name, paths[0], builtin)
        plugin.shadowed = tuple(paths[1:])
        plugins.append(plugin)
    return plugins


def directories(session: Session) -> list[str]:
    extra = session.settings.get("cliPluginsExtraDirs")
    given = [str(one) for one in extra] if isinstance(extra, list) else []
    return [*given, f"{session.config_directory}/cli-plugins", *SYSTEM_DIRECTORIES]


def _names(directory: str) -> Iterator[str]:
    try:
        entries = sorted(os.listdir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.startswith(PREFIX) and not os.path.isdir(f"{directory}/{entry}"):
            yield entry.removeprefix(PREFIX)


def look(name: str, path: str, builtin: Collection[str] = ()) -> Plugin:
    """The plugin at `path`, with what it says of itself or why that cannot be used."""
    if not _is_name(name):
        wrong = f'plugin candidate "{name}" did not match "^[a-z][a-z0-9]*$"'
        return Plugin(name, path, {}, wrong)
    if name in builtin:
        return Plugin(name, path, {}, f'plugin "{name}" duplicates builtin command')
    try:
        found = json.loads(_asked(path))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Plugin(name, path, {}, f"failed to fetch metadata: fork/exec {path}: {reason}")
    except ChildProcess as error:
        return Plugin(name, path, {}, f"failed to fetch metadata: {error}")
    except ValueError as error:
        return Plugin(name, path, {}, f"invalid metadata: {error}")
    if not isinstance(found, dict):
        return Plugin(name, path, {}, "invalid metadata: not an object")
    return Plugin(name, path, found, _wrong(found))


def _wrong(metadata: dict[str, Any]) -> str:
    version = metadata.get("SchemaVersion") or ""
    if version != SCHEMA_VERSION:
        return f'plugin SchemaVersion "{version}" is not valid, must be {SCHEMA_VERSION}'
    return "" if metadata.get("Vendor") else "plugin metadata does not define a vendor"


def run(session: Session, path: str, arguments: list[str]) -> None:
    """Become the plugin at `path`. Raises NotFound where it cannot be executed.

    It speaks to the engine that we would speak to: where nothing names another, it is told ours.
    """
    environment = {**os.environ, ORIGINAL_COMMAND: _own_name()}
    if not session.host() and session.context == "default":
        from barque.api.versions import DEFAULT_HOST

        environment["DOCKER_HOST"] = DEFAULT_HOST
        _wake(session)
    try:
        os.execve(path, [path, *arguments], environment)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise errors.NotFound(f"fork/exec {path}: {reason}") from None


def _wake(session: Session) -> None:
    """Start the daemon that a command of ours would start; the plugin tells when there is none."""
    try:
        session.client.system.ping()
    except (errors.BarqueError, OSError):
        return


def _own_name() -> str:
    """What starts this program again."""
    name = sys.argv[0] if sys.argv else ""
    return "barque" if not name or name.endswith(".py") or name == "-c" else name


def _is_name(name: str) -> bool:
    plain = name.isascii() and name.isalnum() and name == name.lower()
    return plain and not name[0].isdigit()


class ChildProcess(Exception):
    """A program that did not end well."""


def _asked(path: str) -> bytes:
    """What the plugin prints of itself. Raises OSError, and ChildProcess when it fails."""
    read, write = os.pipe()
    try:
        quiet = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        silent = (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)
        pid = os.posix_spawn(
            path,
            [path, METADATA],
            {**os.environ, ORIGINAL_COMMAND: _own_name()},
            file_actions=[quiet, silent, (os.POSIX_SPAWN_DUP2, write, 1)],
        )
        os.close(write)
        write = -1
        out = b""
        while len(out) < MAX_METADATA_BYTES and (piece := os.read(read, 65536)):
            out += piece
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise ChildProcess(f"exit status {code}" if code > 0 else f"signal: {-code}")
    return out
