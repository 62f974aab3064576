"""What every command is given: the daemon's client, made when first used, and the settings."""

from __future__ import annotations

import posix

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options
    from barque.client.client import Client
    from barque.client.connection import Tls

PROGRAM = "barque"
DEFAULT_CONTEXT = "default"


def variable(name: str) -> str:
    """A variable of our environment, "" when it is not set; without loading `os` for it."""
    return posix.environ.get(name.encode(), b"").decode("utf-8", "replace")


NO_TRUST = "content trust is left out: verify signatures with cosign or notation"


def refuse_trust(options: Options) -> None:
    """Who wants signatures verified, by the flag or by the variable, must not believe they were.

    Raises Unsupported.
    """
    wanted = variable("DOCKER_CONTENT_TRUST").lower() not in ("", "0", "f", "false")
    if not options.flag("disable-content-trust", not wanted):
        raise errors.Unsupported(f"{NO_TRUST} (or give --disable-content-trust)")


class Failure(errors.BarqueError):
    """A command that ends with this exit code after this text (none: it has been told already)."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Session:
    def __init__(self, options: Options) -> None:
        """`options` are the global ones. Raises InvalidArgument."""
        self._options = options
        self._client: Client | None = None
        self._settings: dict[str, Any] | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = self._connect()
        return self._client

    @property
    def context(self) -> str:
        """The name of the context in use: from the flags, the environment, or the settings."""
        if "context" in self._options:
            if self._options.all("host"):
                raise errors.InvalidArgument(
                    "conflicting options: cannot specify both --host and --context"
                )
            return self._options.text("context") or DEFAULT_CONTEXT
        if self._options.all("host") or variable("DOCKER_HOST"):
            return DEFAULT_CONTEXT
        named = variable("DOCKER_CONTEXT") or self.settings.get("currentContext")
        return str(named or DEFAULT_CONTEXT)

    @property
    def debug(self) -> bool:
        return self._options.flag("debug")

    @property
    def config_directory(self) -> str:
        home = variable("HOME") or "/"
        given = self._options.text("config") or variable("DOCKER_CONFIG")
        return given or f"{home}/.docker"

    def format(self, options: Options, setting: str) -> str:
        """--format; else what config.json has for this list, unless only ids are wanted."""
        if options.text("format") or options.flag("quiet"):
            return options.text("format")
        return str(self.settings.get(setting) or "")

    @property
    def settings(self) -> dict[str, Any]:
        """config.json of the client, {} where there is none; one that is wrong is told of."""
        if self._settings is None:
            from barque.cli.config import read_settings

            try:
                self._settings = read_settings(self.config_directory)
            except errors.InvalidArgument as error:
                from barque.cli import terminal

                terminal.err(f"WARNING: Error {error}\n")
                self._settings = {}
        return self._settings

    @property
    def detach_keys(self) -> str:
        return str(self.settings.get("detachKeys") or "")

    def host(self) -> str:
        """The daemon's address as the flags and the environment have it, "" when they do not."""
        hosts = self._options.all("host")
        if len(hosts) > 1:
            raise errors.InvalidArgument("specify only one -H")
        return hosts[0] if hosts else variable("DOCKER_HOST")

    def _connect(self) -> Client:
        from barque.api.versions import DEFAULT_HOST
        from barque.client.client import Client

        host, tls = self.host(), None
        if (context := self.context) != DEFAULT_CONTEXT:
            host, tls = self._of_context(context)
        elif self._wants_tls():
            from barque.cli.config import tls_files

            tls = tls_files(self._options, self.config_directory)
        absent = None
        if not host:
            from barque.cli import ondemand

            absent = ondemand.start
        return Client(
            host or DEFAULT_HOST,
            version=variable("DOCKER_API_VERSION").removeprefix("v"),
            tls=tls,
            headers=[("User-Agent", "Barque-Client"), *self._extra_headers()],
            absent=absent,
        )

    def _of_context(self, name: str) -> tuple[str, Tls | None]:
        from barque.cli.contexts.store import Contexts

        try:
            return Contexts(self.config_directory).connection(name)
        except errors.BarqueError as error:
            text = f"Failed to initialize: unable to resolve docker endpoint: {error}"
            raise Failure(1, text) from None

    def _extra_headers(self) -> list[tuple[str, str]]:
        """DOCKER_CUSTOM_HEADERS, or else `HttpHeaders` of config.json; not in the client's name."""
        if text := variable("DOCKER_CUSTOM_HEADERS"):
            from barque.cli.config import custom_headers

            given = custom_headers(text)
        else:
            given = self.settings.get("HttpHeaders") or {}
        return [(k, str(v)) for k, v in given.items() if k.lower() not in ("user-agent", "host")]

    def _wants_tls(self) -> bool:
        """--tlsverify wants it either way: =false is TLS that verifies nobody."""
        if variable("DOCKER_TLS_VERIFY") or "tlsverify" in self._options:
            return True
        return self._options.flag("tls", bool(variable("DOCKER_TLS")))

    def require_barque(self, words: str) -> None:
        """Raises Failure when another daemon would take the request, and do nothing of it."""
        if not self.client.system.ping().get("server", "").startswith("Barque/"):
            raise Failure(1, f'"{words}" is only there on a Barque daemon')

    def require(self, flag: str, version: str) -> None:
        """Raises Failure when the daemon's API is older than the flag."""
        if not self.client.at_least(version):
            raise Failure(
                1,
                f'"--{flag}" requires API version {version}, '
                f"but the Docker daemon API version is {self.client.version}",
            )
