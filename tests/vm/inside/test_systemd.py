"""Cgroups through systemd: its units, their properties, and what the kernel has of them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.barque import SYSTEMD, stack
from tests.support.runtimes import CGROUPS, Runtime, wait_for

pytestmark = [
    *(pytest.mark.root, pytest.mark.peer),
    pytest.mark.runtimes("warm", "runc"),
]
MIB = 1 << 20
SLICE = "barque-test.slice"
DIRECTORY = Path(CGROUPS, "barque.slice", SLICE)


class Driven:
    """A case whose runtime is told --systemd-cgroup."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.id = case.id
        self.unit = f"bq-{case.id}.scope"
        self.runtime: Runtime = case.runtime

    def call(self, *arguments: str) -> Any:
        return self.runtime.call("--systemd-cgroup", *arguments)

    def started(self, resources: dict[str, Any], *args: str, **top: Any) -> None:
        self.created(resources, *args, **top).check()
        self.call("start", self.id).check()

    def created(self, resources: dict[str, Any], *args: str, **top: Any) -> Any:
        spec = self.case.configure(*(args or ("sleep", "1000")))
        spec["linux"]["cgroupsPath"] = f"{SLICE}:bq:{self.id}"
        spec["linux"]["resources"].update(resources)
        spec.update(top)
        self.case.write(spec)
        return self.call("create", "--bundle", str(self.case.bundle), self.id)

    def shown(self, name: str) -> str:
        command = ["systemctl", "show", "--value", "--property", name, self.unit]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    def value(self, name: str) -> str:
        return (DIRECTORY / self.unit / name).read_text().strip()


@pytest.fixture
def driven(case: Case) -> Iterator[Driven]:
    made = Driven(case)
    yield made
    made.call("delete", "--force", made.id)
    wait_for(lambda: made.shown("ActiveState") == "inactive")
    assert not (DIRECTORY / made.unit).exists()


LIMITS = {
    "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1"},
    "pids": {"limit": 42},
}


def test_the_container_is_a_scope_with_its_limits(driven: Driven) -> None:
    driven.started(LIMITS)
    assert driven.shown("ActiveState") == "active"
    assert driven.shown("Slice") == SLICE
    assert driven.shown("Delegate") == "yes"
    expected = {
        "MemoryMax": str(64 * MIB),
        "MemorySwapMax": str(32 * MIB),
        "MemoryLow": str(32 * MIB),
        "CPUWeight": "20",
        "CPUQuotaPerSecUSec": "500ms",
        "AllowedCPUs": "0-1",
        "TasksMax": "42",
    }
    assert {name: driven.shown(name) for name in expected} == expected
    names = ("memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max")
    kernel = [driven.value(name) for name in names]
    assert kernel == [str(64 * MIB), str(32 * MIB), "20", "50000 100000", "42"]
    pids = driven.value("cgroup.procs").split()
    assert pids == [str(driven.runtime.pid(driven.id))]


def test_limits_and_devices_stay_when_systemd_reads_again(driven: Driven) -> None:
    driven.started({**LIMITS, "hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]})
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=120)
    assert driven.value("memory.max") == str(64 * MIB)
    assert driven.value("pids.max") == "42"
    script = "head -c 1 /dev/zero | wc -c; mknod /tmp/k b 7 0 && head -c 1 /tmp/k"
    result = driven.call("exec", "--cap", "CAP_MKNOD", driven.id, "sh", "-c", script)
    assert result.out.startswith("1\n")
    assert "not permitted" in result.err


def test_update_and_exec(driven: Driven) -> None:
    driven.started(LIMITS)
    flags = ("--memory", str(80 * MIB), "--memory-swap", str(80 * MIB), "--pids-limit", "7")
    driven.call("update", *flags, driven.id).check()
    assert (driven.shown("MemoryMax"), driven.value("memory.max")) == (str(80 * MIB),) * 2
    assert (driven.shown("TasksMax"), driven.value("pids.max")) == ("7", "7")
    driven.call("exec", "--detach", driven.id, "sleep", "999").check()
    wait_for(lambda: len(driven.value("cgroup.procs").split()) == 2)


def test_an_end_is_the_units_end(driven: Driven) -> None:
    driven.started({}, "true")
    driven.runtime.wait_stopped(driven.id)
    driven.call("delete", driven.id).check()
    assert driven.shown("ActiveState") == "inactive"
    assert driven.shown("LoadState") == "not-found"


def test_one_killed_for_memory_leaves_no_failed_unit(driven: Driven) -> None:
    script = "head -c 100m /dev/zero | tail -c 100m >/dev/null"
    driven.started({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}, "sh", "-c", script)
    driven.runtime.wait_stopped(driven.id)
    driven.call("delete", driven.id).check()
    assert driven.shown("LoadState") == "not-found"


def test_a_failed_create_leaves_no_unit(driven: Driven) -> None:
    result = driven.created(LIMITS, "no-such-program")
    assert result.code == 1
    assert "executable file not found" in result.err
    wait_for(lambda: driven.shown("LoadState") == "not-found")


def test_properties_by_annotation(driven: Driven) -> None:
    annotations = {
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
    }
    driven.started({}, annotations=annotations)
    assert driven.shown("CollectMode") == "inactive-or-failed"
    assert driven.shown("TimeoutStopUSec") == "7s"


def test_the_form_of_the_path(driven: Driven) -> None:
    spec = driven.case.configure("true")
    spec["linux"]["cgroupsPath"] = "/not/systemd/s"
    driven.case.write(spec)
    result = driven.call("create", "--bundle", str(driven.case.bundle), driven.id)
    assert result.code == 1
    text = json.dumps(result.err).replace("\\", "")
    assert "expected cgroupsPath to be of format" in text


@pytest.mark.runtimes("warm")
def test_the_daemon_makes_scopes() -> None:
    with stack("--exec-opt", SYSTEMD) as barque:
        info = barque.cli("info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}")
        assert info.stdout.split() == [b"systemd", b"2"]
        refused = barque.cli(
            "run", "--cgroup-parent", "/a", "busybox", "true", check=False, timeout_s=120
        )
        assert b"should be a valid slice" in refused.stderr
        unconfined = ("--security-opt", "apparmor=unconfined")  # this boot mounts no securityfs
        flags = (*unconfined, "--memory", "64m", "--pids-limit", "42")
        started = barque.cli("run", "-d", *flags, "busybox", "sleep", "1000", timeout_s=120)
        unit = f"barque-{started.stdout.decode().strip()}.scope"
        group = Path(CGROUPS, barque.cgroup_parent, unit)
        assert [(group / name).read_text().strip() for name in ("memory.max", "pids.max")] == [
            *(str(64 * MIB), "42")
        ]
        identifier = started.stdout.decode().strip()
        barque.cli("update", "--pids-limit", "9", identifier)
        assert (group / "pids.max").read_text() == "9\n"
        assert barque.cli("exec", identifier, "echo", "in").stdout == b"in\n"
        barque.cli("rm", "-f", identifier)
        assert not group.exists()
