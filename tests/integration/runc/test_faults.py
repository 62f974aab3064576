"""Each kernel call of a command fails, or is the last before a kill.

Whatever fails, the command says so in one line and nothing is left of what it began; whatever is
killed, `delete --force` removes all. A sample of the calls by default; all of them, and another
sample, by the environment: BARQUE_FAULTS=all or a number, the seed.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import Faulty, Result, cgroups_of, wait_for

pytestmark = [pytest.mark.root, pytest.mark.runtimes("faulty")]
CHOICE = os.environ.get("BARQUE_FAULTS", "0")
SAMPLE = 40


@pytest.fixture
def faulty(case: Case) -> Faulty:
    assert isinstance(case.runtime, Faulty)
    return case.runtime


def config(case: Case) -> dict[str, Any]:
    """A container that needs most of what the runtime can do."""
    spec = case.configure("sleep", "1000", user={"uid": 5, "gid": 6, "additionalGids": [7]})
    spec["process"].update(oomScoreAdj=100, cwd="/made")
    spec["linux"]["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 50})
    spec["linux"]["namespaces"].append({"type": "time"})  # through a process between
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 1000}}
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    spec["mounts"] += [
        {"destination": "/b", "type": "bind", "source": "/tmp", "options": ["rbind", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]},
        {"destination": "/var", "type": "tmpfs", "options": ["tmpcopyup"]},
    ]
    hook = {"path": "/bin/true"}
    spec["hooks"] = {"createRuntime": [hook], "poststart": [hook], "poststop": [hook]}
    return spec


def chosen(calls: list[str], more: int = SAMPLE) -> Iterator[int]:
    """Places of calls, from 1 on: all, or one of each kind of call and as many more."""
    places = range(1, len(calls) + 1)
    if CHOICE == "all":
        yield from places
        return
    source = random.Random(int(CHOICE))
    kinds = {calls[place - 1]: place for place in source.sample(places, len(places))}
    others = source.sample(places, min(more, len(places)))
    yield from sorted({*kinds.values(), *others})


def processes_of(case: Case) -> set[int]:
    """Live processes of the runtime that are or become the container's."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/cgroup").read_text()
                name = Path(f"/proc/{entry}/comm").read_text().strip()
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and (f"/{case.id}\n" in text or name == f"i:{case.id}"):
                found.add(int(entry))
    return found


def assert_nothing_left(case: Case) -> None:
    assert not (case.runtime.root / case.id).exists()
    assert not cgroups_of(case.id)
    wait_for(lambda: not processes_of(case))
    assert case.id not in Path("/proc/self/mountinfo").read_text()


def assert_one_line(result: Result) -> None:
    lines = [line for line in result.err.splitlines() if "level=warning" not in line]
    assert len(lines) == 1, result
    assert "Traceback" not in result.err
    assert "Error:" not in result.err, result


def create(case: Case) -> Result:
    return case.call("create", "--bundle", str(case.bundle), case.id)


def remove(case: Case) -> None:
    case.call("delete", "--force", case.id).check()
    assert_nothing_left(case)


def test_create(case: Case, faulty: Faulty) -> None:
    case.write(config(case))
    faulty.break_at(-1)
    create(case).check()
    calls = faulty.calls()
    assert len(calls) > 200
    assert {"mount", "open", "flock", "send", "recvmsg", "symlink", "mkfifo"} <= set(calls)
    remove(case)
    for place in chosen(calls):
        faulty.break_at(place)
        result = create(case)
        if result.code:
            assert_one_line(result)
            assert_nothing_left(case)
        else:  # the call was one that may fail
            case.call("start", case.id)
            remove(case)


def test_create_that_is_killed(case: Case, faulty: Faulty) -> None:
    case.write(config(case))
    faulty.break_at(-1)
    create(case).check()
    calls = faulty.calls()
    remove(case)
    for place in chosen(calls):
        faulty.break_at(place, kill=True)
        create(case)
        remove(case)


@pytest.mark.parametrize("kill", [False, True])
def test_start(case: Case, faulty: Faulty, kill: bool) -> None:
    case.write(config(case))
    create(case).check()
    faulty.break_at(-1)
    case.call("start", case.id).check()
    calls = faulty.calls()
    remove(case)
    for place in chosen(calls):
        create(case).check()
        faulty.break_at(place, kill=kill)
        result = case.call("start", case.id)
        status = faulty.status(case.id)
        if result.code and not kill:
            assert_one_line(result)
        if result.code and status == "created":
            again = case.call("start", case.id)
            assert kill or not again.code, again  # what the killed one began may just go on
            status = faulty.status(case.id)
        assert status in ("running", "stopped")
        remove(case)


@pytest.mark.parametrize("kill", [False, True])
def test_exec(case: Case, faulty: Faulty, kill: bool) -> None:
    case.write(config(case))
    create(case).check()
    case.call("start", case.id).check()
    alone = processes_of(case)
    faulty.break_at(-1)
    case.call("exec", case.id, "true").check()
    calls = faulty.calls()
    assert len(calls) > 50
    for place in chosen(calls):
        faulty.break_at(place, kill=kill)
        result = case.call("exec", case.id, "true")
        if result.code and not kill:
            assert result.code in (255, 1)  # 1: it failed after all was ready, by its own word
            assert_one_line(result)
        wait_for(lambda: processes_of(case) == alone)
    assert faulty.status(case.id) == "running"


@pytest.mark.parametrize("kill", [False, True])
def test_delete(case: Case, faulty: Faulty, kill: bool) -> None:
    case.write(config(case))
    create(case).check()
    faulty.break_at(-1)
    case.call("delete", "--force", case.id).check()
    calls = faulty.calls()
    for place in chosen(calls):
        create(case).check()
        faulty.break_at(place, kill=kill)
        result = case.call("delete", "--force", case.id)
        if result.code and not kill:
            assert_one_line(result)
        remove(case)


def test_a_removal_that_fails_can_be_done_again(case: Case, faulty: Faulty) -> None:
    """However little of the container's directory is left."""
    case.write(config(case))
    create(case).check()
    faulty.break_at(-1)
    case.call("delete", "--force", case.id).check()
    calls = faulty.calls()
    of_the_directory = len(calls) - calls[::-1].index("listdir")
    assert {"unlink", "rmdir"} <= set(calls[of_the_directory:])
    for place in range(of_the_directory, len(calls) + 1):
        create(case).check()
        faulty.break_at(place)
        if case.call("delete", "--force", case.id).code:
            assert faulty.status(case.id) == "stopped"
            case.call("delete", case.id).check()
        assert_nothing_left(case)


@pytest.mark.parametrize("kill", [False, True])
def test_what_a_shim_does_itself(case: Case, faulty: Faulty, kill: bool) -> None:
    """`start` and `delete` without a process of their own; what fails is left to the command."""
    spec = config(case)
    spec["process"]["args"] = ["true"]
    del spec["hooks"]
    case.write(spec)
    calls = {}
    for name in ("start", "delete"):
        create(case).check()
        if name == "delete":
            case.call("start", case.id).check()
            faulty.wait_stopped(case.id)
        faulty.at_once = True
        faulty.break_at(-1)
        case.call(name, case.id).check()
        faulty.at_once = False
        calls[name] = faulty.calls()
        remove(case)
    for name, place in [(name, at) for name, names in calls.items() for at in chosen(names, 0)]:
        create(case).check()
        if name == "delete":
            case.call("start", case.id).check()
            faulty.wait_stopped(case.id)
        faulty.at_once = True
        faulty.break_at(place, kill=kill)
        result = case.call(name, case.id)
        faulty.at_once = False
        if not kill:
            assert not result.code, (calls[name][place - 1], result)
        remove(case)


@pytest.mark.parametrize("kill", [False, True])
def test_run(case: Case, faulty: Faulty, kill: bool) -> None:
    """`run` makes, starts and removes a container."""
    spec = config(case)
    spec["process"]["args"] = ["true"]
    case.write(spec)
    argv = ("run", "--bundle", str(case.bundle), case.id)
    faulty.break_at(-1)
    case.call(*argv).check()
    for place in chosen(faulty.calls(), 0):
        faulty.break_at(place, kill=kill)
        result = case.call(*argv)
        if kill:
            remove(case)
            continue
        if result.code:
            assert_one_line(result)
        if case.call("state", case.id).code == 0:  # what failed was its removal
            assert result.code
            remove(case)
        assert_nothing_left(case)


COMMANDS = {
    "pause": ("pause",),
    "resume": ("resume",),
    "update": ("update", "--memory", "64m", "--pids-limit", "40", "--cpu-share", "500"),
    "kill": ("kill", "--all"),
}


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_on_a_running_container(case: Case, faulty: Faulty, name: str, kill: bool) -> None:
    """What fails says so, and the same command does it afterwards."""
    case.write(config(case))
    create(case).check()
    case.call("start", case.id).check()
    first, *flags = COMMANDS[name]
    argv = (first, *flags, case.id, *(["CONT"] if first == "kill" else []))
    before = {"resume": "pause", "pause": "resume"}.get(name)

    def begin() -> None:
        if before is not None and faulty.status(case.id) != {"pause": "running"}.get(
            name, "paused"
        ):
            case.call(before, case.id).check()

    begin()
    faulty.break_at(-1)
    case.call(*argv).check()
    for place in chosen(faulty.calls(), 0):
        begin()
        faulty.break_at(place, kill=kill)
        result = case.call(*argv)
        if result.code and not kill:
            assert_one_line(result)
        begin()
        case.call(*argv).check()
    if name == "pause":
        case.call("resume", case.id).check()
    assert faulty.status(case.id) == "running"
