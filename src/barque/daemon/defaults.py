"""What the configuration means to each service, in that service's own terms."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon import cgroups
from barque.daemon.config import Config
from barque.daemon.containers.host import Defaults, Runtime
from barque.daemon.containers.runtimes import is_shim
from barque.daemon.containers.runtimes import parse as parse_runtime
from barque.daemon.forwarding import drivers
from barque.daemon.paths import Paths
from barque.daemon.remapping import Remap
from barque.daemon.storage import SNAPSHOTTERS
from barque.linux import cpu_realtime
from barque.network.firewall.backends import check_backend, parse_mark
from barque.network.options import DEFAULT_MTU, DEFAULT_POOLS, NetworkOptions
from barque.registry import Policy, Proxies
from barque.registry.proxies import parse as parse_proxy

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
LOG_DRIVERS = ("json-file", "local", "none", *drivers.OPTIONS)
SECCOMP_LIMIT_BYTES = 1 << 20


def size_bytes(text: str, what: str) -> int:
    """`64m`, `1.5GiB`, `1048576`: powers of 1024, as Docker reads memory sizes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise errors.InvalidArgument(f"{what}: invalid size: {text!r}")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def container_defaults(config: Config, paths: Paths, remap: Remap | None = None) -> Defaults:
    """Raises InvalidArgument that names the option."""
    if config.log_driver not in LOG_DRIVERS:
        raise errors.InvalidArgument(f"log-driver: {config.log_driver!r} is not there yet")
    driver = cgroups.driver(config.exec_opts)
    cgroups.check_parent(driver, config.cgroup_parent)
    systemd = driver == cgroups.SYSTEMD
    runtimes = dict.fromkeys(("barque", "runc"), Runtime(systemd_cgroup=systemd))
    scripts = paths.runtimes
    for name, value in config.runtimes.items():
        runtimes[name] = parse_runtime(name, value, scripts, systemd_cgroup=systemd)
    if config.default_runtime not in runtimes and not is_shim(config.default_runtime):
        raise errors.InvalidArgument(
            f"default-runtime: specified default runtime {config.default_runtime!r} does not exist"
        )
    return Defaults(
        runtime=config.default_runtime,
        runtimes=runtimes,
        log_driver=config.log_driver,
        log_options={key: str(value) for key, value in config.log_opts.items()},
        init=config.init,
        init_path=config.init_path,
        cgroup_parent=config.cgroup_parent,
        cgroup_driver=driver,
        shm_size_bytes=size_bytes(config.default_shm_size, "default-shm-size"),
        ulimits={name: _ulimit(name, value) for name, value in config.default_ulimits.items()},
        seccomp_profile=_seccomp(config.seccomp_profile),
        no_new_privileges=config.no_new_privileges,
        snapshotter=SNAPSHOTTERS[config.storage_driver],
        cgroupns_mode=config.default_cgroupns_mode,
        stop_timeout_s=config.default_stop_timeout,
        live_restore=config.live_restore,
        shutdown_timeout_s=config.shutdown_timeout,
        ipc_mode=config.default_ipc_mode,
        cdi_spec_dirs=config.cdi_spec_dirs,
        experimental=config.experimental,
        remap=remap,
        storage_size_bytes=_storage_size(config.storage_opts),
        realtime=_realtime(config),
    )


def _storage_size(options: Sequence[str]) -> int:
    """What containers may write that name no size: `overlay2.size` and its like; 0: no bound."""
    size = 0
    for text in options:
        name, equals, value = text.partition("=")
        driver, dot, key = name.partition(".")
        if not equals or (key if dot else driver) != "size" or (dot and driver not in SNAPSHOTTERS):
            raise errors.InvalidArgument(f"storage-opt {text!r}: only DRIVER.size=BYTES is known")
        size = size_bytes(value, "storage-opt size")
    return size


def _realtime(config: Config) -> tuple[int, int]:
    """Period and runtime of the group of all containers. dockerd's words where it cannot be."""
    asked = config.cpu_rt_period, config.cpu_rt_runtime
    if not any(asked):
        return 0, 0
    if cgroups.version() == "2":
        raise errors.InvalidArgument(
            "daemon-scoped cpu-rt-period and cpu-rt-runtime are not implemented for cgroup v2"
        )
    if not cpu_realtime.available():
        raise errors.InvalidArgument(
            "daemon-scoped cpu-rt-period and cpu-rt-runtime are not supported by kernel"
        )
    if cgroups.driver(config.exec_opts) == cgroups.SYSTEMD:
        raise errors.Unsupported("cpu-rt-runtime with groups by systemd is not there yet")
    return asked


def _ulimit(name: str, value: Any) -> tuple[int, int]:
    """`soft[:hard]` of a flag, or daemon.json's object with Hard and Soft."""
    if isinstance(value, dict):
        soft, hard = value.get("Soft"), value.get("Hard")
    else:
        first, _, second = str(value).partition(":")
        soft, hard = (_integer(first), _integer(second or first))
    if not isinstance(soft, int) or not isinstance(hard, int):
        raise errors.InvalidArgument(f"default-ulimits: {name}: invalid ulimit {value!r}")
    return soft, hard


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,19}", text) else None


def _seccomp(profile: str) -> str:
    """The option names a file, or is `unconfined` or `builtin`."""
    if profile in {"", "builtin"}:
        return ""
    if profile == "unconfined":
        return profile
    try:
        with Path(profile).open(encoding="utf-8") as file:
            return file.read(SECCOMP_LIMIT_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidArgument(f"seccomp-profile: opening {profile}: {error}") from error


def network_options(config: Config) -> NetworkOptions:
    return NetworkOptions(
        bridge=config.bridge,
        bip=config.bip,
        fixed_cidr=config.fixed_cidr,
        mtu=config.mtu or DEFAULT_MTU,
        default_gateway=config.default_gateway,
        icc=config.icc,
        ip_masq=config.ip_masq,
        ip_forward=config.ip_forward,
        ip_forward_no_drop=config.ip_forward_no_drop,
        firewall=config.iptables,
        firewall_backend=check_backend(config.firewall_backend),
        accept_mark=parse_mark(config.bridge_accept_fwmark) if config.bridge_accept_fwmark else "",
        direct_routing=config.allow_direct_routing,
        host_policy=config.publish_host_policy,
        firewall6=config.ip6tables,
        pools=tuple(p for p in config.default_address_pools if ":" not in p[0]) or DEFAULT_POOLS,
        pools6=tuple(p for p in config.default_address_pools if ":" in p[0]),
        ipv6=config.ipv6,
        fixed_cidr_v6=config.fixed_cidr_v6,
        bip6=config.bip6,
        default_gateway_v6=config.default_gateway_v6,
        host_gateway_ips=config.host_gateway_ips,
        driver_options=config.default_network_opts,
        proxy=config.userland_proxy,
        default_host_ip=config.ip or "0.0.0.0",
        dns=config.dns,
        dns_search=config.dns_search,
        dns_options=config.dns_opts,
    )


def registry_policy(config: Config) -> Policy:
    """Raises InvalidArgument for a mirror or a proxy that is none.

    Proxies are those of the flags, else of daemon.json, else of our environment.
    """
    if unknown := set(config.proxies) - {"http-proxy", "https-proxy", "no-proxy"}:
        raise errors.InvalidArgument(f"proxies: unknown: {', '.join(sorted(unknown))}")
    given = {name: str(value) for name, value in config.proxies.items()}
    proxies = Proxies(
        config.http_proxy or given.get("http-proxy") or _variable("HTTP_PROXY"),
        config.https_proxy or given.get("https-proxy") or _variable("HTTPS_PROXY"),
        config.no_proxy or given.get("no-proxy") or _variable("NO_PROXY"),
    )
    for proxy in filter(None, (proxies.http, proxies.https)):
        parse_proxy(proxy)
    policy = Policy(
        insecure=frozenset(config.insecure_registries),
        mirrors=config.registry_mirrors,
        proxies=proxies,
        attempts=config.max_download_attempts,
    )
    policy.mirror_domains()
    return policy


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower(), "")
