"""What the daemon tells of itself and of its host: `/version` and `/info`."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from barque import __version__
from barque.api.versions import API_VERSION, MIN_API_VERSION
from barque.daemon import cgroups
from barque.daemon.config import Config
from barque.daemon.containers import cdi
from barque.daemon.database import Database
from barque.daemon.defaults import LOG_DRIVERS, registry_policy
from barque.daemon.moments import rfc3339_now
from barque.daemon.paths import Paths
from barque.daemon.storage import SNAPSHOTTERS, driver_of
from barque.network.firewall.backends import choose
from barque.registry import proxies

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
INDEX_SERVER = "https://index.docker.io/v1/"
NO_SWARM: Mapping[str, Any] = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}
Counts = Callable[[], Mapping[str, int]]


def engine_id(database: Database) -> str:
    """The id of this installation, made once."""
    row = database.one("SELECT value FROM meta WHERE key = 'engine-id'")
    if row is not None:
        return str(row[0])
    raw = os.urandom(16).hex()
    made = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
    with database.transaction() as tx:
        tx.execute("INSERT INTO meta VALUES ('engine-id', ?)", (made,))
    return made


def architecture() -> str:
    """The machine's architecture by Go's name."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def operating_system(os_release: Path = Path("/etc/os-release")) -> str:
    """PRETTY_NAME. os-release(5)."""
    try:
        lines = os_release.read_text().splitlines()
    except OSError:
        return "Linux"
    pairs = (line.partition("=") for line in lines)
    return next((value.strip('"') for key, _, value in pairs if key == "PRETTY_NAME"), "Linux")


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _registries(config: Config) -> dict[str, Any]:
    """RegistryConfig: by which mirrors, and which without TLS."""
    networks = [name for name in config.insecure_registries if "/" in name]
    mirrors = [f"{url.rstrip('/')}/" for url in config.registry_mirrors]
    hub = {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
    insecure = {
        name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
        for name in config.insecure_registries
        if name not in networks
    }
    return {
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *networks],
        "IndexConfigs": {"docker.io": hub, **insecure},
        "Mirrors": mirrors,
    }


def security_options(*, selinux: bool = False) -> list[str]:
    """What confines containers on this kernel."""
    parameter = Path("/sys/module/apparmor/parameters/enabled")
    confined = parameter.exists() and parameter.read_text().startswith("Y")
    return [
        *(["name=apparmor"] if confined else []),
        "name=seccomp,profile=builtin",
        *(["name=selinux"] if selinux else []),
    ]


class System:
    """Facts about daemon and host."""

    def __init__(
        self,
        config: Config,
        paths: Paths,
        database: Database,
        *,
        containerd_version: Callable[[], tuple[str, str]],
        container_counts: Counts,
        image_count: Callable[[], int],
        network_warnings: Callable[[], Sequence[str]] = tuple,
        listeners: Callable[[], int] = lambda: 0,
        remapped: bool = False,
    ) -> None:
        self._config = config
        self._paths = paths
        self._database = database
        self._containerd_version = containerd_version
        self._container_counts = container_counts
        self._image_count = image_count
        self._network_warnings = network_warnings
        self._listeners = listeners
        self._remapped = remapped

    def reload(self, config: Config) -> None:
        """Labels, runtimes and registries as the configuration has them now."""
        self._config = config

    def version(self) -> dict[str, Any]:
        """`GET /version`."""
        kernel, (containerd, revision) = platform.release(), self._containerd_version()
        newest, oldest = API_VERSION, self._config.min_api_version or MIN_API_VERSION
        python = platform.python_version()
        return {
            "Platform": {"Name": "Barque"},
            "Version": __version__,
            "ApiVersion": newest,
            "MinAPIVersion": oldest,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": architecture(),
            "KernelVersion": kernel,
            "BuildTime": "",
            "Components": [
                {
                    "Name": "Engine",
                    "Version": __version__,
                    "Details": {
                        "ApiVersion": newest,
                        "MinAPIVersion": oldest,
                        "Arch": architecture(),
                        "KernelVersion": kernel,
                        "Os": "linux",
                        "PythonVersion": python,
                    },
                },
                {
                    "Name": "containerd",
                    "Version": containerd,
                    "Details": {"GitCommit": revision},
                },
                {"Name": "barque-runc", "Version": __version__, "Details": {"GitCommit": ""}},
            ],
        }

    def info(self) -> dict[str, Any]:
        """`GET /info`."""
        return {**self._counts(), **self._host(), **self._engine(), "Warnings": self._warnings()}

    def _counts(self) -> dict[str, Any]:
        counts = self._container_counts()
        return {
            "Containers": sum(counts.values()),
            "ContainersRunning": counts.get("running", 0),
            "ContainersPaused": counts.get("paused", 0),
            "ContainersStopped": sum(
                count for status, count in counts.items() if status not in {"running", "paused"}
            ),
            "Images": self._image_count(),
        }

    def _host(self) -> dict[str, Any]:
        used = registry_policy(self._config).proxies
        return {
            "ID": engine_id(self._database),
            "Name": platform.node(),
            "NCPU": os.cpu_count() or 1,
            "MemTotal": memory_bytes(),
            "KernelVersion": platform.release(),
            "OperatingSystem": operating_system(),
            "OSVersion": "",
            "OSType": "linux",
            "Architecture": platform.machine(),
            "CgroupDriver": cgroups.driver(self._config.exec_opts),
            "CgroupVersion": cgroups.version(),
            "MemoryLimit": _controller("memory"),
            "SwapLimit": _has_swap_limit(),
            "CpuCfsPeriod": _controller("cpu"),
            "CpuCfsQuota": _controller("cpu"),
            "CPUShares": _controller("cpu"),
            "CPUSet": _controller("cpuset"),
            "PidsLimit": _controller("pids"),
            "OomKillDisable": cgroups.version() == "1",
            "IPv4Forwarding": _sysctl("net/ipv4/ip_forward") == "1",
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": 1,
            "SystemTime": rfc3339_now(),
            "HttpProxy": proxies.shown(used.http),
            "HttpsProxy": proxies.shown(used.https),
            "NoProxy": used.none,
        }

    def _engine(self) -> dict[str, Any]:
        config = self._config
        containerd, revision = self._containerd_version()
        return {
            "Driver": driver_of(SNAPSHOTTERS[config.storage_driver]),
            "DriverStatus": [
                ["Backing Filesystem", _filesystem(self._paths.root)],
                ["Snapshotter", SNAPSHOTTERS[config.storage_driver]],
            ],
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"],
                "Authorization": list(config.authorization_plugins) or None,
                "Log": sorted(LOG_DRIVERS),
            },
            "NEventsListener": self._listeners(),
            "Debug": config.debug or config.log_level == "debug",
            "LoggingDriver": config.log_driver,
            "IndexServerAddress": INDEX_SERVER,
            "RegistryConfig": _registries(config),
            "GenericResources": None,
            "DockerRootDir": str(self._paths.root),
            "Labels": list(config.labels),
            "ExperimentalBuild": config.experimental,
            "ServerVersion": __version__,
            "Runtimes": {
                "barque": {"path": "barque-runc"},
                "io.containerd.barque.v2": {"path": "containerd-shim-barque-v2"},
                "runc": {"path": "barque-runc"},
                **{name: dict(value) for name, value in config.runtimes.items()},
            },
            "DefaultRuntime": config.default_runtime,
            "Swarm": NO_SWARM,
            "LiveRestoreEnabled": config.live_restore,
            "Isolation": "",
            "InitBinary": config.init_path or "docker-init",
            "ContainerdCommit": {"ID": revision or containerd},
            "RuncCommit": {"ID": __version__},
            "InitCommit": {"ID": ""},
            "SecurityOptions": [
                *security_options(selinux=config.selinux_enabled),
                *(["name=userns"] if self._remapped else []),
            ],
            "ProductLicense": "Apache-2.0",
            "DefaultAddressPools": [
                {"Base": base, "Size": size} for base, size in config.default_address_pools
            ],
            "FirewallBackend": {
                "Driver": choose(config.firewall_backend) if config.iptables else "none"
            },
            "CDISpecDirs": list(config.cdi_spec_dirs),
            "DiscoveredDevices": [
                {"Source": "cdi", "ID": name}
                for name in sorted(cdi.Registry.read(config.cdi_spec_dirs).devices)
            ],
            "Containerd": {
                "Address": config.containerd or str(self._paths.containerd_socket),
                "Namespaces": {"Containers": config.containerd_namespace, "Plugins": ""},
            },
        }

    def _warnings(self) -> list[str]:
        checks = (
            (_controller("memory"), "WARNING: No memory limit support"),
            (_has_swap_limit(), "WARNING: No swap limit support"),
            (_controller("cpu"), "WARNING: No cpu cfs quota support"),
            (_controller("pids"), "WARNING: No pids limit support"),
            (_sysctl("net/ipv4/ip_forward") == "1", "WARNING: IPv4 forwarding is disabled"),
        )
        found = [text for good, text in checks if not good]
        open_to_all = [
            f"WARNING: API is accessible on {address} without encryption."
            for address in self._config.listen
            if address.startswith("tcp://") and not (self._config.tls or self._config.tlsverify)
        ]
        return [*found, *open_to_all, *(f"WARNING: {text}" for text in self._network_warnings())]


def _controller(name: str) -> bool:
    try:
        lines = Path("/proc/cgroups").read_text().splitlines()
    except OSError:
        return False
    return any(line.split()[0] == name and line.split()[3] == "1" for line in lines[1:])


def _has_swap_limit() -> bool:
    v1 = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"
    return os.path.exists(v1) or cgroups.version() == "2"


def _sysctl(name: str) -> str:
    try:
        return Path(f"/proc/sys/{name}").read_text().strip()
    except OSError:
        return ""


def _filesystem(path: Path) -> str:
    """The type of the file system that holds `path`, by the longest mount point above it."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, fstype, *_ = line.split()
        above = str(path) == point or str(path).startswith(point.rstrip("/") + "/")
        if above and len(point) >= len(best):
            best, kind = point, fstype
    return kind
