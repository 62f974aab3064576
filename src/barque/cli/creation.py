"""From the flags of `run` and `create` to the body of POST /containers/create.

Source: Engine API reference, "Create a container". Only what was asked for is in the body; the rest
has the API's own defaults. What few commands use is in modules imported on demand.
"""

from __future__ import annotations

from barque import errors
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from barque.cli.flags import Options

    Document = dict[str, Any]

STREAMS = ("stdin", "stdout", "stderr")
# flag -> key of the configuration: taken over as they are
_CONFIG_TEXTS = {
    "hostname": "Hostname",
    "domainname": "Domainname",
    "user": "User",
    "workdir": "WorkingDir",
    "stop-signal": "StopSignal",
}
_HOST_TEXTS = {
    "cgroup-parent": "CgroupParent",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "ipc": "IpcMode",
    "isolation": "Isolation",
    "runtime": "Runtime",
    "volume-driver": "VolumeDriver",
}
_HOST_NUMBERS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "kernel-memory": "KernelMemory",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "oom-score-adj": "OomScoreAdj",
    "pids-limit": "PidsLimit",
    "shm-size": "ShmSize",
}
_HOST_FLAGS = {
    "oom-kill-disable": "OomKillDisable",
    "privileged": "Privileged",
    "publish-all": "PublishAllPorts",
    "read-only": "ReadonlyRootfs",
    "rm": "AutoRemove",
}
_HOST_LISTS = {
    "dns-option": "DnsOptions",
    "dns-opt": "DnsOptions",
    "group-add": "GroupAdd",
    "volumes-from": "VolumesFrom",
}
_MODES = {
    "pid": ("PidMode", ("host",), "--pid: invalid PID mode"),
    "uts": ("UTSMode", ("host",), "--uts: invalid UTS mode"),
    "userns": ("UsernsMode", ("host",), "--userns: invalid USER mode"),
    "cgroupns": ("CgroupnsMode", ("host", "private"), "--cgroupns: invalid CGROUP mode"),
}
# Flags whose meaning needs more than a table: who reads them is imported when they are given.
_SPECIAL = {
    "publish": "ports",
    "expose": "ports",
    "mount": "mounts",
    "volume": "mounts",
    "tmpfs": "mounts",
    **dict.fromkeys(("network", "net", "network-alias", "net-alias", "ip", "ip6"), "endpoints"),
    **dict.fromkeys(("link-local-ip", "mac-address", "link"), "endpoints"),
    **dict.fromkeys(("add-host", "dns", "dns-search"), "endpoints"),
    **dict.fromkeys(("device", "device-cgroup-rule", "gpus", "blkio-weight-device"), "devices"),
    **dict.fromkeys(("device-read-bps", "device-read-iops"), "devices"),
    **dict.fromkeys(("device-write-bps", "device-write-iops"), "devices"),
    **dict.fromkeys(
        ("health-cmd", "health-interval", "health-retries", "health-timeout"), "extras"
    ),
    **dict.fromkeys(("health-start-interval", "health-start-period", "no-healthcheck"), "extras"),
    **dict.fromkeys(("security-opt", "ulimit", "log-opt", "log-driver", "storage-opt"), "extras"),
    "health-on-failure": "extras",
    **dict.fromkeys(("sysctl", "annotation", "restart", "memory-swappiness"), "extras"),
    **dict.fromkeys(("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"), "extras"),
}
# The API version that a flag came with.
NEEDS_VERSION = {
    "annotation": "1.43",
    "health-start-interval": "1.44",
    "cgroupns": "1.41",
    "pids-limit": "1.23",
    "platform": "1.32",
}


def body(options: Options, image: str, command: list[str], *, detach: bool = False) -> Document:
    """The request's body. Raises UsageError or InvalidArgument."""
    config: Document = {"Image": image}
    host: Document = {"NetworkMode": "default", "RestartPolicy": {"Name": "no"}}
    networking: Document = {}
    if command:
        config["Cmd"] = command
    _streams(options, config, detach)
    _tables(options, config, host)
    _environment(options, config)
    readers = {_SPECIAL[name] for name in options.given() if name in _SPECIAL}
    for name in sorted(readers):
        _reader(name)(options, config, host, networking)
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": networking}}


def _reader(name: str) -> Callable[[Options, Document, Document, Document], None]:
    module = __import__(f"barque.cli.creating.{name}", fromlist=["apply"])
    apply: Callable[[Options, Document, Document, Document], None] = module.apply
    return apply


def _streams(options: Options, config: Document, detach: bool) -> None:
    wanted = [name.lower() for name in options.all("attach")]
    for name in options.all("attach"):
        if name.lower() not in STREAMS:
            raise options.invalid("attach", name, "valid streams are STDIN, STDOUT and STDERR")
    interactive = options.flag("interactive")
    if detach:
        if wanted:
            raise Failure(1, "conflicting options: cannot specify both --attach and --detach")
    elif not wanted:
        wanted = ["stdin", "stdout", "stderr"] if interactive else ["stdout", "stderr"]
    for name in wanted:
        config[f"Attach{name.capitalize()}"] = True
    if interactive:
        config["OpenStdin"] = True
        config["StdinOnce"] = "stdin" in wanted
    if options.flag("tty"):
        config["Tty"] = True


def _tables(options: Options, config: Document, host: Document) -> None:
    given = set(options.given())
    config.update({key: options.text(n) for n, key in _CONFIG_TEXTS.items() if n in given})
    host.update({key: options.text(n) for n, key in _HOST_TEXTS.items() if n in given})
    host.update({key: options.number(n) for n, key in _HOST_NUMBERS.items() if n in given})
    host.update({key: options.flag(n) for n, key in _HOST_FLAGS.items() if n in given})
    for name, key in _HOST_LISTS.items():
        if name in given:
            host.setdefault(key, []).extend(options.all(name))
    for name in given & _MODES.keys():
        key, words, refusal = _MODES[name]
        mode = options.text(name)
        if mode not in words and mode and not (name == "pid" and mode[:10] == "container:"):
            raise errors.InvalidArgument(refusal)
        host[key] = mode
    if given & {"cap-add", "cap-drop"}:
        _capabilities(options, host)
    if "init" in given:
        host["Init"] = options.flag("init")
    if "stop-timeout" in given:
        config["StopTimeout"] = options.number("stop-timeout")
    if "entrypoint" in given:
        config["Entrypoint"] = [options.text("entrypoint")]


def _capabilities(options: Options, host: Document) -> None:
    """With their full names; ALL stands for all others, and what is added is not dropped."""
    sets = []
    for flag in ("cap-add", "cap-drop"):
        names = {name.strip().upper() for name in options.all(flag)}
        full = {n if n == "ALL" or n.startswith("CAP_") else f"CAP_{n}" for n in names}
        sets.append({"ALL"} if "ALL" in full else full)
    host["CapAdd"], host["CapDrop"] = sorted(sets[0]), sorted(sets[1] - sets[0])


def _environment(options: Options, config: Document) -> None:
    if any(name in options for name in ("env", "env-file", "label", "label-file")):
        from barque.cli.creating import environment

        environment.apply(options, config)
