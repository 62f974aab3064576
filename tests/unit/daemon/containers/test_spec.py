"""config.json as a golden file; `BARQUE_REWRITE_GOLDEN=1` writes it anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from barque.daemon.containers import capabilities
from barque.daemon.containers.documents import Config, HostConfig, parse
from barque.daemon.containers.host import Defaults, Host
from barque.daemon.containers.record import MountPoint, Record
from barque.daemon.containers.spec import build, environment
from barque.daemon.containers.start_facts import Device, StartFacts
from barque.daemon.containers.user import User

GOLDEN = Path(__file__).parent / "golden"
MACHINE = Host(
    kernel=(6, 1),
    machine="x86_64",
    capabilities=frozenset(capabilities.NAMES),
    cgroup_version=2,
    swap_limit=True,
    cpus=frozenset(range(4)),
    memory_nodes=frozenset({0}),
    thermal_paths=("/sys/devices/system/cpu/cpu0/thermal_throttle",),
    hostname="machine",
    apparmor=False,
)
FILES = {"/etc/hosts": "/c/hosts", "/etc/hostname": "/c/hostname"}


def record(
    config: dict[str, Any], host: dict[str, Any], mounts: list[MountPoint] | None = None
) -> Record:
    host = {"NetworkMode": "bridge", "IpcMode": "private", "ShmSize": 64 << 20, **host}
    return Record(
        id="c0ffee" + "0" * 58,
        name="web",
        created="2026-01-01T00:00:00Z",
        image="sha256:" + "1" * 64,
        chain_id="sha256:" + "2" * 64,
        path="/bin/server",
        args=["--port", "80"],
        config=parse(Config, {"Hostname": "web", **config}),
        host=parse(HostConfig, host),
        mounts=mounts or [],
    )


def spec(made: Record, **facts: Any) -> dict[str, Any]:
    facts = {"user": User(0, 0, (10,), "/root"), "netns": "/run/n", "files": FILES, **facts}
    return build(made, StartFacts(**facts), MACHINE, Defaults())


def compare(name: str, document: dict[str, Any]) -> None:
    shown = json.loads(json.dumps(document))
    if "seccomp" in shown["linux"]:  # a long table with tests of its own
        shown["linux"]["seccomp"] = f"{len(shown['linux']['seccomp']['syscalls'])} rules"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("BARQUE_REWRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(shown, indent=1, sort_keys=True) + "\n")
    assert shown == json.loads(path.read_text())


def test_a_plain_container() -> None:
    compare("plain", spec(record({}, {})))


def test_a_container_with_everything() -> None:
    mounts = [
        MountPoint(type="bind", destination="/b", source="/src", rw=False, propagation="rslave"),
        MountPoint(type="volume", destination="/v", name="data"),
        MountPoint(type="tmpfs", destination="/t", tmpfs_options=["noexec", "size=1m"]),
    ]
    config = {"Tty": True, "Env": ["A=b", "PATH=/p", "TERM"], "WorkingDir": "/w", "User": "5"}
    host = {
        "Memory": 64 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 50, "CpusetCpus": "0",
        "BlkioWeight": 100, "CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"], "ReadonlyRootfs": True,
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": -1}], "OomScoreAdj": 5,
        "Sysctls": {"net.ipv4.ip_forward": "1"}, "CgroupParent": "/mine", "ConsoleSize": [24, 80],
        "SecurityOpt": ["no-new-privileges"], "DeviceCgroupRules": ["c 7:* rm"],
        "Annotations": {"a": "b"},
    }  # fmt: skip
    device = Device(path="/dev/x", kind="c", major=10, minor=200, mode=0o20660, uid=0, gid=5,
                    access="rw")  # fmt: skip
    compare(
        "everything",
        spec(
            record(config, host, mounts),
            user=User(5, 6, (7,), "/home/five"),
            sources={"/b": "/src", "/v": "/volumes/data"},
            devices=[device],
            init="/usr/bin/tini",
        ),
    )


def test_a_privileged_container_on_the_host() -> None:
    host = {"Privileged": True, "NetworkMode": "host", "PidMode": "host", "IpcMode": "host",
            "UTSMode": "host"}  # fmt: skip
    document = spec(record({}, host), netns=None)
    assert "seccomp" not in document["linux"]
    assert "maskedPaths" not in document["linux"]
    assert "hostname" not in document
    assert document["linux"]["namespaces"] == [{"type": "mount"}]
    assert document["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert len(document["process"]["capabilities"]["bounding"]) == 41


@pytest.mark.parametrize(
    ("queues", "expected"), [(None, "mqueue"), ("/dev/mqueue", "/dev/mqueue"), ("", None)]
)
def test_message_queues(queues: str | None, expected: str | None) -> None:
    """The container's own, the machine's, or none where the machine has none to show."""
    document = spec(record({}, {"IpcMode": "host"}), mqueue=queues)
    sources = {mount["destination"]: mount["source"] for mount in document["mounts"]}
    assert sources.get("/dev/mqueue") == expected


def test_a_users_mount_stands_in_for_ours_and_hides_no_file() -> None:
    mounts = [
        MountPoint(type="tmpfs", destination="/dev/shm", tmpfs_options=["size=1"]),
        MountPoint(type="volume", destination="/etc", name="etc"),
    ]
    document = spec(record({}, {}, mounts), sources={"/etc": "/v"})
    order = [mount["destination"] for mount in document["mounts"]]
    assert order.count("/dev/shm") == 1
    assert order.index("/etc") < order.index("/etc/hosts")


def test_inheritable_and_ambient_are_never_set() -> None:
    for host in ({}, {"Privileged": True}, {"CapAdd": ["ALL"]}):
        found = spec(record({}, host))["process"]["capabilities"]
        assert set(found) == {"bounding", "effective", "permitted"}


def test_the_primary_group_is_a_supplementary_one() -> None:
    document = spec(record({}, {}), user=User(1, 2, (3, 2), "/"))
    assert document["process"]["user"]["additionalGids"] == [2, 3]


def test_environment() -> None:
    made = record({"Env": ["A=1", "HOSTNAME=other", "B"]}, {})
    found = dict(
        item.split("=", 1) for item in environment(made, "/root", ["A=2", "HOME=/h"], True)
    )
    assert found["A"] == "2"
    assert (found["HOSTNAME"], found["HOME"], found["TERM"]) == ("other", "/h", "xterm")
    assert "B" not in found
