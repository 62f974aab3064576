"""Scheduling policy, I/O priority, CPU affinity, memory policy of a container's process."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.cgroups import VERSION_2

pytestmark = [pytest.mark.root, pytest.mark.runtimes("warm")]
SHOW = "cut -d' ' -f19,40,41 /proc/self/stat"  # nice, real-time priority, policy


@pytest.mark.parametrize(
    ("scheduler", "seen"),
    [
        ({"policy": "SCHED_OTHER", "nice": 7}, "7 0 0"),
        ({"policy": "SCHED_BATCH", "nice": 3}, "3 0 3"),
        ({"policy": "SCHED_IDLE"}, f"{os.nice(0)} 0 5"),
        ({"policy": "SCHED_OTHER", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, "0 0 0"),
    ],
)
def test_a_policy(case: Case, scheduler: dict[str, Any], seen: str) -> None:
    result = case.run("sh", "-c", f"{SHOW} & wait", scheduler=scheduler)
    assert result.check().out.strip() == seen


def test_real_time_where_the_cgroup_has_none(case: Case) -> None:
    """The kernel refuses it in a cpu cgroup without real-time runtime: one clear line."""
    if VERSION_2:
        pytest.skip("version 2 has no real-time runtime")
    result = case.run("true", scheduler={"policy": "SCHED_FIFO", "priority": 5})
    assert result.code == 1
    assert "sched_setattr: operation not permitted" in result.err


def test_io_priority(case: Case) -> None:
    for name, number, seen in (
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ):
        priority = {"class": name, "priority": number}
        result = case.run("ionice", "-p", "1", ioPriority=priority)
        assert result.check().out.strip() == seen


def test_exec_has_its_own(case: Case) -> None:
    case.started("sleep", "1000")
    file = case.place / "process.json"
    process = {
        "args": ["sh", "-c", f"{SHOW}; grep Cpus_allowed_list /proc/self/status"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "scheduler": {"policy": "SCHED_OTHER", "nice": 4},
        "execCPUAffinity": {"initial": "0", "final": "0-0"},
    }
    file.write_text(json.dumps(process))
    out = case.call("exec", "--process", str(file), case.id).check().out
    assert out.split() == ["4", "0", "0", "Cpus_allowed_list:", "0"]


def test_memory_policy(case: Case) -> None:
    if not Path("/sys/devices/system/node/node0").exists():
        pytest.skip("no NUMA nodes")
    spec = case.configure("sh", "-c", "grep stack /proc/self/numa_maps")
    spec["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    assert " bind:0 " in case.run(spec=spec).check().out
    flags = ["MPOL_F_STATIC_NODES"]
    spec["linux"]["memoryPolicy"] = {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": flags}
    assert " interleave=static:0 " in case.run(spec=spec).check().out


def test_a_memory_policy_the_kernel_refuses(case: Case) -> None:
    spec = case.configure("true")
    spec["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "900"}
    result = case.run(spec=spec)
    assert result.code == 1
    assert "set_mempolicy: invalid argument" in result.err


def test_the_runtime_keeps_its_own(case: Case) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    case.run("true", scheduler={"policy": "SCHED_OTHER", "nice": 5}).check()
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
