"""The `mounts` of config.json: Docker's own, then the user's. runtime-spec: config.md, "Mounts"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barque.daemon.containers.host import Host
from barque.daemon.containers.record import MountPoint, Record
from barque.daemon.containers.start_facts import StartFacts

RECURSIVE_READ_ONLY_SINCE = (5, 12)
INIT_DESTINATION = "/sbin/docker-init"


def mounts(
    record: Record, facts: StartFacts, machine: Host, *, writable_cgroups: bool
) -> list[dict[str, Any]]:
    """In the order in which they are made; the user's replace Docker's at the same destination."""
    taken = {point.destination for point in record.mounts}
    system = [
        mount
        for mount in _system(record, facts, writable_cgroups or record.host.privileged)
        if mount["destination"] not in taken
    ]
    users = [_user_mount(point, facts, machine) for point in record.mounts]
    rootfs_mode = "ro" if record.host.readonly_rootfs else "rw"
    files = [
        _mount(destination, "bind", source, "rbind", "rprivate", rootfs_mode)
        for destination, source in facts.files.items()
        if destination not in taken
    ]
    if facts.init:
        users.append(_mount(INIT_DESTINATION, "bind", facts.init, "bind", "ro"))
    return system + sorted(files + users, key=_depth)


def _depth(mount: dict[str, Any]) -> int:
    """What is mounted inside another mount is mounted after it."""
    return len([part for part in mount["destination"].split("/") if part])


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _system(record: Record, facts: StartFacts, writable: bool) -> list[dict[str, Any]]:
    read_only = () if writable else ("ro",)
    sys_read_only = () if record.host.privileged else ("ro",)
    plain = ("nosuid", "noexec", "nodev")
    result = [
        _mount("/proc", "proc", "proc", *plain),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ),
        _mount("/sys", "sysfs", "sysfs", *plain, *sys_read_only),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *read_only, *plain),
    ]
    if record.host.network_mode == "host":
        result[3] = _mount("/sys", "bind", "/sys", "rbind", "rprivate", *plain, *sys_read_only)
        if record.host.privileged:
            result[3] = _mount("/sys", "sysfs", "sysfs", *plain)
    return result + _queues(facts, plain) + _shm(record, facts)


def _queues(facts: StartFacts, plain: Sequence[str]) -> list[dict[str, Any]]:
    if facts.mqueue is None:
        return [_mount("/dev/mqueue", "mqueue", "mqueue", *plain)]
    if not facts.mqueue:
        return []
    return [_mount("/dev/mqueue", "bind", facts.mqueue, "rbind", *plain)]


def _shm(record: Record, facts: StartFacts) -> list[dict[str, Any]]:
    if record.host.ipc_mode == "none":
        return []
    if facts.shm:
        return [_mount("/dev/shm", "bind", facts.shm, "rbind", "rprivate")]
    size = f"size={record.host.shm_size}"
    return [
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", size),
    ]


def _user_mount(point: MountPoint, facts: StartFacts, machine: Host) -> dict[str, Any]:
    if point.type == "tmpfs":
        return _mount(point.destination, "tmpfs", "tmpfs", *point.tmpfs_options)
    options = ["rbind" if point.recursive else "bind"]
    if not point.rw:  # as Docker: "rw" would open what the source's own mount shuts
        options.append("ro")
    can = machine.kernel >= RECURSIVE_READ_ONLY_SINCE
    if not point.rw and point.recursive and point.read_only_recursive and can:
        options.append("rro")
    options.append(point.propagation or "rprivate")
    return _mount(point.destination, "bind", facts.sources[point.destination], *options)


def rootfs_propagation(record: Record) -> str:
    """What the root must be for the user's mounts to propagate as asked."""
    asked = {point.propagation for point in record.mounts}
    if asked & {"shared", "rshared"}:
        return "shared"
    if asked & {"slave", "rslave"}:
        return "rslave"
    return ""
