"""`barque run` from end to end where cgroups are of version 2 and AppArmor confines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.runtimes import CGROUPS, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
MIB = 1 << 20


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    with stack() as made:
        yield made


def cli(barque: Stack, *arguments: str, check: bool = True) -> str:
    return barque.cli(*arguments, check=check, timeout_s=120).stdout.decode()


def inspected(barque: Stack, container: str) -> dict[str, Any]:
    (answer,) = json.loads(cli(barque, "inspect", container))
    found: dict[str, Any] = answer
    return found


def cgroup_of(barque: Stack, container: str) -> Path:
    pid = inspected(barque, container)["State"]["Pid"]
    path = Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")
    return Path(CGROUPS + path)


def test_info_tells_version_2(barque: Stack) -> None:
    words = cli(barque, "info", "--format", "{{.CgroupVersion}} {{.CgroupDriver}}")
    assert words.split() == ["2", "cgroupfs"]
    assert "name=apparmor" in cli(barque, "info", "--format", "{{json .SecurityOptions}}")


def test_limits_of_a_run_and_of_an_update(barque: Stack) -> None:
    flags = ("--memory", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--pids-limit", "42")
    more = ("--cpu-shares", "512", "--cpuset-cpus", "0", "--memory-reservation", "32m")
    cli(barque, "run", "-d", "--name", "limits", *flags, *more, "busybox", "sleep", "1000")
    group = cgroup_of(barque, "limits")
    names = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "pids.max", "cpuset.cpus")
    assert [(group / name).read_text().strip() for name in names] == [
        *(str(64 * MIB), str(32 * MIB), str(32 * MIB), "50000 100000", "42", "0")
    ]
    assert (group / "cpu.weight").read_text() == "20\n"
    cli(barque, "update", "--memory", "80m", "--memory-swap", "80m", "--pids-limit", "9", "limits")
    assert (group / "memory.max").read_text() == f"{80 * MIB}\n"
    assert (group / "pids.max").read_text() == "9\n"
    assert cli(barque, "exec", "limits", "cat", "/proc/self/cgroup") == "0::/\n"
    cli(barque, "pause", "limits")
    assert "frozen 1" in (group / "cgroup.events").read_text()
    cli(barque, "unpause", "limits")
    form = "{{.MemUsage}} {{.PIDs}}"
    words = cli(barque, "stats", "--no-stream", "--format", form, "limits").split()
    assert words[1:3] == ["/", "80MiB"]
    assert words[-1] == "1"
    cli(barque, "rm", "-f", "limits")
    wait_for(lambda: not group.exists())


def test_an_end_for_want_of_memory_is_told(barque: Stack) -> None:
    script = "head -c 100m /dev/zero | tail -c 100m >/dev/null"
    flags = ("--memory", "16m", "--memory-swap", "16m", "--name", "hungry")
    cli(barque, "run", *flags, "busybox", "sh", "-c", f"{script}; exit 0", check=False)
    state = inspected(barque, "hungry")["State"]
    assert state["OOMKilled"] is True
    cli(barque, "rm", "hungry")


def test_devices_by_rule(barque: Stack) -> None:
    script = "mknod /tmp/k c 1 11 && head -c 1 /tmp/k >/dev/null && echo read"
    refused = barque.cli("run", "--rm", "busybox", "sh", "-c", script, check=False, timeout_s=120)
    assert b"Operation not permitted" in refused.stderr
    rule = ("--device-cgroup-rule", "c 1:11 rmw", "--cap-add", "SYSLOG")
    assert cli(barque, "run", "--rm", *rule, "busybox", "sh", "-c", script) == "read\n"


def test_a_container_of_the_host_cgroup_namespace(barque: Stack) -> None:
    words = cli(barque, "run", "--rm", "--cgroupns", "host", "busybox", "cat", "/proc/1/cgroup")
    assert words.startswith(f"0::/{barque.cgroup}/")


def test_the_default_profile_confines(barque: Stack) -> None:
    current = ("cat", "/proc/self/attr/current")
    assert cli(barque, "run", "--rm", "busybox", *current) == "docker-default (enforce)\n"
    free = ("--security-opt", "apparmor=unconfined")
    assert cli(barque, "run", "--rm", *free, "busybox", *current) == "unconfined\n"
    assert cli(barque, "run", "--rm", "--privileged", "busybox", *current) == "unconfined\n"
    script = "mount -t tmpfs none /tmp 2>&1; echo $?"
    told = cli(barque, "run", "--rm", "--cap-add", "SYS_ADMIN", "busybox", "sh", "-c", script)
    assert "denied" in told
    cli(barque, "run", "-d", "--name", "confined", "busybox", "sleep", "1000")
    assert cli(barque, "exec", "confined", *current) == "docker-default (enforce)\n"
    assert inspected(barque, "confined")["AppArmorProfile"] == "docker-default"
    cli(barque, "rm", "-f", "confined")
