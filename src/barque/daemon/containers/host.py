"""What the machine and the daemon's configuration offer to containers, found once at start."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from barque.daemon.containers import capabilities
from barque.daemon.remapping import Remap
from barque.linux import cpu_realtime

INIT_PROGRAMS = ("docker-init", "tini", "catatonit")
MAX_CPUS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Facts of this kernel and machine."""

    kernel: tuple[int, int]
    machine: str
    capabilities: frozenset[str]
    cgroup_version: int
    swap_limit: bool
    cpus: frozenset[int]
    memory_nodes: frozenset[int]
    thermal_paths: tuple[str, ...]
    hostname: str
    apparmor: bool
    selinux: bool = False
    """Containers get labels: the kernel can, and the daemon is told to."""
    block_weight: bool = True
    block_weight_device: bool = True
    cpu_realtime: bool = False

    @classmethod
    def probe(cls, *, selinux: bool = False) -> Host:
        name = os.uname()
        version = name.release.split(".")
        v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        memory = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"
        return cls(
            kernel=(int(version[0]), int("".join(c for c in version[1] if c.isdigit()) or 0)),
            machine=name.machine,
            capabilities=capabilities.held(_read("/proc/self/status")),
            cgroup_version=2 if v2 else 1,
            swap_limit=v2 or os.path.exists(memory),
            cpus=parse_list(_read("/sys/devices/system/cpu/online").strip() or "0", MAX_CPUS),
            memory_nodes=parse_list(_read("/sys/devices/system/node/online").strip() or "0", 1024),
            thermal_paths=tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu*/thermal_throttle"))),
            hostname=name.nodename,
            block_weight=v2 or _has_block("weight"),
            block_weight_device=v2 or _has_block("weight_device"),
            cpu_realtime=not v2 and cpu_realtime.available(),
            apparmor=_read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
            selinux=selinux,
        )


OUR_SHIM = "io.containerd.barque.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime by the name that `--runtime` takes. The options are runc's, empty where unsaid."""

    type: str = OUR_SHIM
    binary: str = ""
    root: str = ""
    systemd_cgroup: bool = False
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    io_owner: tuple[int, int] = (0, 0)
    """Whom the pipes of a process belong to."""

    @property
    def foreign(self) -> bool:
        """Whether its shim is not ours."""
        return self.type != OUR_SHIM


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the daemon's configuration says of containers that say nothing."""

    runtime: str = "barque"
    runtimes: Mapping[str, Runtime] = field(default_factory=lambda: {"barque": Runtime()})
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    init: bool = False
    init_path: str = ""
    cgroup_parent: str = ""
    cgroup_driver: str = "cgroupfs"
    shm_size_bytes: int = 64 << 20
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    seccomp_profile: str = ""
    """"" for the built-in one, `unconfined`, or the text of a profile."""
    no_new_privileges: bool = False
    snapshotter: str = "overlayfs"
    cgroupns_mode: str = ""
    stop_timeout_s: int = 10
    live_restore: bool = True
    """Containers go on when the daemon ends."""
    shutdown_timeout_s: int = 15
    ipc_mode: str = "private"
    cdi_spec_dirs: tuple[str, ...] = ()
    storage_size_bytes: int = 0
    """What a container may write that names no size; 0: no bound."""
    realtime: tuple[int, int] = (0, 0)
    """Microseconds of real time in each period that the group of all containers may have."""
    experimental: bool = False
    remap: Remap | None = None
    """Whose ids containers have on the machine; None: the same."""

    def remap_of(self, userns_mode: str) -> Remap | None:
        """HostConfig.UsernsMode: "host" is for a container that is not remapped."""
        return None if userns_mode == "host" else self.remap

    def find_init(self) -> str | None:
        """The program that `--init` runs as the first process."""
        if self.init_path:
            return self.init_path if os.access(self.init_path, os.X_OK) else None
        return next((path for name in INIT_PROGRAMS if (path := shutil.which(name))), None)


def _has_block(name: str) -> bool:
    """Whether cgroup version 1 has this setting, of either scheduler that knows weights."""
    base = "/sys/fs/cgroup/blkio"
    return any(os.path.exists(f"{base}/blkio.{prefix}{name}") for prefix in ("", "bfq."))


def parse_list(text: str, limit: int) -> frozenset[int]:
    """`0-3,7` as numbers. Raises ValueError beyond `limit`, before any memory is spent on it."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low = _small(first, limit)
        high = _small(last, limit) if dash else low
        if high < low:
            raise ValueError(text)
        numbers.update(range(low, high + 1))
    return frozenset(numbers)


def _small(text: str, limit: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) >= limit:
        raise ValueError(text)
    return int(text)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""
