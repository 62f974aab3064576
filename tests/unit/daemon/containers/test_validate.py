from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from barque import errors
from barque.daemon.containers import capabilities, validate
from barque.daemon.containers.documents import Config, HostConfig, parse
from barque.daemon.containers.host import Defaults, Host, parse_list

MACHINE = Host(
    kernel=(6, 1),
    machine="x86_64",
    capabilities=frozenset(capabilities.NAMES),
    cgroup_version=1,
    swap_limit=True,
    cpus=frozenset(range(4)),
    memory_nodes=frozenset({0}),
    thermal_paths=(),
    hostname="machine",
    apparmor=False,
)
GIB = 1 << 30


def check(machine: Host = MACHINE, **fields: Any) -> list[str]:
    return validate.check_host(parse(HostConfig, fields), machine, Defaults())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Memory": 1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": -1}, "negative"),
        ({"Memory": GIB, "MemorySwap": GIB - 1}, "Minimum memoryswap limit should be larger"),
        ({"MemorySwap": GIB}, "You should always set the Memory limit"),
        ({"Memory": GIB, "MemoryReservation": 2 * GIB}, "less than memory reservation limit"),
        ({"MemoryReservation": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"MemorySwappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"NanoCpus": 5 * 10**9}, "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs"),
        ({"NanoCpus": -1}, "range of CPUs"),
        ({"NanoCpus": 10**9, "CpuPeriod": 100000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"NanoCpus": 10**9, "CpuQuota": 100000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuPeriod": 999}, "CPU cfs period"),
        ({"CpuQuota": 999}, "CPU cfs quota"),
        ({"CpuShares": -1}, "invalid CPU shares"),
        ({"CpusetCpus": "0-9"}, "Requested CPUs are not available - requested 0-9, available: 0"),
        ({"CpusetCpus": "a"}, "Invalid value a for cpuset cpus"),
        ({"CpusetMems": "1"}, "Requested memory nodes are not available"),
        ({"BlkioWeight": 1}, "range of blkio weight is from 10 to 1000"),
        ({"OomScoreAdj": 1001}, "range for oom score adj is"),
        ({"ShmSize": -1}, "SHM size can not be less than 0"),
        ({"RestartPolicy": {"Name": "maybe"}}, "unknown policy 'maybe'"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}}, "only be used with"),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "be negative"),
        ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True}, "can't create 'AutoRemove'"),
        ({"Runtime": "nope"}, "unknown or invalid runtime name: nope"),
        ({"Ulimits": [{"Name": "nope"}]}, "invalid ulimit type: nope"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, "less than or equal to hard"),
        ({"PortBindings": {"x/tcp": []}}, 'invalid port specification: "x/tcp"'),
        ({"PortBindings": {"70000": []}}, "invalid port specification"),
        ({"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}, 'invalid port specification: "x"'),
        ({"PortBindings": {"80/tcp": [{"HostPort": "65536"}]}}, "invalid port specification"),
        ({"LogConfig": {"Type": "nope"}}, "error looking up logging plugin nope"),
        ({"LogConfig": {"Config": {"x": "y"}}}, "unknown log opt 'x' for json-file log driver"),
        ({"LogConfig": {"Config": {"max-file": "0"}}}, "max-file cannot be less than 1"),
        ({"LogConfig": {"Config": {"max-size": "big"}}}, "invalid size: 'big'"),
        ({"CapAdd": ["nope"]}, 'unknown capability: "CAP_NOPE"'),
        ({"CapDrop": ["nope"]}, "invalid CapDrop"),
        ({"SecurityOpt": ["nope"]}, "invalid --security-opt"),
        ({"SecurityOpt": ["no-new-privileges=maybe"]}, "invalid --security-opt"),
        ({"PidMode": "container:"}, "invalid PID mode"),
        ({"IpcMode": "nope"}, "invalid IPC mode"),
        ({"UTSMode": "nope"}, "invalid UTS mode"),
        ({"CgroupnsMode": "nope"}, "invalid cgroup namespace mode"),
        ({"UsernsMode": "nope"}, "invalid user namespace mode"),
        ({"DeviceCgroupRules": ["c 1:2"]}, "invalid device cgroup rule format"),
        ({"Sysctls": {"kernel.core_pattern": "x"}}, "not in a separate kernel namespace"),
        ({"Sysctls": {"net.ipv4.ip_forward": "1\n2"}}, "invalid sysctl"),
        ({"Sysctls": {"kernel.shm_rmid_forced": "1+kernel.core_pattern=x"}}, "invalid sysctl"),
        ({"Sysctls": {"net/../../x": "1"}}, "invalid sysctl"),
        ({"Sysctls": {"net.x": "1"}, "NetworkMode": "host"}, "not allowed in host network"),
        ({"Sysctls": {"kernel.sem": "1"}, "IpcMode": "host"}, "not allowed in host IPC"),
        ({"LogConfig": {"Config": {"mode": "sometimes"}}}, "logging mode not supported: sometimes"),
        ({"LogConfig": {"Config": {"max-buffer-size": "1m"}}}, "only supported with 'mode=non-bl"),
    ],
)  # fmt: skip
def test_refusals_in_dockers_words(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refusal:
        check(**fields)
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"LogConfig": {"Type": "splunk"}},
        {"Cgroup": "container:x"},
        {"CpuCount": 1},
        {"SecurityOpt": ["label=type:x"]},
        {"SecurityOpt": ["apparmor=x"]},
    ],
)
def test_known_but_not_there(fields: dict[str, Any]) -> None:
    with pytest.raises(errors.Unsupported):
        check(**fields)


def test_what_is_fine() -> None:
    fields: Mapping[str, Any] = {
        "Memory": GIB, "NanoCpus": 1_500_000_000, "CpusetCpus": "0-1,3", "ShmSize": 1,
        "PortBindings": {"80": None, "81-82/udp": [{"HostPort": "8000-8010"}]},
        "Sysctls": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1"},
        "LogConfig": {"Config": {"max-size": "10m", "max-file": "3", "mode": "non-blocking"}},
        "SecurityOpt": ["no-new-privileges", "seccomp=unconfined", "label=disable"],
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    }  # fmt: skip
    assert check(**fields) == []


def test_a_huge_set_of_cpus_is_refused_before_it_is_built() -> None:
    """CVE-2018-20699."""
    begun = time.process_time()
    with pytest.raises(errors.InvalidArgument):
        check(CpusetCpus="0-4294967295")
    with pytest.raises(ValueError, match="99999999999999999999"):
        parse_list("0-99999999999999999999", 8192)
    assert time.process_time() - begun < 1


def test_ports_of_a_container_in_the_hosts_network_are_a_warning() -> None:
    warnings = check(NetworkMode="host", PortBindings={"80/tcp": [{"HostPort": ""}]})
    assert warnings == ["Published ports are discarded when using host network mode"]


def test_memory_without_a_swap_limit_is_a_warning() -> None:
    machine = Host(**{**{n: getattr(MACHINE, n) for n in MACHINE.__slots__}, "swap_limit": False})
    host = parse(HostConfig, {"Memory": GIB})
    (warning,) = validate.check_host(host, machine, Defaults())
    assert "swap limit" in warning
    assert host.memory_swap == -1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"WorkingDir": "x"}, "the working directory 'x' is invalid"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"Env": ["a\0b=c"]}, "invalid environment variable"),
        ({"Hostname": "a\nroot::0:0"}, "invalid hostname"),
        ({"Hostname": "a:b"}, "invalid hostname"),
        ({"Hostname": "a" * 65}, "invalid hostname"),
        ({"Domainname": "x y"}, "invalid domainname"),
        ({"StopSignal": "NOPE"}, "Invalid signal: NOPE"),
        ({"ExposedPorts": {"x": {}}}, "invalid port specification"),
        ({"Cmd": ["a\0"]}, "NUL"),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1}}, "cannot be less than 1ms"),
    ],
)
def test_config(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refusal:
        validate.check_config(parse(Config, fields))
    assert text in str(refusal.value)
