"""What barque-containerd is told: containerd's flags and its TOML file.

Source: containerd, docs/man/containerd.8 and containerd-config.toml.5 (version 2 and 3). A flag
beats the file. A key of the file that we know nothing of is refused by name; sections of plugins
that we do not have may be there as long as they are empty or about nothing we do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from barque.containerd.paths import DEFAULT_CONFIG, DEFAULT_ROOT, DEFAULT_STATE
from barque.errors import InvalidArgument, NotFound, Unsupported

LAST_PORT = (1 << 16) - 1
LOG_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "panic")
FLAGS = {
    "--config": "config",
    "-c": "config",
    "--root": "root",
    "--state": "state",
    "--address": "address",
    "-a": "address",
    "--log-level": "log_level",
    "-l": "log_level",
}
# Keys of the file that name what is not there yet; anything but their idle value is refused.
IDLE: Mapping[str, Sequence[Any]] = {
    "grpc.tcp_address": ("",),
    "grpc.tcp_tls_cert": ("",),
    "grpc.tcp_tls_key": ("",),
    "grpc.tcp_tls_ca": ("",),
    "grpc.tcp_tls_common_name": ("",),
    "ttrpc.address": ("",),
    "ttrpc.uid": (0,),
    "ttrpc.gid": (0,),
    "debug.address": ("",),
    "debug.uid": (0,),
    "debug.gid": (0,),
    "debug.format": ("", "text"),
    "plugin_dir": ("",),
    "disabled_plugins": ([],),
    "required_plugins": ([],),
    "oom_score": (0,),
    "imports": ([],),
    "temp": ("",),
    "cgroup.path": ("",),
}
IGNORED = frozenset(
    {
        "version",
        "grpc.max_recv_message_size",
        "grpc.max_send_message_size",
    }
)
DISABLED_BY_US = frozenset({"cri", "io.containerd.grpc.v1.cri"})


@dataclass(frozen=True, slots=True)
class Config:
    root: Path = Path(DEFAULT_ROOT)
    state: Path = Path(DEFAULT_STATE)
    address: str = ""
    log_level: str = "info"
    uid: int = 0  # who may use the socket, beside root
    gid: int = 0
    metrics_address: str = ""  # host:port; empty: no metrics
    metrics_histogram: bool = False

    @property
    def socket(self) -> str:
        return self.address or f"{self.state}/containerd.sock"


@dataclass(frozen=True, slots=True)
class Command:
    """What the command line asks for: `name` is "" (serve), or a command, "version", "help"."""

    name: str
    options: Mapping[str, str]
    arguments: tuple[str, ...] = ()


def parse_arguments(arguments: list[str]) -> Command:
    """Raises InvalidArgument for a flag that is unknown or lacks its value."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        flag, equals, value = rest.pop(0).partition("=")
        if flag in ("--version", "-v"):
            return Command("version", {})
        if flag in ("--help", "-h"):
            return Command("help", {})
        if flag not in FLAGS:
            raise InvalidArgument(f"flag provided but not defined: {flag}")
        if not equals:
            if not rest:
                raise InvalidArgument(f"flag needs an argument: {flag}")
            value = rest.pop(0)
        options[FLAGS[flag]] = value
    return Command(rest[0] if rest else "", options, tuple(rest[1:]))


def load(options: Mapping[str, str]) -> Config:
    """The configuration of a server: defaults, then the file, then the flags."""
    config = _from_file(options.get("config"))
    if "root" in options:
        config = replace(config, root=_absolute("root", options["root"]))
    if "state" in options:
        config = replace(config, state=_absolute("state", options["state"]))
    if "address" in options:
        config = replace(config, address=_socket("address", options["address"]))
    if "log_level" in options:
        config = replace(config, log_level=_log_level("log level", options["log_level"]))
    return config


def _from_file(path: str | None) -> Config:
    if path is None and not Path(DEFAULT_CONFIG).exists():
        return Config()
    import tomllib  # only when there is a file

    try:
        with open(path or DEFAULT_CONFIG, "rb") as file:
            return from_document(tomllib.load(file))
    except FileNotFoundError:
        raise NotFound(f"configuration file {path} does not exist") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"configuration file {path}: {error}") from error


def from_document(document: Mapping[str, Any]) -> Config:
    """The configuration that a parsed TOML file describes."""
    found: dict[str, Any] = {}
    for key, value in _flat(document):
        if key in KEYS:
            if value != "":
                field, parse = KEYS[key]
                found[field] = parse(key, value)
        elif key in IGNORED or (key == "disabled_plugins" and DISABLED_BY_US.issuperset(value)):
            continue
        elif key not in IDLE:
            raise InvalidArgument(f"unknown configuration key {key}")
        elif value not in IDLE[key]:
            raise Unsupported(f"configuration key {key} is not supported yet")
    return Config(**found)


def document_of(config: Config) -> str:
    """What `config dump` and `config default` print: the file that says the same as `config`."""
    return (
        "version = 2\n"
        f'root = "{config.root}"\n'
        f'state = "{config.state}"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        "\n[grpc]\n"
        f'  address = "{config.socket}"\n'
        f"  gid = {config.gid}\n"
        f"  uid = {config.uid}\n"
        "\n[debug]\n"
        f'  level = "{config.log_level}"\n'
        "\n[metrics]\n"
        f'  address = "{config.metrics_address}"\n'
        f"  grpc_histogram = {str(config.metrics_histogram).lower()}\n"
    )


def _flat(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


def _absolute(name: str, value: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise InvalidArgument(f"{name} must be an absolute path: {value!r}")
    return Path(value)


def _socket(name: str, value: Any) -> str:
    return str(_absolute(name, value))


def _log_level(name: str, value: Any) -> str:
    if value not in LOG_LEVELS:
        raise InvalidArgument(f'not a valid {name}: "{value}"')
    return str(value)


def _id(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise InvalidArgument(f"{name} must be the number of a user or group: {value!r}")
    return value


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} must be true or false: {value!r}")
    return value


def _host_and_port(name: str, value: Any) -> str:
    """`host:port`, `[v6]:port`, or `:port` for every address."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bracketed = host.startswith("[") and host.endswith("]")
    if not port.isdecimal() or int(port) > LAST_PORT or (":" in host and not bracketed):
        raise InvalidArgument(f"{name} must be host:port: {value!r}")
    return str(value)


# Key of the file -> field of Config, and what reads it.
KEYS: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "root": ("root", _absolute),
    "state": ("state", _absolute),
    "grpc.address": ("address", _socket),
    "grpc.uid": ("uid", _id),
    "grpc.gid": ("gid", _id),
    "debug.level": ("log_level", _log_level),
    "metrics.address": ("metrics_address", _host_and_port),
    "metrics.grpc_histogram": ("metrics_histogram", _switch),
}
