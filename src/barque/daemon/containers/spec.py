"""A container as an OCI config.json. Pure: record, start facts and machine in, a document out.

runtime-spec: config.md, config-linux.md. Where the spec leaves a choice, Docker's is taken.
"""

from __future__ import annotations

from typing import Any

from barque.daemon import cgroups
from barque.daemon.containers import apparmor, capabilities, seccomp, security
from barque.daemon.containers.documents import HostConfig
from barque.daemon.containers.host import Defaults, Host
from barque.daemon.containers.record import Record
from barque.daemon.containers.spec_mounts import INIT_DESTINATION, mounts, rootfs_propagation
from barque.daemon.containers.spec_resources import resources
from barque.daemon.containers.start_facts import StartFacts

OCI_VERSION = "1.0.2"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
PING_GROUPS = "net.ipv4.ping_group_range"
NETWORK_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    PING_GROUPS: "0 2147483647",
}


def build(record: Record, facts: StartFacts, machine: Host, defaults: Defaults) -> dict[str, Any]:
    """config.json as a document."""
    options = security.parse(record.host.security_opt or (), machine)
    linux: dict[str, Any] = {
        "cgroupsPath": cgroups_path(record, defaults),
        "namespaces": _namespaces(record, facts, machine, defaults),
        **_user_namespace(record, defaults),
        "resources": resources(record, facts),
        "sysctl": _sysctls(record, defaults),
        **_paths(record, options, machine),
    }
    if record.mount_label:
        linux["mountLabel"] = record.mount_label
    if facts.devices:
        linux["devices"] = [device.node() for device in facts.devices]
    profile = _seccomp(record, options, machine, defaults)
    if profile is not None:
        linux["seccomp"] = profile
    if propagation := rootfs_propagation(record):
        linux["rootfsPropagation"] = propagation
    result: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": _process(record, facts, machine, defaults, options),
        "root": {"path": "rootfs", "readonly": record.host.readonly_rootfs},
        "mounts": mounts(record, facts, machine, writable_cgroups=options.writable_cgroups),
        "annotations": dict(record.host.annotations or {}),
        "linux": linux,
    }
    if record.host.uts_mode != "host":
        result["hostname"] = record.config.hostname
        if record.config.domainname:
            result["domainname"] = record.config.domainname
    return result


def cgroups_path(record: Record, defaults: Defaults) -> str:
    parent = record.host.cgroup_parent or defaults.cgroup_parent
    return cgroups.path(defaults.cgroup_driver, parent, record.id)


def capability_set(record: Record, machine: Host) -> list[str]:
    host = record.host
    return capabilities.resolve(
        host.cap_add or (), host.cap_drop or (), host.privileged, machine.capabilities
    )


def capability_document(names: list[str]) -> dict[str, list[str]]:
    """No inheritable and no ambient set: CVE-2022-24769, CVE-2016-8867."""
    return {"bounding": names, "effective": names, "permitted": names}


def environment(record: Record, home: str, extra: list[str], tty: bool) -> list[str]:
    """Docker's variables, then the container's, then `extra`; HOME when nothing says it."""
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": record.config.hostname}
    if tty:
        values["TERM"] = "xterm"
    for item in (*record.config.env, *extra):
        name, equals, value = item.partition("=")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    values["HOME"] = values.get("HOME") or home
    return [f"{name}={value}" for name, value in values.items()]


def user_document(facts_user: Any) -> dict[str, Any]:
    """The primary group is in the supplementary ones too: CVE-2022-36109."""
    groups = dict.fromkeys((facts_user.gid, *facts_user.groups))
    return {"uid": facts_user.uid, "gid": facts_user.gid, "additionalGids": list(groups)}


def _process(
    record: Record,
    facts: StartFacts,
    machine: Host,
    defaults: Defaults,
    options: security.Security,
) -> dict[str, Any]:
    arguments = [record.path, *record.args]
    if facts.init:
        arguments = [INIT_DESTINATION, "--", *arguments]
    no_new = options.no_new_privileges
    process: dict[str, Any] = {
        "terminal": record.config.tty,
        "user": user_document(facts.user),
        "args": arguments,
        "env": environment(record, facts.user.home, [], record.config.tty),
        "cwd": record.config.working_dir or "/",
        "capabilities": capability_document(capability_set(record, machine)),
        "noNewPrivileges": defaults.no_new_privileges if no_new is None else no_new,
        "oomScoreAdj": record.host.oom_score_adj,
    }
    if profile := apparmor.profile_of(record, machine):
        process["apparmorProfile"] = profile
    if record.process_label:
        process["selinuxLabel"] = record.process_label
    height, width = (*record.host.console_size, 0, 0)[:2]
    if record.config.tty and height and width:
        process["consoleSize"] = {"height": height, "width": width}
    if limits := rlimits(record, defaults):
        process["rlimits"] = limits
    return process


def rlimits(record: Record, defaults: Defaults) -> list[dict[str, Any]]:
    values = dict(defaults.ulimits)
    values.update((limit.name, (limit.soft, limit.hard)) for limit in record.host.ulimits)
    unlimited = (1 << 64) - 1
    return [
        {
            "type": f"RLIMIT_{name.upper()}",
            "soft": unlimited if soft < 0 else soft,
            "hard": unlimited if hard < 0 else hard,
        }
        for name, (soft, hard) in values.items()
    ]


def _namespaces(
    record: Record, facts: StartFacts, machine: Host, defaults: Defaults
) -> list[dict[str, str]]:
    host = record.host
    result = [{"type": "mount"}]
    if host.network_mode != "host":
        result.append(_namespace("network", facts.netns))
    if host.uts_mode != "host":
        result.append({"type": "uts"})
    if host.pid_mode != "host":
        result.append(_namespace("pid", facts.pid_namespace))
    if host.ipc_mode != "host":
        result.append(_namespace("ipc", facts.ipc_namespace))
    if private_cgroup_namespace(host, machine):
        result.append({"type": "cgroup"})
    if remap := defaults.remap_of(host.userns_mode):
        result.append({"type": "user", "path": remap.namespace})
    return result


def private_cgroup_namespace(host: HostConfig, machine: Host) -> bool:
    """Docker's default: private on cgroup v2, the host's on v1 and for privileged containers."""
    if host.cgroupns_mode:
        return host.cgroupns_mode == "private"
    return machine.cgroup_version == 2 and not host.privileged


def _user_namespace(record: Record, defaults: Defaults) -> dict[str, Any]:
    """The maps of the namespace that `_namespaces` names: runtimes compare them with its own."""
    remap = defaults.remap_of(record.host.userns_mode)
    if remap is None:
        return {}
    return {
        f"{kind}Mappings": [
            {"containerID": inside, "hostID": host, "size": size} for inside, host, size in ranges
        ]
        for kind, ranges in (("uid", remap.maps.uids.ranges), ("gid", remap.maps.gids.ranges))
    }


def _namespace(kind: str, path: str | None) -> dict[str, str]:
    return {"type": kind, "path": path} if path else {"type": kind}


def _sysctls(record: Record, defaults: Defaults) -> dict[str, str]:
    own = record.host.network_mode != "host"
    network = dict(NETWORK_SYSCTLS)
    if remap := defaults.remap_of(record.host.userns_mode):
        network[PING_GROUPS] = f"0 {remap.maps.gids.ranges[0][2] - 1}"  # groups that it has
    asked = {name.replace("/", "."): value for name, value in (record.host.sysctls or {}).items()}
    return {**(network if own else {}), **asked}


def _paths(record: Record, options: security.Security, machine: Host) -> dict[str, list[str]]:
    """Masked and read-only paths: the request's, Docker's, or none."""
    if record.host.privileged or options.unconfined_paths:
        return {}
    masked, readonly = record.host.masked_paths, record.host.readonly_paths
    return {
        "maskedPaths": _masked(masked, machine),
        "readonlyPaths": list(READONLY_PATHS if readonly is None else readonly),
    }


def _masked(asked: list[str] | None, machine: Host) -> list[str]:
    """Docker's list goes with this machine's CPUs; a list of the user's own is taken as it is."""
    if asked is None or tuple(asked) == MASKED_PATHS:
        return [*MASKED_PATHS, *machine.thermal_paths]
    return asked


def _seccomp(
    record: Record, options: security.Security, machine: Host, defaults: Defaults
) -> dict[str, Any] | None:
    chosen = options.seccomp
    if chosen is None:
        if record.host.privileged:
            return None
        chosen = defaults.seccomp_profile or "builtin"
    if chosen == "unconfined":
        return None
    held = frozenset(capability_set(record, machine))
    if chosen == "builtin":
        return seccomp.default(held, machine.machine, machine.kernel)
    return seccomp.custom(chosen, held, machine.machine, machine.kernel)
