"""`state.json` is lost or spoilt while a container runs: the commands find it all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from barque.runc.container import process_times
from tests.integration.runc.conftest import Case
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.runtimes("ours", "warm")]
SPOILT = [None, b"", b"{", b"[]", b'{"id": 1}', b"\xff" * 100, b'{"cgroup": []}']


def spoil(case: Case, state: bytes | None) -> None:
    file = case.runtime.root / case.id / "state.json"
    if state is None:
        file.unlink()
    else:
        file.write_bytes(state)


def running(case: Case, *, own_pids: bool = True) -> dict[str, object]:
    spec = case.configure("sh", "-c", "sleep 1001 & exec sleep 1000")
    spec["annotations"] = {"a": "b"}
    if not own_pids:
        kinds = [one for one in spec["linux"]["namespaces"] if one["type"] != "pid"]
        spec["linux"]["namespaces"] = kinds
    case.started(spec=spec)
    wait_for(lambda: len(json.loads(case.call("ps", "-f", "json", case.id).check().out)) == 2)
    return state_of(case)


def state_of(case: Case) -> dict[str, object]:
    found: dict[str, object] = case.call("state", case.id).check().json
    del found["created"]
    return found


@pytest.mark.parametrize("state", SPOILT)
@pytest.mark.runtimes("warm")
def test_a_running_container(case: Case, state: bytes | None) -> None:
    before = running(case)
    spoil(case, state)
    assert state_of(case) == before
    assert case.call("exec", case.id, "echo", "in").check().out == "in\n"
    saved = json.loads((case.runtime.root / case.id / "state.json").read_bytes())
    assert saved["pid"] == before["pid"]
    case.call("delete", "--force", case.id).check()
    assert process_times(int(str(before["pid"]))) is None


@pytest.mark.version_2
def test_one_that_shares_the_pid_namespace(case: Case) -> None:
    before = running(case, own_pids=False)
    spoil(case, None)
    assert state_of(case) == before
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    spoil(case, b"")
    case.call("delete", "--force", case.id).check()


@pytest.mark.version_2
def test_one_that_waits_and_one_that_is_paused(case: Case) -> None:
    case.create("sleep", "1000").check()
    spoil(case, None)
    assert case.runtime.status(case.id) == "created"
    spoil(case, None)
    case.call("start", case.id).check()
    case.call("pause", case.id).check()
    spoil(case, b"{")
    assert case.runtime.status(case.id) == "paused"
    case.call("resume", case.id).check()
    case.call("delete", "--force", case.id).check()


def test_one_that_has_ended(case: Case) -> None:
    before = running(case)
    os.kill(int(str(before["pid"])), signal.SIGKILL)
    case.runtime.wait_stopped(case.id)
    spoil(case, None)
    assert state_of(case) == {**before, "status": "stopped", "pid": 0}
    case.call("delete", case.id).check()


@pytest.mark.runtimes("warm")
def test_a_container_below_does_not_stand_for_it(case: Case) -> None:
    """The first process of a pid namespace in the container's has the number 1 too."""
    spec = case.configure("sh", "-c", "unshare -p -f sh -c 'sleep 1001' & exec sleep 1000")
    sets = spec["process"]["capabilities"]
    for kind in ("bounding", "effective", "permitted"):
        sets[kind] = [*sets[kind], "CAP_SYS_ADMIN"]
    case.started(spec=spec)
    wait_for(lambda: len(json.loads(case.call("ps", "-f", "json", case.id).check().out)) >= 3)
    before = state_of(case)
    spoil(case, None)
    assert state_of(case) == before


@pytest.mark.runtimes("warm")
def test_where_too_little_is_left(case: Case) -> None:
    before = running(case)
    directory = case.runtime.root / case.id
    config, state = directory / "config.json", directory / "state.json"
    kept = {file: file.read_bytes() for file in (config, state)}
    config.write_bytes(b"{")
    spoil(case, b"x")
    result = case.call("state", case.id)
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert f"state of container {case.id} is not readable" in result.err
    assert "cannot be found again" in result.err
    for file, data in kept.items():
        file.write_bytes(data)
    assert state_of(case) == before


@pytest.mark.runtimes("warm")
def test_nobody_rebuilds_what_is_being_worked_on(case: Case) -> None:
    """A command holds the lock: `delete` may be half way through the directory."""
    running(case)
    directory = case.runtime.root / case.id
    state = (directory / "state.json").read_bytes()
    spoil(case, None)
    with subprocess.Popen(
        ["flock", "-n", str(directory), "sh", "-c", "echo locked; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert "does not exist" in case.call("state", case.id).err
        holder.communicate(b"\n")
    (directory / "state.json").write_bytes(state)
