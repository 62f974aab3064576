"""Limits, devices and life of a container where cgroups are of version 2 alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import CGROUPS, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
MIB = 1 << 20
CGROUP_MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
OURS_AND_RUNC = pytest.mark.runtimes("warm", "runc")


def value(case: Case, name: str) -> str:
    return Path(CGROUPS, case.id, name).read_text().strip()


def with_resources(case: Case, resources: dict[str, Any], *args: str) -> dict[str, Any]:
    spec = case.configure(*(args or ("sleep", "1000")))
    spec["linux"]["resources"].update(resources)
    return spec


def test_every_limit_is_the_kernels(case: Case) -> None:
    resources = {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 42},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "unified": {"memory.high": str(60 * MIB), "pids.max": "43"},
    }
    case.started(spec=with_resources(case, resources))
    found = {
        name: value(case, name)
        for name in (
            *("memory.max", "memory.swap.max", "memory.low", "memory.high", "cpu.weight"),
            *("cpu.max", "cpuset.cpus", "cpuset.mems", "pids.max", "hugetlb.2MB.max"),
        )
    }
    assert found == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(32 * MIB),
        "memory.low": str(32 * MIB),
        "memory.high": str(60 * MIB),
        "cpu.weight": "20",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
        "pids.max": "43",
        "hugetlb.2MB.max": str(4 * MIB),
    }


@pytest.mark.runtimes("ours", "warm")
def test_limits_that_the_references_do_not_know(case: Case) -> None:
    cpu = {"quota": 50000, "period": 100000, "burst": 20000}
    case.started(spec=with_resources(case, {"cpu": cpu}))
    assert value(case, "cpu.max.burst") == "20000"
    case.call("delete", "--force", case.id).check()
    case.started(spec=with_resources(case, {"cpu": {"idle": 1}}))
    assert value(case, "cpu.idle") == "1"


def test_the_limits_of_block_devices(case: Case, block_device: str) -> None:
    major, minor = (int(number) for number in block_device.split(":"))
    device = {"major": major, "minor": minor}
    block = {
        "weight": 500,
        "throttleReadBpsDevice": [{**device, "rate": MIB}],
        "throttleWriteIOPSDevice": [{**device, "rate": 100}],
    }
    case.started(spec=with_resources(case, {"blockIO": block}))
    line = value(case, "io.max").split()
    assert line[0] == block_device
    assert {"rbps=1048576", "wiops=100"} <= set(line)
    assert value(case, weight_file(case)).startswith(("default 4950", "default 500"))


def weight_file(case: Case) -> str:
    bfq = Path(CGROUPS, case.id, "io.bfq.weight")
    return "io.bfq.weight" if bfq.exists() else "io.weight"


@pytest.fixture
def block_device() -> str:
    return Path("/sys/block/loop0/dev").read_text().strip()


@OURS_AND_RUNC
def test_what_the_kernel_refuses_is_one_line_and_leaves_nothing(case: Case) -> None:
    spec = with_resources(case, {"cpu": {"cpus": "77"}})
    result = case.create(spec=spec)
    assert result.code == 1
    assert "cpuset.cpus" in result.err
    assert not Path(CGROUPS, case.id).exists()


def test_the_memory_limit_kills(case: Case) -> None:
    script = "head -c 100m /dev/zero | tail -c 100m >/dev/null; echo survived $?"
    resources = {"memory": {"limit": 20 * MIB, "swap": 20 * MIB}}
    spec = with_resources(case, resources, "sh", "-c", f"{script}; sleep 1000")
    case.started(spec=spec)
    wait_for(lambda: "oom_kill 0" not in value(case, "memory.events"))


def test_the_pids_limit_stops_forks(case: Case) -> None:
    script = "for i in 1 2 3 4 5 6; do sleep 100 & done; echo all"
    spec = with_resources(case, {"pids": {"limit": 4}}, "sh", "-c", script)
    result = case.run(spec=spec)
    assert "all" not in result.out
    assert "can't fork" in result.err


def test_update_changes_what_runs(case: Case) -> None:
    resources = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 10}}
    case.started(spec=with_resources(case, resources))
    new = {
        "memory": {"limit": 80 * MIB, "swap": 100 * MIB, "reservation": 40 * MIB},
        "cpu": {"shares": 2048, "quota": 20000, "period": 50000},
        "pids": {"limit": 20},
    }
    file = case.place / "new.json"
    file.write_text(json.dumps(new))
    case.call("update", "--resources", str(file), case.id).check()
    names = ("memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "pids.max")
    assert [value(case, name) for name in names] == [
        *(str(80 * MIB), str(20 * MIB), str(40 * MIB), "79", "20000 50000", "20")
    ]


@OURS_AND_RUNC
def test_update_by_flags(case: Case) -> None:
    case.started(spec=with_resources(case, {"pids": {"limit": 10}}))
    flags = ("--memory", str(32 * MIB), "--memory-swap", "-1", "--cpu-share", "100")
    case.call("update", *flags, "--pids-limit", "-1", "--cpuset-cpus", "1", case.id).check()
    names = ("memory.max", "memory.swap.max", "cpu.weight", "pids.max", "cpuset.cpus")
    assert [value(case, name) for name in names] == [str(32 * MIB), "max", "4", "max", "1"]


def test_a_process_of_exec_is_in_the_cgroup(case: Case) -> None:
    case.started("sleep", "1000")
    case.call("exec", case.id, "cat", "/proc/self/cgroup").check()
    assert "0::/\n" in case.runtime.output()
    case.call("exec", "--detach", case.id, "sleep", "999").check()
    wait_for(lambda: len(value(case, "cgroup.procs").split()) == 2)


def test_devices_are_denied_and_allowed(case: Case) -> None:
    names = ["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG"]
    script = "mknod /tmp/k c 1 11 && head -c 1 /tmp/k; head -c 1 /dev/zero | wc -c"
    for rules in ([], [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rm"}]):
        deny = {"allow": False, "access": "rwm"}
        spec = with_resources(case, {"devices": [deny, *rules]}, "sh", "-c", f"{script}; rm /tmp/k")
        spec["process"]["capabilities"] = dict.fromkeys(
            ("bounding", "effective", "permitted"), names
        )
        result = case.run(spec=spec)
        assert ("Operation not permitted" in result.err) == (not rules), result
        assert result.out.endswith("1\n")


def test_freeze_thaw_kill(case: Case) -> None:
    case.started("sh", "-c", "sleep 1001 & sleep 1000")
    case.call("pause", case.id).check()
    assert case.runtime.status(case.id) == "paused"
    assert "frozen 1" in value(case, "cgroup.events")
    case.call("resume", case.id).check()
    assert case.runtime.status(case.id) == "running"
    case.call("kill", "--all", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    case.call("delete", case.id).check()
    assert not Path(CGROUPS, case.id).exists()


@OURS_AND_RUNC
def test_every_controller_reaches_the_container(case: Case) -> None:
    """It may limit what is below it with those that its config does not name."""
    case.started("sleep", "1000")
    available = Path(CGROUPS, "cgroup.controllers").read_text().split()
    assert value(case, "cgroup.controllers").split() == available


def test_a_cgroup_deep_below_gets_its_controllers(case: Case) -> None:
    spec = with_resources(case, {"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}})
    top = f"{case.id}-top"
    spec["linux"]["cgroupsPath"] = f"/{top}/middle/{case.id}"
    case.started(spec=spec)
    directory = Path(CGROUPS, top, "middle", case.id)
    assert (directory / "memory.max").read_text() == f"{64 * MIB}\n"
    assert (directory / "pids.max").read_text() == "9\n"
    case.call("delete", "--force", case.id).check()
    assert not directory.exists()
    for left in (directory.parent, directory.parent.parent):
        if left.exists():
            left.rmdir()


def test_the_container_delegates_below_itself(case: Case) -> None:
    """Its first process moves into a leaf of a writable mount and hands on controllers."""
    script = (
        "mkdir /sys/fs/cgroup/leaf && echo 1 >/sys/fs/cgroup/leaf/cgroup.procs && "
        "echo +pids >/sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/more && "
        "echo 5 >/sys/fs/cgroup/more/pids.max && cat /sys/fs/cgroup/more/pids.max; sleep 1000"
    )
    spec = with_resources(case, {}, "sh", "-c", script)
    spec["mounts"].append(CGROUP_MOUNT)
    case.started(spec=spec)
    wait_for(lambda: case.output.read_text() == "5\n")
    assert case.runtime.status(case.id) == "running"
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    case.call("delete", case.id).check()
    assert not Path(CGROUPS, case.id).exists()


def test_exec_where_the_container_has_moved_its_processes(case: Case) -> None:
    """No process may be in a cgroup that hands controllers on: exec goes where the first one is."""
    script = (
        "mkdir /sys/fs/cgroup/leaf && echo 1 >/sys/fs/cgroup/leaf/cgroup.procs && "
        "echo +pids +memory >/sys/fs/cgroup/cgroup.subtree_control && echo moved; sleep 1000"
    )
    spec = with_resources(case, {}, "sh", "-c", script)
    spec["mounts"].append(CGROUP_MOUNT)
    case.started(spec=spec)
    wait_for(lambda: case.output.read_text() == "moved\n")
    result = case.call("exec", case.id, "cat", "/proc/self/cgroup").check()
    assert result.out == "0::/leaf\n"
