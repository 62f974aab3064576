"""What `create` and `update` refuse, in Docker's words, and what they warn of. Pure."""

from __future__ import annotations

import re

from barque.daemon import cgroups
from barque.daemon.containers import capabilities, runtimes, security, signals
from barque.daemon.containers.documents import (
    Config,
    Health,
    HostConfig,
    RestartPolicy,
)
from barque.daemon.containers.host import Defaults, Host
from barque.daemon.containers.spec_mounts import RECURSIVE_READ_ONLY_SINCE
from barque.daemon.containers.spec_resources import parse_device_rule
from barque.daemon.containers.validate_log import check_log
from barque.daemon.containers.validate_resources import check_resources
from barque.errors import InvalidArgument, Unsupported

HEALTH_TYPES = frozenset({"NONE", "CMD", "CMD-SHELL"})
HEALTH_ACTIONS = ("none", "kill", "restart", "stop")
HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?", re.ASCII)
SYSCTL_NAME = re.compile(r"[a-z0-9_]+([./][A-Za-z0-9_-]+)+", re.ASCII)
IPC_SYSCTLS = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    }
)
PORT = re.compile(r"([0-9]{1,5})(-[0-9]{1,5})?(/(tcp|udp|sctp))?", re.ASCII)


def check_config(config: Config) -> None:
    """The part that does not depend on the host."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, "
            "it needs to be an absolute path"
        )
    for item in config.env:
        if not item or item.startswith("=") or "\0" in item:
            raise InvalidArgument(f"invalid environment variable: {item}")
    for name, text in (("hostname", config.hostname), ("domainname", config.domainname)):
        if text and not HOSTNAME.fullmatch(text):
            raise InvalidArgument(f"invalid {name}: {text!r}")
    if config.healthcheck:
        _check_health(config.healthcheck)
    if config.stop_signal:
        signals.parse(config.stop_signal)
    for port in config.exposed_ports or {}:
        check_port(port)
    for name, arguments in (("Cmd", config.cmd), ("Entrypoint", config.entrypoint)):
        if any("\0" in argument for argument in arguments or ()):
            raise InvalidArgument(f"invalid {name}: it contains a NUL byte")


def _check_health(health: Health) -> None:
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < 1_000_000:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")


def warn_of_health(health: Health | None) -> list[str]:
    """Docker takes a check of a type that it does not know, and never runs it."""
    if health is None or not health.test or health.test[0] in HEALTH_TYPES:
        return []
    return [f"Unknown healthcheck type {health.test[0]!r} (expected 'CMD'): health is not checked"]


def check_health_action(action: str, health: Health | None) -> None:
    """What `--health-on-failure` says, of a container with these checks."""
    if action not in {"", *HEALTH_ACTIONS}:
        raise InvalidArgument(
            f"invalid on-failure action {action!r} for health check: supported actions are "
            + ", ".join(HEALTH_ACTIONS)
        )
    checked = health is not None and health.test and health.test[0] in HEALTH_TYPES - {"NONE"}
    if action not in {"", "none"} and not checked:
        raise InvalidArgument(f"cannot set on-failure action to {action} without a health check")


def check_port(text: str) -> None:
    match = PORT.fullmatch(text)
    numbers = [int(part.lstrip("-")) for part in match.group(1, 2) if part] if match else []
    if not numbers or not all(0 < number < 65536 for number in numbers):
        raise InvalidArgument(f'invalid port specification: "{text}"')


def check_host(host: HostConfig, machine: Host, defaults: Defaults) -> list[str]:
    """HostConfig as a whole; the warnings for the create response."""
    warnings = check_resources(host, machine)
    _check_unsupported(host)
    _check_modes(host)
    if defaults.remap_of(host.userns_mode) is not None:
        _check_remapped(host)
    cgroups.check_parent(defaults.cgroup_driver, host.cgroup_parent)
    check_restart_policy(host.restart_policy)
    if host.auto_remove and host.restart_policy.name not in {"", "no"}:
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if host.runtime:
        runtimes.find(defaults.runtimes, host.runtime)
    for rule in host.device_cgroup_rules or ():
        parse_device_rule(rule)
    _check_mounts(host, machine)
    _check_ports(host)
    _check_sysctls(host)
    check_log(host.log_config, defaults)
    security.parse(host.security_opt or (), machine)
    capabilities.refuse_unheld(host.cap_add or (), machine.capabilities)
    capabilities.normal(host.cap_drop or (), "CapDrop")
    lacking = capabilities.missing(host.cap_add or (), host.privileged, machine.capabilities)
    if lacking:
        warnings.append(
            f"The daemon itself does not have {', '.join(lacking)}: left out of the container's "
            "capabilities."
        )
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    if (host.init or (host.init is None and defaults.init)) and not defaults.find_init():
        raise Unsupported(
            "--init needs docker-init, tini or catatonit on the daemon's PATH, or --init-path"
        )
    return warnings


def check_restart_policy(policy: RestartPolicy) -> None:
    if policy.name not in {"", "no", "always", "on-failure", "unless-stopped"}:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    times = {
        "delay": policy.delay,
        "maximum delay": policy.maximum_delay,
        "window": policy.window,
    }
    for name, value in times.items():
        if value and policy.name in {"", "no"}:
            raise InvalidArgument(
                f"invalid restart policy: {name} can not be used without restarts"
            )
        if value < 0 or 0 < value < 1_000_000:
            raise InvalidArgument(f"invalid restart policy: {name} cannot be less than 1ms")
    if 0 < policy.maximum_delay < policy.delay:
        raise InvalidArgument("invalid restart policy: delay cannot be more than maximum delay")


def _check_unsupported(host: HostConfig) -> None:
    """Known to the API, not there yet: refused by name."""
    if host.cgroup:  # dockerd takes it and does nothing
        raise Unsupported("HostConfig.Cgroup is not there: CgroupParent names a group")
    if host.isolation not in {"", "default"}:
        raise InvalidArgument(f"invalid isolation {host.isolation!r} on linux")
    if host.userns_mode not in {"", "host"}:
        raise InvalidArgument(f"invalid user namespace mode: {host.userns_mode}")


def _check_remapped(host: HostConfig) -> None:
    """What a user namespace of other ids shuts out. The words are dockerd's."""
    if host.privileged:
        raise InvalidArgument(
            "privileged mode is incompatible with user namespaces.  You must run the container in "
            "the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidArgument(
            "cannot share the host's network namespace when user namespaces are enabled"
        )
    if host.pid_mode == "host":
        raise InvalidArgument(
            "cannot share the host PID namespace when user namespaces are enabled"
        )


def _check_mounts(host: HostConfig, machine: Host) -> None:
    for mount in host.mounts or ():
        forced = mount.bind_options and mount.bind_options.read_only_force_recursive
        if forced and machine.kernel < RECURSIVE_READ_ONLY_SINCE:
            raise Unsupported(f"recursive read-only mounts need Linux 5.12: {mount.target}")


def _check_modes(host: HostConfig) -> None:
    if host.uts_mode not in {"", "host"}:
        raise InvalidArgument(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in {"", "host", "private"}:
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    pid = host.pid_mode
    if pid not in {"", "host"} and not (pid.startswith("container:") and pid != "container:"):
        raise InvalidArgument(f"invalid PID mode: {pid}")
    ipc = host.ipc_mode
    if ipc not in {"", "none", "private", "shareable", "host"} and not (
        ipc.startswith("container:") and ipc != "container:"
    ):
        raise InvalidArgument(f"invalid IPC mode: {ipc}")


def check_network_mode(config: Config, host: HostConfig) -> None:
    """What a network of another container, or of the machine, leaves no room for."""
    mode = host.network_mode
    kind = "container" if mode.partition(":")[0] == "container" else mode
    if kind in {"container", "host"} and host.links:
        typed = "container type network" if kind == "container" else "host type networking"
        raise InvalidArgument(
            f"conflicting options: {typed} can't be used with links. This would result in "
            "undefined behavior"
        )
    if kind != "container":
        return
    if not mode.partition(":")[2]:
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    publishes = bool(host.port_bindings or host.publish_all_ports)
    for wrong, what in (
        (config.hostname, "hostname and the"),
        (host.dns, "dns and the"),
        (host.extra_hosts, "custom host-to-IP mapping and the"),
        (publishes, "port publishing and the container type"),
        (config.exposed_ports, "port exposing and the container type"),
    ):
        if wrong:
            raise InvalidArgument(f"conflicting options: {what} network mode")


def _check_ports(host: HostConfig) -> None:
    for port, bindings in host.port_bindings.items():
        check_port(port)
        for binding in bindings or ():
            text = binding.host_port
            if text and not re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?", text, re.ASCII):
                raise InvalidArgument(f'invalid port specification: "{text}"')
            if any(int(part) > 65535 for part in text.split("-") if part):
                raise InvalidArgument(f'invalid port specification: "{text}"')


def _check_sysctls(host: HostConfig) -> None:
    """Only what a namespace of the container's own holds; no value that carries a second write."""
    for name, value in (host.sysctls or {}).items():
        if not SYSCTL_NAME.fullmatch(name) or not re.fullmatch(r"[ -~\t]*", value) or "+" in value:
            raise InvalidArgument(f"invalid sysctl {name!r}: {value[:100]!r}")
        dotted = name.replace("/", ".")
        if dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
            own = host.ipc_mode != "host"
            what = "IPC"
        elif dotted.startswith("net."):
            own, what = host.network_mode != "host", "network"
        else:
            raise InvalidArgument(f"sysctl {name!r} is not in a separate kernel namespace")
        if not own:
            raise InvalidArgument(f"sysctl '{name}' not allowed in host {what} namespace")
