"""`create`, `start` and `delete` in the caller's own process, or left to the command."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barque.errors import BarqueError
from barque.linux.process import set_dumpable
from barque.runc.create import Making
from barque.runc.main import at_once, begin
from tests.integration.runc.conftest import Case
from tests.support.runtimes import cgroups_of, wait_for

pytestmark = [pytest.mark.root, pytest.mark.runtimes("ours")]


def now(case: Case, name: str) -> bool:
    return at_once(["--root", str(case.runtime.root), name, case.id])


def state(case: Case) -> Path:
    return case.runtime.root / case.id


def test_a_container_is_started_and_deleted_at_once(case: Case) -> None:
    case.create("sh", "-c", "echo hello").check()
    output = case.runtime.last_output
    assert not now(case, "delete")  # it waits to be started, and would have to be killed
    assert now(case, "start")
    assert not now(case, "start")
    case.runtime.wait_stopped(case.id)
    assert output.read_text() == "hello\n"
    wait_for(lambda: now(case, "delete"))  # who has just died may hold its cgroup for a moment
    assert not state(case).exists()
    assert not now(case, "delete")


def test_what_runs_is_not_deleted(case: Case) -> None:
    case.started("sleep", "1000")
    assert not now(case, "delete")
    assert case.runtime.status(case.id) == "running"


def test_what_another_command_works_on_is_left_to_the_command(case: Case) -> None:
    case.create("sleep", "1000").check()
    held = os.open(state(case), os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not now(case, "start")
    finally:
        os.close(held)
    assert case.runtime.status(case.id) == "created"


@pytest.mark.parametrize(("point", "name"), [("poststart", "start"), ("poststop", "delete")])
def test_hooks_have_a_process_of_their_own(case: Case, point: str, name: str) -> None:
    spec = case.configure("true")
    spec["hooks"] = {point: [{"path": "/bin/true"}]}
    case.write(spec)
    case.call("create", "--bundle", str(case.bundle), case.id).check()
    if name == "delete":
        assert now(case, "start")
        case.runtime.wait_stopped(case.id)
    assert not now(case, name)
    assert state(case).exists()


@pytest.mark.parametrize(
    "words", [("state", "x"), ("delete", "--force", "x"), ("start",), (), ("--foo",)]
)
def test_other_commands_are_not_for_it(case: Case, words: tuple[str, ...]) -> None:
    assert not at_once(["--root", str(case.runtime.root), *words])


@pytest.fixture(autouse=True)
def dumpable() -> Iterator[None]:
    """Who makes a container is not dumpable from then on."""
    yield
    set_dumpable(True)


def making(
    case: Case,
    *flags: str,
    streams: tuple[int, int, int] = (0, 1, 2),
    forked: Callable[[], None] = lambda: None,
    network: int = -1,
) -> Making | None:
    create = ["create", "--bundle", str(case.bundle), *flags, case.id]
    argv = ["--root", str(case.runtime.root), *create]
    return begin(argv, streams, parent_reaps=False, forked=forked, network=network)


def test_who_makes_it_is_told_that_its_process_is_there(case: Case) -> None:
    case.configure("sleep", "1000")
    found: list[str] = []
    made = making(case, forked=lambda: found.append(children()))
    before = children()
    assert made is not None
    assert found == [before]
    while not made.step():
        pass
    assert found == [before]


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def new_network() -> int:
    """A network namespace with nobody in it."""
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as holder:
        name = f"/proc/{holder.pid}/ns/net"
        wait_for(lambda: os.readlink(name) != os.readlink("/proc/self/ns/net"))
        return os.open(name, os.O_RDONLY)


@pytest.mark.parametrize("wants", ["new", "path", "none"])
def test_a_network_that_was_made_before(case: Case, wants: str) -> None:
    """Who wants a new one gets it; nobody else does, and it stays the caller's."""
    spec = case.configure("sleep", "1000")
    kinds = spec["linux"]["namespaces"]
    spec["linux"]["namespaces"] = [kind for kind in kinds if kind["type"] != "network"]
    if wants == "new":
        spec["linux"]["namespaces"].append({"type": "network"})
    elif wants == "path":
        spec["linux"]["namespaces"].append({"type": "network", "path": "/proc/self/ns/net"})
    case.write(spec)
    network = new_network()
    before = os.listdir("/proc/self/fd")
    made = making(case, network=network)
    assert made is not None
    assert made.new_network == (wants == "new")
    while not made.step():
        pass
    pid = case.runtime.pid(case.id)
    has = os.stat(f"/proc/{pid}/ns/net").st_ino
    given, own = os.fstat(network).st_ino, os.stat("/proc/self/ns/net").st_ino
    assert has == (given if wants == "new" else own)
    assert os.listdir("/proc/self/fd") == before
    os.close(network)
    case.call("delete", "--force", case.id).check()
    os.waitpid(pid, 0)


def test_a_container_is_made_in_the_callers_process(case: Case) -> None:
    """It has the streams it was given, and no other descriptor of the caller's."""
    case.write(case.configure("sh", "-c", "cat; ls /proc/$$/fd; true"))
    given, kept = os.pipe()
    os.set_inheritable(kept, True)
    output = case.place / "output"
    with output.open("wb") as file:
        made = making(case, streams=(given, file.fileno(), file.fileno()))
    os.close(given)
    assert made is not None
    while not made.step():
        pass
    assert case.runtime.status(case.id) == "created"
    pid = case.runtime.pid(case.id)
    assert now(case, "start")
    os.write(kept, b"hello\n")
    os.close(kept)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0  # this process's own child
    assert output.read_text().split() == ["hello", "0", "1", "2"]
    wait_for(lambda: now(case, "delete"))


@pytest.mark.parametrize(
    ("program", "refusal"),
    [("nothing", "executable file not found"), ("/etc/passwd", "permission denied")],
)
def test_nothing_is_left_of_one_that_cannot_be_made(case: Case, program: str, refusal: str) -> None:
    case.write(case.configure(program))
    before = os.listdir("/proc/self/fd")
    made = making(case)
    assert made is not None
    with pytest.raises(BarqueError, match=refusal):
        made.step()
    del made
    assert not state(case).exists()
    assert not cgroups_of(case.id)
    assert os.listdir("/proc/self/fd") == before


def test_what_needs_more_than_the_callers_process(case: Case) -> None:
    spec = case.configure("true")
    spec["hooks"] = {"prestart": [{"path": "/bin/true"}]}
    case.write(spec)
    assert making(case) is None
    case.write(case.configure("true"))
    assert making(case, "--preserve-fds", "1") is None
    case.write({**spec, "hooks": {}, "root": {"path": "nowhere"}})
    assert making(case) is None
    assert not state(case).exists()
