"""The daemon's configuration: dockerd's flags and daemon.json, each option known by both names.

An option given both ways is an error, as with dockerd; one that Barque does not know, or knows
but does not do yet, is refused by its name. Nothing is accepted and ignored.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from barque import __version__, errors
from barque.api.versions import API_VERSION, MIN_API_VERSION, version_tuple
from barque.daemon import cgroups
from barque.daemon.options import FLAG_ONLY, NOT_YET, OPTIONS, Option, refusal
from barque.daemon.paths import EXEC_ROOT_BYTES
from barque.daemon.storage import SHARE_A_FILE_SYSTEM, SNAPSHOTTERS
from barque.linux import selinux


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the daemon runs with. Names are daemon.json's with underscores."""

    data_root: str = "/var/lib/barque"
    exec_root: str = "/run/barque"
    pidfile: str = ""  # <exec root>/barqued.pid
    hosts: tuple[str, ...] = ()  # unix://<exec root>/barque.sock
    group: str = "docker"
    containerd: str = ""  # address of a containerd that is not ours to start
    containerd_namespace: str = "moby"
    storage_driver: str = "overlay2"
    debug: bool = False
    log_level: str = "info"
    labels: tuple[str, ...] = ()
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    bip: str = ""
    bridge: str = ""
    fixed_cidr: str = ""
    mtu: int = 0
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    ip: str = ""
    insecure_registries: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    registry_mirrors: tuple[str, ...] = ()  # URLs
    proxies: Mapping[str, Any] = field(default_factory=dict)  # of daemon.json; flags win
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    default_runtime: str = "barque"
    runtimes: Mapping[str, Any] = field(default_factory=dict)
    log_driver: str = "json-file"
    log_opts: Mapping[str, Any] = field(default_factory=dict)
    init: bool = False
    init_path: str = ""
    cgroup_parent: str = ""
    default_shm_size: str = "64MiB"
    default_ulimits: Mapping[str, Any] = field(default_factory=dict)
    seccomp_profile: str = ""
    no_new_privileges: bool = False
    live_restore: bool = True
    icc: bool = True
    ip_masq: bool = True
    ip_forward: bool = True
    ip_forward_no_drop: bool = False
    iptables: bool = True
    ip6tables: bool = True
    firewall_backend: str = ""
    publish_host_policy: bool = False
    bridge_accept_fwmark: str = ""
    allow_direct_routing: bool = False
    default_gateway: str = ""
    ipv6: bool = False
    fixed_cidr_v6: str = ""
    bip6: str = ""
    default_gateway_v6: str = ""
    default_address_pools: tuple[tuple[str, int], ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    default_cgroupns_mode: str = ""
    default_ipc_mode: str = "private"
    default_stop_timeout: int = 10  # seconds; -1 for ever
    shutdown_timeout: int = 15  # seconds that the containers' end may take at least; -1 for ever
    experimental: bool = False
    features: Mapping[str, Any] = field(default_factory=dict)
    log_format: str = "text"
    raw_logs: bool = False  # ours are never coloured
    metrics_addr: str = ""
    oom_score_adjust: int = 0
    authorization_plugins: tuple[str, ...] = ()
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
    exec_opts: tuple[str, ...] = ()
    min_api_version: str = ""
    selinux_enabled: bool = False
    userland_proxy: bool = True
    userns_remap: str = ""
    cpu_rt_period: int = 0  # microseconds
    cpu_rt_runtime: int = 0
    default_network_opts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by driver
    max_download_attempts: int = 5
    storage_opts: tuple[str, ...] = ()
    on_demand: bool = False  # leave when idle
    idle_timeout: int = 60  # seconds, for on_demand
    validate: bool = False

    @property
    def socket(self) -> str:
        return f"{self.exec_root}/barque.sock"

    @property
    def listen(self) -> tuple[str, ...]:
        return self.hosts or (f"unix://{self.socket}",)

    @property
    def pid_path(self) -> Path:
        return Path(self.pidfile or f"{self.exec_root}/barqued.pid")


class Usage(errors.InvalidArgument):
    """A command line or a configuration file that cannot be followed."""


class VersionAsked(Exception):
    """The command line asks for the version."""


class HelpAsked(Exception):
    """The command line asks what it may say."""


def _refuse(text: str) -> NoReturn:
    raise Usage(text)


def parse_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """{attribute: value}; lists and maps collect. Raises Usage, VersionAsked, HelpAsked."""
    by_flag = {option.flag: option for option in (*OPTIONS, *FLAG_ONLY)}
    by_short = {option.short: option for option in OPTIONS if option.short}
    values: dict[str, Any] = {}
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if argument in {"-v", "--version"}:
            raise VersionAsked
        if argument in {"-h", "--help"}:
            raise HelpAsked
        if argument.startswith("--"):
            name, equals, text = argument[2:].partition("=")
            if name in NOT_YET:
                _refuse(f"--{name} {refusal(name)}")
            option = by_flag.get(name) or _refuse(f"unknown flag: --{name}")
        elif argument.startswith("-") and len(argument) > 1:
            name, text = argument[1], argument[2:].removeprefix("=")
            equals = "=" if text else ""
            option = by_short.get(name) or _refuse(
                f"unknown shorthand flag: {name!r} in {argument}"
            )
        else:
            _refuse(f'"barqued" accepts no arguments, got {argument!r}')
        if not equals and option.kind != "flag":
            if not queue:
                _refuse(f"flag needs an argument: {argument}")
            text = queue.pop(0)
        _store(values, option, text if equals or option.kind != "flag" else "true")
    return values


def _store(values: dict[str, Any], option: Option, text: str) -> None:
    if option.kind == "list":
        values[option.name] = (*values.get(option.name, ()), text)
    elif option.kind == "map":
        key, equals, value = text.partition("=")
        if not equals:
            _refuse(f"invalid argument {text!r} for --{option.flag}: expected name=value")
        item: Any = {"path": value} if option.name == "runtimes" else value
        if option.name == "default_network_opts":
            inner, equals, item = value.partition("=")
            if not equals:
                _refuse(
                    f"invalid argument {text!r} for --{option.flag}: expected driver=name=value"
                )
            item = {**values.get(option.name, {}).get(key, {}), inner: item}
        values[option.name] = {**values.get(option.name, {}), key: item}
    elif option.kind == "pools":
        pairs = dict(pair.partition("=")[::2] for pair in text.split(","))
        pool = _pool({**pairs, "size": int(pairs.get("size", "0") or 0)}, f"--{option.flag}")
        values[option.name] = (*values.get(option.name, ()), pool)
    else:
        values[option.name] = _scalar(option, text, f"--{option.flag}")


def _scalar(option: Option, text: str, where: str) -> str | int | bool:
    if option.kind == "flag":
        known = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
        if text.lower() not in known:
            _refuse(f"invalid argument {text!r} for {where}: expected true or false")
        return known[text.lower()]
    if option.kind == "number":
        if not text.isascii() or not text.lstrip("-").isdigit() or len(text) > 9:
            _refuse(f"invalid argument {text!r} for {where}: expected a number")
        return int(text)
    return text


def _pool(value: Any, where: str) -> tuple[str, int]:
    """`base=10.0.0.0/8,size=24`, or an object with these two."""
    try:
        base, size = ipaddress.ip_network(value["base"]), value["size"]
        good = isinstance(size, int) and base.prefixlen <= size <= base.max_prefixlen
    except (KeyError, TypeError, ValueError):
        good = False
    if not good or set(value) - {"base", "size"}:
        _refuse(f"invalid argument {value!r} for {where}: expected base=NETWORK,size=BITS")
    return str(base), size


def parse_file(path: Path, raw: bytes) -> dict[str, Any]:
    """daemon.json as {attribute: value}. Raises Usage that names the key."""
    try:
        document = json.loads(raw or b"{}")
    except ValueError as error:
        _refuse(f"unable to configure the daemon with file {path}: invalid JSON: {error}")
    if not isinstance(document, dict):
        _refuse(f"unable to configure the daemon with file {path}: not a JSON object")
    by_key = {option.json_key: option for option in OPTIONS}
    if "host-gateway-ip" in document:  # one, as it was called before
        document.setdefault("host-gateway-ips", [document.pop("host-gateway-ip")])
    later = sorted(NOT_YET & document.keys())
    if later:
        _refuse(f"{path}: {'; '.join(f'{name} {refusal(name)}' for name in later)}")
    unknown = [key for key in document if key not in by_key]
    if unknown:
        _refuse(
            f"unable to configure the daemon with file {path}: the following directives don't "
            f"match any configuration option: {', '.join(unknown)}"
        )
    return {
        by_key[key].name: _file_value(by_key[key], value, path) for key, value in document.items()
    }


def _file_value(option: Option, value: Any, path: Path) -> Any:
    if option.kind == "pools" and isinstance(value, list):
        return tuple(_pool(item, f"{path}: {option.json_key}") for item in value)
    expected = {
        "flag": bool,
        "text": str,
        "number": int,
        "list": list,
        "map": dict,
        "pools": list,
    }[option.kind]
    good = isinstance(value, expected) and not (expected is int and isinstance(value, bool))
    if option.kind == "list":
        good = good and all(isinstance(item, str) for item in value)
    if not good:
        _refuse(f"{path}: {option.json_key}: expected a {option.kind}, got {type(value).__name__}")
    return tuple(value) if option.kind == "list" else value


def load(arguments: Sequence[str]) -> Config:
    """Flags and file merged and checked. Raises Usage, VersionAsked, HelpAsked."""
    flags = parse_flags(arguments)
    given = flags.pop("config_file", None)
    path = Path(given or "/etc/barque/daemon.json")
    from_file: dict[str, Any] = {}
    try:
        from_file = parse_file(path, path.read_bytes())
    except FileNotFoundError:
        if given is not None:
            _refuse(f"unable to configure the daemon with file {path}: no such file")
    except OSError as error:
        _refuse(f"unable to configure the daemon with file {path}: {error.strerror}")
    both = [o.flag for o in OPTIONS if o.name in flags and o.name in from_file and o.kind != "map"]
    if both:
        _refuse(
            f"unable to configure the daemon with file {path}: the following directives are "
            f"specified both as a flag and in the configuration file: {', '.join(both)}"
        )
    wanted = {**from_file, **flags}
    if hosts := wanted.get("hosts"):
        wanted["hosts"] = type(hosts)(_bound(host) for host in hosts)
    return _checked(Config(**wanted))


def _bound(host: str) -> str:
    """An address to listen on, whole: `HOST:PORT` is tcp. Docker: opts.ParseHost."""
    host = host.strip()
    scheme, cut, _ = host.partition("://")
    if not host or host == "unix://":
        return Config().listen[0]
    if not cut and ":" in host and not scheme.startswith("/"):
        return f"tcp://{host}"
    return host


def _checked(config: Config) -> Config:
    if config.storage_driver not in SNAPSHOTTERS:
        known = ", ".join(SNAPSHOTTERS)
        _refuse(f"storage driver {config.storage_driver!r} is not one of {known}")
    if config.log_level not in {"debug", "info", "warn", "error", "fatal"}:
        _refuse(f"invalid logging level: {config.log_level}")
    for root in (config.data_root, config.exec_root):
        if not os.path.isabs(root):
            _refuse(f"{root!r} is not an absolute path")
    if len(os.fsencode(config.exec_root)) > EXEC_ROOT_BYTES:
        _refuse(
            f"exec-root {config.exec_root!r} is longer than {EXEC_ROOT_BYTES} bytes, too long for "
            "its sockets"
        )
    for host in config.hosts:
        if not host.startswith(("unix://", "tcp://", "fd://")):
            _refuse(
                f"invalid bind address ({host}): expected unix://PATH, tcp://HOST:PORT or fd://"
            )
    for name, value, words in (
        ("log-format", config.log_format, ("text", "json")),
        ("default-cgroupns-mode", config.default_cgroupns_mode, ("", "host", "private")),
        ("default-ipc-mode", config.default_ipc_mode, ("private", "shareable")),
    ):
        if value not in words:
            _refuse(f"{name} {value!r} is not one of {', '.join(filter(None, words))}")
    if not -1000 <= config.oom_score_adjust <= 1000:
        _refuse(f"oom-score-adjust {config.oom_score_adjust}: the range is [-1000, 1000]")
    for name, seconds in (
        ("default-stop-timeout", config.default_stop_timeout),
        ("shutdown-timeout", config.shutdown_timeout),
    ):
        if seconds < -1:
            _refuse(f"{name} {seconds}: expected seconds, or -1")
    if config.max_download_attempts < 1:
        _refuse(f"invalid max download attempts: {config.max_download_attempts}")
    for text in config.host_gateway_ips:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            _refuse(f"host-gateway-ip: {text!r} is no IP address")
    if len({ipaddress.ip_address(text).version for text in config.host_gateway_ips}) != len(
        config.host_gateway_ips
    ):
        _refuse("host-gateway-ip: at most one address of each IP version")
    for driver, given in config.default_network_opts.items():
        if not isinstance(given, Mapping) or not all(isinstance(v, str) for v in given.values()):
            _refuse(f"default-network-opts: {driver}: expected an object of texts")
    _check_features(config.features)
    _check_unsupported(config)
    return config


# What Barque does, whatever it is told; the others of dockerd are not there yet.
FEATURES = ("cdi", "containerd-snapshotter")
OTHER_FEATURES = frozenset(
    {"buildkit", "containerd-migration", "embedded-containerd", "swarm-nftables", "time-namespaces"}
)


def _check_features(features: Mapping[str, Any]) -> None:
    for name, value in features.items():
        if value not in (True, False, "true", "false"):
            _refuse(f"features: {name}: expected true or false, got {value!r}")
        wanted = value in (True, "true")
        if name in FEATURES:
            if not wanted:
                _refuse(f"features: {name}=false is not there: Barque always has it")
        elif name not in OTHER_FEATURES:
            _refuse(f"features: unknown feature {name!r}")
        elif wanted:
            _refuse(f"features: {name} is not there yet")


def _check_unsupported(config: Config) -> None:
    """Options of which one value is what Barque does anyway."""
    try:
        cgroups.driver(config.exec_opts)
    except errors.InvalidArgument as error:
        _refuse(str(error))
    if config.selinux_enabled:
        _check_labels(config)
    if config.min_api_version:
        try:
            given = version_tuple(config.min_api_version)
        except ValueError:
            given = (0, 0)
        if not version_tuple(MIN_API_VERSION) <= given <= version_tuple(API_VERSION):
            _refuse(
                f"min-api-version {config.min_api_version!r} is not between {MIN_API_VERSION} "
                f"and {API_VERSION}"
            )


def _check_labels(config: Config) -> None:
    if not selinux.enabled():
        _refuse("selinux-enabled: SELinux is disabled or not supported by this kernel")
    if SNAPSHOTTERS[config.storage_driver] in SHARE_A_FILE_SYSTEM:
        _refuse(f"selinux-enabled does not go with the storage driver {config.storage_driver}")


VERSION_LINE = f"Barque version {__version__}"
