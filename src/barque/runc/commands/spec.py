"""`spec`: a config.json to begin with."""

from __future__ import annotations

import os

from barque.errors import AlreadyExists
from barque.linux.cgroup import is_unified
from barque.linux.fs import write_all
from barque.oci.document import dump_indented
from barque.oci.runtime import SPEC_VERSION
from barque.runc.flags import SWITCH, VALUE, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (
    Flag("bundle,b", VALUE, "directory to write config.json into"),
    Flag("rootless", SWITCH, "a configuration for a user without privileges"),
)
USAGE = "spec [command options]"
WORDS = (0, 0)
CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
)
# and one of cgroups where they are of version 2, as with runc: who sees version 1 may ask for it
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def run(given: Arguments, paths: Paths, log: Log) -> int:
    document = default_spec()
    if given.on("rootless"):
        from barque.runc import rootless

        document = rootless.to_rootless(document)
    path = os.path.join(given.get("bundle", "."), "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise AlreadyExists("File config.json exists. Remove it first") from None
    try:
        write_all(fd, dump_indented(document, "\t").encode())
    finally:
        os.close(fd)
    return 0


def default_spec() -> dict[str, Any]:
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": [
            mount("/proc", "proc"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount(
                *("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666"),
                *("mode=0620", "gid=5"),
            ),
            mount(
                *("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
                source="shm",
            ),
            mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": kind} for kind in (*NAMESPACES, *(("cgroup",) if is_unified() else ()))
            ],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }


def mount(destination: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"destination": destination, "type": kind, "source": source or kind}
    if options:
        entry["options"] = list(options)
    return entry
