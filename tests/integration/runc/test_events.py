"""`events`: statistics in runc's form, and the want of memory."""

import json
import subprocess
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.cgroups import VERSION_2
from tests.support.runtimes import wait_for

pytestmark = [
    *(pytest.mark.root, pytest.mark.peer, pytest.mark.version_2),
    pytest.mark.runtimes("warm", "runc"),
]


def stats_of(case: Case) -> dict[str, Any]:
    line: dict[str, Any] = case.call("events", "--stats", case.id).check().json
    assert (line["type"], line["id"]) == ("stats", case.id)
    return dict(line["data"])


def test_statistics(case: Case) -> None:
    spec = case.configure(
        "sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 1000"
    )
    spec["linux"]["resources"].update(
        memory={"limit": 64 << 20}, pids={"limit": 33}, cpu={"cpus": "0"}
    )
    case.started(spec=spec)
    wait_for(lambda: stats_of(case)["cpu"]["usage"].get("total", 0) > 10**6)
    data = stats_of(case)
    assert {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"} <= set(data)
    usage = {"total", "kernel", "user"} | (set() if VERSION_2 else {"percpu"})
    assert set(data["cpu"]["usage"]) >= usage
    assert data["cpuset"].get("cpus", [0] if VERSION_2 else []) == [0]  # runc's 1.1 has it in 1
    assert data["memory"]["usage"]["limit"] == 64 << 20
    assert data["memory"]["usage"]["usage"] > 0
    if not VERSION_2:
        assert data["memory"]["raw"]["hierarchical_memory_limit"] == 64 << 20
    assert data["memory"]["swap"]["failcnt"] == 0
    assert ("event_count" in data["memory"]) == VERSION_2  # version 1 does not count them
    assert data["pids"]["limit"] == 33
    assert data["pids"]["current"] >= 1


@pytest.mark.runtimes("warm")
def test_the_members_are_runcs(case: Case) -> None:
    """The same container, seen by both."""
    case.started("sleep", "1000")
    ours = stats_of(case)
    state = case.runtime.root / case.id
    # the reference reads cgroups by path from its own state: give it one of its own
    reference = case.place / "reference"
    name = f"{case.id}r"
    spec = case.configure("sleep", "1000")
    spec["linux"]["cgroupsPath"] = f"/{name}"
    case.write(spec)
    runc = ["runc", "--root", str(reference)]
    run = [*runc, "run", "--detach", "--bundle", str(case.bundle), name]
    subprocess.run(run, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        line = subprocess.run([*runc, "events", "--stats", name], capture_output=True, check=True)
        theirs = json.loads(line.stdout)["data"]
    finally:
        subprocess.run([*runc, "delete", "--force", name], check=True)
    assert state.exists()
    assert set(theirs) <= set(ours)
    for section in ("cpu", "memory", "pids"):
        assert set(theirs[section]) <= set(ours[section]), section
    # memory.kmem of version 1 is no more in new kernels; both say zeros
    for entry in ("usage", "swap"):
        assert set(theirs["memory"][entry]) <= set(ours["memory"][entry]) | {"max", "usage"}
    assert set(theirs["cpuset"]) <= set(ours["cpuset"])


def test_again_and_again_until_the_end(case: Case) -> None:
    case.started("sleep", "1000")
    argv = case.runtime.argv("events", "--interval", "50ms", case.id)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert [line["type"] for line in lines] == ["stats"] * 3
        case.call("kill", case.id, "KILL").check()
        case.runtime.wait_stopped(case.id)
        case.call("delete", case.id).check()
        process.stdout.read()
        assert process.wait(20) == 0


def test_no_memory_left(case: Case) -> None:
    script = "read line; head -c 100000000 /dev/zero | tail >/dev/null; sleep 1000"
    spec = case.configure("sh", "-c", f"mkfifo /tmp/f; exec 3<>/tmp/f; sh -c '{script}' <&3")
    spec["linux"]["resources"]["memory"] = {"limit": 16 << 20}
    case.started(spec=spec)
    argv = case.runtime.argv("events", "--interval", "100ms", case.id)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "stats"  # it listens
        case.call("exec", case.id, "sh", "-c", "echo go > /tmp/f").check()
        while json.loads(process.stdout.readline()) != {"type": "oom", "id": case.id}:
            pass
        case.call("delete", "--force", case.id).check()
        process.stdout.read()
        assert process.wait(20) == 0


@pytest.mark.parametrize("interval", ["0", "-1s", "x"])
def test_an_interval_that_cannot_be(case: Case, interval: str) -> None:
    case.started("sleep", "1000")
    assert case.call("events", "--interval", interval, case.id).code != 0


def test_a_container_that_has_ended(case: Case) -> None:
    case.started("true")
    case.runtime.wait_stopped(case.id)
    result = case.call("events", "--stats", case.id)
    assert result.code == 1
    assert f"container with id {case.id} is not running" in result.err
