"""What barque-containerd is told: containerd's flags and its TOML file.

Source: containerd, docs/man/containerd.8 and containerd-config.toml.5 (version 2 and 3). A flag
beats the file; what the file may say beside is in `config_file`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from barque.containerd.paths import DEFAULT_CONFIG, DEFAULT_ROOT, DEFAULT_STATE
from barque.containerd.snapshots import pool
from barque.containerd.snapshots.pool import Pool
from barque.errors import InvalidArgument

RESTART = "io.containerd.internal.v1.restart"  # the plugin's name up to containerd 1.7
RESTART_2 = "io.containerd.monitor.container.v1.restart"  # and from 2.0 on
LAST_PORT = (1 << 16) - 1
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
INTERVAL_MAX_S = 1e9
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
LOG_FORMATS = ("text", "json")


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
    log_format: str = "text"
    oom_score: int = 0
    cgroup: str = ""  # that the server is to be in; empty: where it is
    disabled_plugins: tuple[str, ...] = ()
    required_plugins: tuple[str, ...] = ()
    restart_interval_s: float = 10.0
    pool: Pool | None = None  # of devmapper; None: one in files

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
    from barque.containerd import config_file  # only when there is a file

    return from_document(config_file.read(path or DEFAULT_CONFIG))


def from_document(document: Mapping[str, Any]) -> Config:
    """The configuration that a parsed TOML file describes."""
    from barque.containerd import config_file

    found: dict[str, Any] = {}
    section: dict[str, Any] = {}
    devmapper = f"{config_file.PLUGINS}.{config_file.DEVMAPPER}"
    for key, value in config_file.settings(document):
        plugin, _, name = key.rpartition(".")
        if plugin == devmapper and name in config_file.POOL:
            section[name] = value
            continue
        if key not in KEYS:
            config_file.refuse(key)
        field, parse = KEYS[key]
        if value != "":
            found[field] = parse(key, value)
    if section:
        found["pool"] = pool.parse(section, devmapper)
    return Config(**found)


def document_of(config: Config) -> str:
    """What `config dump` and `config default` print: the file that says the same as `config`."""
    return (
        "version = 2\n"
        f"root = {_quoted(str(config.root))}\n"
        f"state = {_quoted(str(config.state))}\n"
        f"disabled_plugins = [{', '.join(map(_quoted, config.disabled_plugins))}]\n"
        f"required_plugins = [{', '.join(map(_quoted, config.required_plugins))}]\n"
        f"oom_score = {config.oom_score}\n"
        "\n[cgroup]\n"
        f"  path = {_quoted(config.cgroup)}\n"
        "\n[debug]\n"
        f"  format = {_quoted(config.log_format)}\n"
        f"  level = {_quoted(config.log_level)}\n"
        "\n[grpc]\n"
        f"  address = {_quoted(config.socket)}\n"
        f"  gid = {config.gid}\n"
        f"  uid = {config.uid}\n"
        "\n[metrics]\n"
        f"  address = {_quoted(config.metrics_address)}\n"
        f"  grpc_histogram = {str(config.metrics_histogram).lower()}\n"
        f'\n[plugins."{RESTART}"]\n'
        f'  interval = "{config.restart_interval_s}s"\n'
        f"{_section_of(config.pool)}"
    )


def _section_of(pool: Pool | None) -> str:
    if pool is None:
        return ""
    return (
        '\n[plugins."io.containerd.snapshotter.v1.devmapper"]\n'
        f"  pool_name = {_quoted(pool.name)}\n"
        f"  root_path = {_quoted(pool.root)}\n"
        f"  base_image_size = {_quoted(str(pool.size))}\n"
        f"  fs_type = {_quoted(pool.file_system)}\n"
        f"  fs_options = {_quoted(pool.options)}\n"
        f"  discard_blocks = {str(pool.discard).lower()}\n"
    )


def _quoted(text: str) -> str:
    """A basic string of TOML, which is written as one of JSON."""
    return json.dumps(text)


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


def _log_format(name: str, value: Any) -> str:
    if value not in LOG_FORMATS:
        raise InvalidArgument(f"{name} must be text or json: {value!r}")
    return str(value)


def _oom_score(name: str, value: Any) -> int:
    if type(value) is not int or not -1000 <= value <= 1000:
        raise InvalidArgument(f"{name} must be from -1000 to 1000: {value!r}")
    return value


def _cgroup(name: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or ".." in value.split("/"):
        raise InvalidArgument(f"{name} must be the path of a cgroup: {value!r}")
    return value.strip("/")


def _plugins(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidArgument(f"{name} must be a list of plugins: {value!r}")
    return tuple(value)


def _id(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise InvalidArgument(f"{name} must be the number of a user or group: {value!r}")
    return value


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name} must be true or false: {value!r}")
    return value


def _interval_s(name: str, value: Any) -> float:
    """A duration in Go's words, such as "1m30s"; more than nothing."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value) if isinstance(value, str) else []
    seconds = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != value or not 0 < seconds < INTERVAL_MAX_S:
        raise InvalidArgument(f"{name} must be a duration such as 10s: {value!r}")
    return seconds


def _host_and_port(name: str, value: Any) -> str:
    """`host:port`, `[v6]:port`, or `:port` for every address."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bracketed = host.startswith("[") and host.endswith("]")
    if not port.isdecimal() or int(port) > LAST_PORT or (":" in host and not bracketed):
        raise InvalidArgument(f"{name} must be host:port: {value!r}")
    return str(value)


_PROMETHEUS = "plugins.io.containerd.metrics.v1.grpc-prometheus"
# Key of the file -> field of Config, and what reads it.
KEYS: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "root": ("root", _absolute),
    "state": ("state", _absolute),
    "grpc.address": ("address", _socket),
    "grpc.uid": ("uid", _id),
    "grpc.gid": ("gid", _id),
    "debug.level": ("log_level", _log_level),
    "debug.format": ("log_format", _log_format),
    "oom_score": ("oom_score", _oom_score),
    "cgroup.path": ("cgroup", _cgroup),
    "disabled_plugins": ("disabled_plugins", _plugins),
    "required_plugins": ("required_plugins", _plugins),
    "metrics.address": ("metrics_address", _host_and_port),
    "metrics.grpc_histogram": ("metrics_histogram", _switch),
    f"{_PROMETHEUS}.grpc_histogram": ("metrics_histogram", _switch),
    f"plugins.{RESTART}.interval": ("restart_interval_s", _interval_s),
    f"plugins.{RESTART_2}.interval": ("restart_interval_s", _interval_s),
}
