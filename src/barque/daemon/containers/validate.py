"""What `create` and `update` refuse, in Docker's words, and what they warn of. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from barque import errors
from barque.daemon import cgroups
from barque.daemon.containers import capabilities, log_tag, runtimes, security, signals
from barque.daemon.containers.documents import (
    Config,
    Health,
    HostConfig,
    LogConfig,
    Resources,
    RestartPolicy,
)
from barque.daemon.containers.host import MAX_CPUS, Defaults, Host, parse_list
from barque.daemon.containers.spec_mounts import RECURSIVE_READ_ONLY_SINCE
from barque.daemon.containers.spec_resources import parse_device_rule
from barque.daemon.forwarding import drivers
from barque.daemon.forwarding.message import Source

MIN_MEMORY_BYTES = 6 << 20
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
ULIMITS = frozenset(
    {
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    }
)
LOG_OPTIONS = {
    "json-file": frozenset({"max-size", "max-file", "compress", "labels", "env", "tag"})
    | {"labels-regex", "env-regex"},
    "local": frozenset({"max-size", "max-file", "compress"}),
    "none": frozenset[str](),
    **drivers.OPTIONS,
}
MODE_OPTIONS = frozenset({"mode", "max-buffer-size"})
_OTHERS = "awslogs splunk gcplogs etwlogs"
MAX_PATTERN_CHARS = 256
OTHER_LOG_DRIVERS = frozenset(_OTHERS.split())


def _invalid(text: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(text)


def check_config(config: Config) -> None:
    """The part that does not depend on the host."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise _invalid(
            f"the working directory '{config.working_dir}' is invalid, "
            "it needs to be an absolute path"
        )
    for item in config.env:
        if not item or item.startswith("=") or "\0" in item:
            raise _invalid(f"invalid environment variable: {item}")
    for name, text in (("hostname", config.hostname), ("domainname", config.domainname)):
        if text and not HOSTNAME.fullmatch(text):
            raise _invalid(f"invalid {name}: {text!r}")
    if config.healthcheck:
        _check_health(config.healthcheck)
    if config.stop_signal:
        signals.parse(config.stop_signal)
    for port in config.exposed_ports or {}:
        check_port(port)
    for name, arguments in (("Cmd", config.cmd), ("Entrypoint", config.entrypoint)):
        if any("\0" in argument for argument in arguments or ()):
            raise _invalid(f"invalid {name}: it contains a NUL byte")


def _check_health(health: Health) -> None:
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < 1_000_000:
            raise _invalid(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise _invalid("Retries in Healthcheck cannot be negative")


def warn_of_health(health: Health | None) -> list[str]:
    """Docker takes a check of a type that it does not know, and never runs it."""
    if health is None or not health.test or health.test[0] in HEALTH_TYPES:
        return []
    return [f"Unknown healthcheck type {health.test[0]!r} (expected 'CMD'): health is not checked"]


def check_health_action(action: str, health: Health | None) -> None:
    """What `--health-on-failure` says, of a container with these checks."""
    if action not in {"", *HEALTH_ACTIONS}:
        raise _invalid(
            f"invalid on-failure action {action!r} for health check: supported actions are "
            + ", ".join(HEALTH_ACTIONS)
        )
    checked = health is not None and health.test and health.test[0] in HEALTH_TYPES - {"NONE"}
    if action not in {"", "none"} and not checked:
        raise _invalid(f"cannot set on-failure action to {action} without a health check")


def check_port(text: str) -> None:
    match = PORT.fullmatch(text)
    numbers = [int(part.lstrip("-")) for part in match.group(1, 2) if part] if match else []
    if not numbers or not all(0 < number < 65536 for number in numbers):
        raise _invalid(f'invalid port specification: "{text}"')


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
        raise _invalid("can't create 'AutoRemove' container with restart policy")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise _invalid(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise _invalid("SHM size can not be less than 0")
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
        raise errors.Unsupported(
            "--init needs docker-init, tini or catatonit on the daemon's PATH, or --init-path"
        )
    return warnings


def check_resources(limits: Resources, machine: Host) -> list[str]:
    """Limits of create and of update; may lower what the kernel cannot do, with a warning."""
    warnings = [
        *_check_memory(limits, machine),
        *_check_oom(limits, machine),
        *_check_block_weights(limits, machine),
    ]
    _check_cpu(limits, machine)
    if limits.blkio_weight and not 10 <= limits.blkio_weight <= 1000:
        raise _invalid("range of blkio weight is from 10 to 1000")
    if limits.cpu_realtime_period or limits.cpu_realtime_runtime:
        if not machine.cpu_realtime:
            raise _invalid("Your kernel does not support CPU real-time scheduler")
        if 0 < limits.cpu_realtime_period < limits.cpu_realtime_runtime:
            raise _invalid("cpu real-time runtime cannot be higher than cpu real-time period")
    for name in ("cpu_count", "cpu_percent", "io_maximum_iops", "io_maximum_bandwidth"):
        if getattr(limits, name):
            raise errors.Unsupported(f"{name.replace('_', ' ')} is a setting of Windows only")
    for limit in limits.ulimits:
        _check_ulimit(limit.name, limit.soft, limit.hard)
    return warnings


def _check_oom(limits: Resources, machine: Host) -> list[str]:
    if not limits.oom_kill_disable:
        return []
    if machine.cgroup_version == 2:
        limits.oom_kill_disable = None
        return ["Your kernel does not support OomKillDisable. OomKillDisable discarded."]
    if limits.memory:
        return []
    return [
        "OOM killer is disabled for the container, but no memory limit is set, this can result in "
        "the system running out of resources."
    ]


def _check_block_weights(limits: Resources, machine: Host) -> list[str]:
    """Only some of the kernel's schedulers of block devices know weights."""
    warnings = []
    if limits.blkio_weight and not machine.block_weight:
        limits.blkio_weight = 0
        warnings.append(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight "
            "discarded."
        )
    if limits.blkio_weight_device and not machine.block_weight_device:
        limits.blkio_weight_device = []
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. "
            "Weight-device discarded."
        )
    return warnings


def _check_ulimit(name: str, soft: int, hard: int) -> None:
    if name not in ULIMITS:
        raise _invalid(f"invalid ulimit type: {name}")
    if soft < -1 or hard < -1:
        raise _invalid(f"invalid ulimit {name}: negative limit")
    if hard != -1 and (soft > hard or soft == -1):
        raise _invalid(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )


def check_least_memory(limits: Resources) -> None:
    if limits.memory < 0 or limits.memory_reservation < 0:
        raise _invalid("invalid memory limit: it is negative")
    if 0 < limits.memory < MIN_MEMORY_BYTES:
        raise _invalid("Minimum memory limit allowed is 6MB")


def _check_memory(limits: Resources, machine: Host) -> list[str]:
    warnings = []
    check_least_memory(limits)
    if limits.memory and not machine.swap_limit and limits.memory_swap != -1:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        limits.memory_swap = -1
    if limits.memory and 0 < limits.memory_swap < limits.memory:
        raise _invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not limits.memory and limits.memory_swap > 0:
        raise _invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    swappiness = limits.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise _invalid(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if 0 < limits.memory_reservation < MIN_MEMORY_BYTES:
        raise _invalid("Minimum memory reservation allowed is 6MB")
    if 0 < limits.memory < limits.memory_reservation:
        raise _invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    return warnings


def _check_cpu(limits: Resources, machine: Host) -> None:
    if limits.nano_cpus:
        for name, value in (("Period", limits.cpu_period), ("Quota", limits.cpu_quota)):
            if value > 0:
                raise _invalid(f"Conflicting options: Nano CPUs and CPU {name} cannot both be set")
        count = len(machine.cpus)
        if not 0 < limits.nano_cpus <= count * 1_000_000_000:
            raise _invalid(
                f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs "
                "available"
            )
    if limits.cpu_shares < 0:
        raise _invalid(
            f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer"
        )
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise _invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < limits.cpu_quota < 1000:
        raise _invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    for text, limit, there, what, plural in (
        (limits.cpuset_cpus, MAX_CPUS, machine.cpus, "cpuset cpus", "CPUs"),
        (limits.cpuset_mems, 1024, machine.memory_nodes, "cpuset mems", "memory nodes"),
    ):
        if text:
            _check_set(text, limit, there, what, plural)


def _check_set(text: str, limit: int, there: frozenset[int], what: str, plural: str) -> None:
    try:
        wanted = parse_list(text, limit)
    except ValueError:
        shown = text[:100]
        raise _invalid(f"Invalid value {shown} for {what}: invalid format: {shown}") from None
    if not wanted <= there:
        available = _ranges(there)
        raise _invalid(
            f"Requested {plural} are not available - requested {text[:100]}, available: {available}"
        )


def _ranges(numbers: frozenset[int]) -> str:
    """`0-3,7`, as the kernel writes a set."""
    ordered, parts = sorted(numbers), list[str]()
    for number in ordered:
        if number - 1 in numbers:
            continue
        last = number
        while last + 1 in numbers:
            last += 1
        parts.append(str(number) if last == number else f"{number}-{last}")
    return ",".join(parts)


def check_restart_policy(policy: RestartPolicy) -> None:
    if policy.name not in {"", "no", "always", "on-failure", "unless-stopped"}:
        raise _invalid(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise _invalid("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise _invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    times = {
        "delay": policy.delay,
        "maximum delay": policy.maximum_delay,
        "window": policy.window,
    }
    for name, value in times.items():
        if value and policy.name in {"", "no"}:
            raise _invalid(f"invalid restart policy: {name} can not be used without restarts")
        if value < 0 or 0 < value < 1_000_000:
            raise _invalid(f"invalid restart policy: {name} cannot be less than 1ms")
    if 0 < policy.maximum_delay < policy.delay:
        raise _invalid("invalid restart policy: delay cannot be more than maximum delay")


def check_log(log: LogConfig, defaults: Defaults) -> None:
    driver = log.type or defaults.log_driver
    if driver in OTHER_LOG_DRIVERS:
        raise errors.Unsupported(
            f"log driver {driver!r} is not there yet: use {', '.join(sorted(LOG_OPTIONS))}"
        )
    if driver not in LOG_OPTIONS:
        raise _invalid(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    if driver == "none" and not log.type:
        return
    for name in log.config:
        if name not in LOG_OPTIONS[driver] and name not in MODE_OPTIONS:
            raise _invalid(f"unknown log opt '{name}' for {driver} log driver")
    _check_values(driver, log.config)
    if driver in drivers.OPTIONS:
        drivers.make(driver, log.config, NOBODY)
    count = log.config.get("max-file", log.config.get("cache-max-file"))
    if count is not None and not (count.isascii() and count.isdigit() and int(count[:6]) >= 1):
        raise _invalid(f"max-file cannot be less than 1: {count}")
    _check_compression(driver, log.config)


NOBODY = Source("", "", "", "", "", "", "", "", {})  # a driver made for its refusals only


def _check_values(driver: str, config: Mapping[str, str]) -> None:
    for name in ("max-size", "max-buffer-size", "cache-max-size"):
        if name in config:
            size_bytes(config[name])
    if config.get("mode", "") not in {"", "blocking", "non-blocking"}:
        raise _invalid(f"logger: logging mode not supported: {config['mode']}")
    if config.get("max-buffer-size") and config.get("mode") != "non-blocking":
        text = "max-buffer-size option is only supported with 'mode=non-blocking'"
        raise _invalid(f"logger: {text}")
    log_tag.check(config.get("tag", ""))
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(config.get(name, "")[:MAX_PATTERN_CHARS])
        except re.error as error:
            raise _invalid(f"invalid log option {name}: {error}") from None
        if len(config.get(name, "")) > MAX_PATTERN_CHARS:
            raise _invalid(f"log option {name} is longer than {MAX_PATTERN_CHARS} characters")


def _check_compression(driver: str, config: Mapping[str, str]) -> None:
    """Only what is rotated can be packed; the driver `local` does both unless told otherwise."""
    local = driver == "local"
    files = int(config.get("max-file", "5" if local else "1")[:6])
    sized = local or size_bytes(config.get("max-size", "-1")) > 0
    try:
        packed = go_bool(config.get("compress", "true" if local else "false"))
    except ValueError as error:
        raise _invalid(f"error reading compress log option: {error}") from None
    if packed and local and files < 2:
        raise _invalid("compression cannot be enabled when max file count is 1")
    if packed and not (files > 1 and sized):
        raise _invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )


def go_bool(text: str) -> bool:
    """As Go's strconv.ParseBool. Raises ValueError."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def size_bytes(text: str) -> int:
    """`10m` in bytes, -1 for no bound."""
    match = re.fullmatch(r"([0-9]{1,12})(?:\.[0-9]+)?\s*([kmgt]?)(i?b)?", text.strip().lower())
    if text == "-1":
        return -1
    if not match:
        raise _invalid(f"invalid size: '{text}'")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2]]


def _check_unsupported(host: HostConfig) -> None:
    """Known to the API, not there yet: refused by name."""
    if host.cgroup:  # dockerd takes it and does nothing
        raise errors.Unsupported("HostConfig.Cgroup is not there: CgroupParent names a group")
    if host.isolation not in {"", "default"}:
        raise _invalid(f"invalid isolation {host.isolation!r} on linux")
    if host.userns_mode not in {"", "host"}:
        raise _invalid(f"invalid user namespace mode: {host.userns_mode}")


def _check_remapped(host: HostConfig) -> None:
    """What a user namespace of other ids shuts out. The words are dockerd's."""
    if host.privileged:
        raise _invalid(
            "privileged mode is incompatible with user namespaces.  You must run the container in "
            "the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        raise _invalid("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise _invalid("cannot share the host PID namespace when user namespaces are enabled")


def _check_mounts(host: HostConfig, machine: Host) -> None:
    for mount in host.mounts or ():
        forced = mount.bind_options and mount.bind_options.read_only_force_recursive
        if forced and machine.kernel < RECURSIVE_READ_ONLY_SINCE:
            raise errors.Unsupported(f"recursive read-only mounts need Linux 5.12: {mount.target}")


def _check_modes(host: HostConfig) -> None:
    if host.uts_mode not in {"", "host"}:
        raise _invalid(f"invalid UTS mode: {host.uts_mode}")
    if host.cgroupns_mode not in {"", "host", "private"}:
        raise _invalid(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    pid = host.pid_mode
    if pid not in {"", "host"} and not (pid.startswith("container:") and pid != "container:"):
        raise _invalid(f"invalid PID mode: {pid}")
    ipc = host.ipc_mode
    if ipc not in {"", "none", "private", "shareable", "host"} and not (
        ipc.startswith("container:") and ipc != "container:"
    ):
        raise _invalid(f"invalid IPC mode: {ipc}")


def check_network_mode(config: Config, host: HostConfig) -> None:
    """What a network of another container, or of the machine, leaves no room for."""
    mode = host.network_mode
    kind = "container" if mode.partition(":")[0] == "container" else mode
    if kind in {"container", "host"} and host.links:
        typed = "container type network" if kind == "container" else "host type networking"
        raise _invalid(
            f"conflicting options: {typed} can't be used with links. This would result in "
            "undefined behavior"
        )
    if kind != "container":
        return
    if not mode.partition(":")[2]:
        raise _invalid("invalid network mode: invalid container format container:<name|id>")
    publishes = bool(host.port_bindings or host.publish_all_ports)
    for wrong, what in (
        (config.hostname, "hostname and the"),
        (host.dns, "dns and the"),
        (host.extra_hosts, "custom host-to-IP mapping and the"),
        (publishes, "port publishing and the container type"),
        (config.exposed_ports, "port exposing and the container type"),
    ):
        if wrong:
            raise _invalid(f"conflicting options: {what} network mode")


def _check_ports(host: HostConfig) -> None:
    for port, bindings in host.port_bindings.items():
        check_port(port)
        for binding in bindings or ():
            text = binding.host_port
            if text and not re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?", text, re.ASCII):
                raise _invalid(f'invalid port specification: "{text}"')
            if any(int(part) > 65535 for part in text.split("-") if part):
                raise _invalid(f'invalid port specification: "{text}"')


def _check_sysctls(host: HostConfig) -> None:
    """Only what a namespace of the container's own holds; no value that carries a second write."""
    for name, value in (host.sysctls or {}).items():
        if not SYSCTL_NAME.fullmatch(name) or not re.fullmatch(r"[ -~\t]*", value) or "+" in value:
            raise _invalid(f"invalid sysctl {name!r}: {value[:100]!r}")
        dotted = name.replace("/", ".")
        if dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
            own = host.ipc_mode != "host"
            what = "IPC"
        elif dotted.startswith("net."):
            own, what = host.network_mode != "host", "network"
        else:
            raise _invalid(f"sysctl {name!r} is not in a separate kernel namespace")
        if not own:
            raise _invalid(f"sysctl '{name}' not allowed in host {what} namespace")
