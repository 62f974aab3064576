"""Write docs/compatibility.md from the code's own tables: what is there, and what says it is not.

`python -m tools.compatibility` writes it; with `--check` it fails when the page is out of date.
`tools/engine_api.txt` has the published operations: method, path, the version each came with.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from barque import errors
from barque.api.versions import API_VERSION, MIN_API_VERSION
from barque.cli import main as cli
from barque.daemon import options
from barque.daemon.containers import validate
from barque.daemon.containers.documents import HostConfig, docker_name, parse
from barque.daemon.containers.host import Defaults, Host, Runtime
from barque.daemon.http.messages import Route
from barque.daemon.routes import (
    checkpoints,
    commit,
    containers,
    distribution,
    exec,
    images,
    networks,
    ping,
    system,
    volumes,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
OPERATIONS = Path(__file__).with_name("engine_api.txt")
YES, NO, SWARM = "yes", "not there yet", "answers that this node is no swarm manager"

# A value of each field that is not its default, where a plain one of its type would not do.
SAMPLES: Mapping[str, Any] = {
    "Binds": ["v:/v"],
    "BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}],
    "BlkioDeviceReadIOps": [{"Path": "/dev/null", "Rate": 1}],
    "BlkioDeviceWriteBps": [{"Path": "/dev/null", "Rate": 1}],
    "BlkioDeviceWriteIOps": [{"Path": "/dev/null", "Rate": 1}],
    "BlkioWeight": 100,
    "BlkioWeightDevice": [{"Path": "/dev/null", "Weight": 100}],
    "CapAdd": ["CAP_CHOWN"],
    "CapDrop": ["CAP_CHOWN"],
    "CgroupnsMode": "private",
    "ConsoleSize": [24, 80],
    "CpuPeriod": 10_000,
    "CpuQuota": 10_000,
    "CpusetCpus": "0",
    "CpusetMems": "0",
    "DeviceCgroupRules": ["c 1:3 rwm"],
    "DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=name"]}],
    "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x"}],
    "ExtraHosts": ["a:127.0.0.1"],
    "GroupAdd": ["1"],
    "IpcMode": "shareable",
    "Isolation": "default",
    "Links": ["a:b"],
    "LogConfig": {"Type": "local"},
    "Memory": 64 << 20,
    "MemoryReservation": 64 << 20,
    "MemorySwap": -1,
    "Mounts": [{"Type": "tmpfs", "Target": "/t"}],
    "NetworkMode": "none",
    "PidMode": "host",
    "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
    "RestartPolicy": {"Name": "always"},
    "Runtime": "other",
    "SecurityOpt": ["no-new-privileges"],
    "StorageOpt": {"size": "1G"},
    "Sysctls": {"net.ipv4.ip_forward": "1"},
    "Tmpfs": {"/t": ""},
    "UTSMode": "host",
    "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}],
    "UsernsMode": "host",
    "VolumeDriver": "local",
    "VolumesFrom": ["other"],
}


def routes() -> list[Route]:
    """Every route, on services that are never called."""
    none: Any = None
    return [
        *ping.routes(),
        *checkpoints.routes(none),
        *containers.routes(none),
        *commit.routes(none, none),
        *exec.routes(none),
        *images.routes(none),
        *distribution.routes(none),
        *networks.routes(none, none),
        *volumes.routes(none, none),
        *system.routes(none, none, none, none, none),
    ]


def operations() -> Iterator[tuple[str, str, str, str]]:
    """(method, path, since, what is there)."""
    known = [(route.method, _segments(route.path), route.handler) for route in routes()]
    for line in OPERATIONS.read_text().splitlines():
        method, path, since = line.split()
        wanted = _segments(path)
        served = "GET" if method == "HEAD" else method
        handler = next(
            (h for m, segments, h in known if m == served and _fits(segments, wanted)), None
        )
        yield method, path, since, _state(getattr(handler, "__qualname__", ""))


def _state(handler: str) -> str:
    name = handler.rpartition(".")[2]
    if not name or name in {"refuse", "no_build", "no_plugins", "no_swarm_mode"}:
        return NO
    return SWARM if name in {"no_swarm", "no_swarm_left"} else YES


def _segments(path: str) -> list[str]:
    return path.strip("/").split("/")


def _fits(ours: list[str], wanted: list[str]) -> bool:
    """Whether a route's pattern is that of a published path: names of parameters are free."""
    for at, segment in enumerate(ours):
        if segment.endswith(":path}"):
            rest = ours[at + 1 :]
            return not rest or wanted[-len(rest) :] == rest
        if at >= len(wanted) or (segment != wanted[at] and "{" not in segment + wanted[at]):
            return False
    return len(ours) == len(wanted)


def host_fields() -> Iterator[tuple[str, str]]:
    """HostConfig's fields; refused ones with the daemon's own words."""
    machine = Host(
        kernel=(6, 1),
        machine="x86_64",
        capabilities=frozenset({"CAP_CHOWN"}),
        cgroup_version=2,
        swap_limit=True,
        cpus=frozenset({0}),
        memory_nodes=frozenset({0}),
        thermal_paths=(),
        hostname="host",
        apparmor=False,
        cpu_realtime=True,
    )
    defaults = Defaults(runtimes={"barque": Runtime(), "other": Runtime()}, init_path="/bin/sh")
    for field in msgspec.structs.fields(HostConfig):
        name = docker_name(field.name)
        value = SAMPLES.get(name, _plain(field.default))
        try:
            validate.check_host(parse(HostConfig, {name: value}), machine, defaults)
        except errors.BarqueError as error:
            yield name, f"refused: {error}"
        else:
            yield name, YES


def _plain(default: object) -> object:
    """Some value that is not the default."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return 1
    if isinstance(default, str):
        return "x"
    return None if default is None else type(default)()


def commands() -> Iterator[tuple[str, str]]:
    for name in sorted({*cli.COMMANDS, *cli.NOT_YET, *cli.LEFT_OUT, *cli.PLUGINS}):
        if name in cli.PLUGINS:
            yield name, f"yes, by docker's plugin {cli.PLUGINS[name]}"
        elif name in cli.LEFT_OUT:
            yield name, f"no: {cli.LEFT_OUT[name]}"
        elif not name.startswith("__"):
            yield name, YES if name in cli.COMMANDS else NO


def page() -> str:
    found = list(operations())
    there = sum(state == YES for *_, state in found)
    lines = [
        "# What is there of Docker",
        "",
        "Made by `python -m tools.compatibility` from the tables of the code; do not edit.",
        "",
        f"## Engine API {MIN_API_VERSION} to {API_VERSION}: {there} of {len(found)} operations",
        "",
        "| operation | since | |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {m} {path} | {since} | {state} |" for m, path, since, state in found]
    lines += ["", "## HostConfig", "", "| field | |", "| --- | --- |"]
    lines += [f"| {name} | {state} |" for name, state in host_fields()]
    lines += ["", "## Options of the daemon", "", "| flag | key of daemon.json | |"]
    lines += ["| --- | --- | --- |"]
    for option in sorted(options.OPTIONS, key=lambda option: option.flag):
        reload = "yes, and reloaded on SIGHUP" if option.name in options.RELOADABLE else YES
        lines.append(f"| --{option.flag} | {option.json_key} | {reload} |")
    lines += [f"| --{name} | {name} | {NO} |" for name in sorted(options.NOT_YET)]
    lines += ["", "## Commands", "", "| command | |", "| --- | --- |"]
    lines += [f"| {name} | {state} |" for name, state in commands()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    text = page()
    if arguments == ["--check"]:
        if PAGE.read_text() != text:
            print("docs/compatibility.md is out of date: run `python -m tools.compatibility`")
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
