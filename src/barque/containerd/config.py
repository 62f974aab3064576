"""What barque-containerd is told: containerd's flags and its TOML file.

Source: containerd, docs/man/containerd.8 and containerd-config.toml.5 (version 2 and 3). A flag
beats the file. A key of the file that we know nothing of is refused by name; sections of plugins
that we do not have may be there as long as they are empty or about nothing we do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from barque.containerd.paths import DEFAULT_CONFIG, DEFAULT_ROOT, DEFAULT_STATE
from barque.errors import InvalidArgument, NotFound, Unsupported

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
IDLE: Mapping[str, Any] = {
    "grpc.tcp_address": "",
    "grpc.tcp_tls_cert": "",
    "grpc.tcp_tls_key": "",
    "grpc.tcp_tls_ca": "",
    "grpc.tcp_tls_common_name": "",
    "grpc.uid": 0,
    "grpc.gid": 0,
    "ttrpc.address": "",
    "ttrpc.uid": 0,
    "ttrpc.gid": 0,
    "debug.address": "",
    "debug.uid": 0,
    "debug.gid": 0,
    "debug.format": "",
    "metrics.address": "",
    "metrics.grpc_histogram": False,
    "plugin_dir": "",
    "disabled_plugins": [],
    "required_plugins": [],
    "oom_score": 0,
    "imports": [],
    "temp": "",
    "cgroup.path": "",
}
IGNORED = frozenset(
    {
        "version",
        "root",
        "state",
        "grpc.address",
        "debug.level",
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
        config = replace(config, address=str(_absolute("address", options["address"])))
    if "log_level" in options:
        config = replace(config, log_level=_log_level(options["log_level"]))
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
    config = Config()
    for key, value in _flat(document):
        if key == "root" and value:
            config = replace(config, root=_absolute(key, value))
        elif key == "state" and value:
            config = replace(config, state=_absolute(key, value))
        elif key == "grpc.address" and value:
            config = replace(config, address=str(_absolute(key, value)))
        elif key == "debug.level" and value:
            config = replace(config, log_level=_log_level(value))
        elif key in IGNORED or (key == "disabled_plugins" and DISABLED_BY_US.issuperset(value)):
            continue
        elif key not in IDLE:
            raise InvalidArgument(f"unknown configuration key {key}")
        elif value != IDLE[key]:
            raise Unsupported(f"configuration key {key} is not supported yet")
    return config


def default_document() -> str:
    """What `config default` prints: the file that says what we do without one."""
    return (
        "version = 2\n"
        f'root = "{DEFAULT_ROOT}"\n'
        f'state = "{DEFAULT_STATE}"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        "\n[grpc]\n"
        f'  address = "{DEFAULT_STATE}/containerd.sock"\n'
        "\n[debug]\n"
        '  level = "info"\n'
    )


def _flat(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


def _absolute(name: str, value: str) -> Path:
    if not value.startswith("/"):
        raise InvalidArgument(f"{name} must be an absolute path: {value!r}")
    return Path(value)


def _log_level(value: str) -> str:
    if value not in LOG_LEVELS:
        raise InvalidArgument(f'not a valid log level: "{value}"')
    return value
