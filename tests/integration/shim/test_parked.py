"""A shim whose worker has left: what comes then finds all as it was, and nothing is lost."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.shim import messages
from tests.support import rootfs
from tests.support.node import alive
from tests.support.shim import TIMEOUT_S, Attached, Client, Shim, Shims, children, eventually, shims

pytestmark = pytest.mark.root
QUIET_MS = "60"


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shims]:
    monkeypatch.setenv("BARQUE_SHIM_QUIET_MS", QUIET_MS)
    with shims() as it:
        yield it


def workers(shim: Shim) -> list[int]:
    name = Path(f"/proc/{shim.pid}/comm").read_text()
    found = []
    for pid in children(shim.pid):
        try:
            found += [pid] * (Path(f"/proc/{pid}/comm").read_text() == name)
        except OSError:
            continue
    return found


def park(shim: Shim) -> None:
    eventually(lambda: not workers(shim), "the worker leaves")


def start(it: Shims, *args: str, options: str = "", terminal: bool = False) -> Shim:
    shim = it.start("one", rootfs.config(*args, terminal=terminal))
    address = f"barque://{it.root}/io?log=json-file&path={it.root}/log{options}"
    shim.create(stdout=address, terminal=terminal)
    shim.call("Start")
    return shim


def test_a_parked_shim_answers_and_keeps_its_descriptors(it: Shims) -> None:
    shim = start(it, "sleep", "1000")
    park(shim)
    before = len(os.listdir(f"/proc/{shim.pid}/fd"))
    for _ in range(3):
        assert shim.call("State")["status"] == messages.RUNNING
        assert shim.call("Connect")["shim_pid"] == shim.pid
        assert len(shim.call("Pids")["processes"]) == 1
        assert shim.call("Stats")["stats"]["value"]
        park(shim)
    assert len(os.listdir(f"/proc/{shim.pid}/fd")) == before
    shim.call("Kill", signal=signal.SIGKILL)
    assert shim.call("Wait")["exit_status"] == 137
    park(shim)
    assert shim.call("State")["exit_status"] == 137  # kept until it is deleted
    shim.end()


def test_a_shim_that_has_nothing_and_nobody_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when containerd died after it had started it."""
    monkeypatch.setenv("BARQUE_SHIM_QUIET_MS", QUIET_MS)
    monkeypatch.setenv("BARQUE_SHIM_DESERTED_MS", "400")
    with shims() as it:
        busy, shim = start(it, "sleep", "1000"), it.start("two", rootfs.config("true"))
        busy.client.close()
        park(shim)  # somebody is there
        time.sleep(0.8)
        assert alive(shim.pid)
        shim.client.close()
        time.sleep(0.2)
        Client(shim.address).call("Connect", id="two")  # who is there soon finds it
        eventually(lambda: not alive(shim.pid), "the shim ends")
        assert not os.path.exists(shim.address.removeprefix("unix://"))
        assert alive(busy.pid)
        busy.client = Client(busy.address)
        busy.call("Kill", signal=signal.SIGKILL)
        busy.call("Wait")
        busy.end()


def test_an_exit_wakes_it_and_a_call_that_waits_is_answered(it: Shims) -> None:
    shim = start(it, "sh", "-c", "read x; echo $x; exit 3", options="&stdin=1")
    other = Client(shim.address)
    mine, theirs = shim.client.send("Wait", id="one"), other.send("Wait", id="one")
    park(shim)
    attached = Attached(f"{it.root}/io", stdin=True, stdout=True, stderr=True)
    assert workers(shim)  # a client keeps it awake
    attached.socket.sendall(b"hello\n")
    assert attached.streams() == (b"hello\n", b"")
    assert shim.client.answer(mine, "Wait")["exit_status"] == 3
    assert other.answer(theirs, "Wait")["exit_status"] == 3
    other.close()
    it.events.wait("/tasks/exit", exit_status=3)
    assert it.events.topics() == ["create", "start", "exit"]
    shim.end()


def test_a_signal_from_elsewhere_while_it_is_parked(it: Shims) -> None:
    shim = start(it, "sh", "-c", "trap 'echo bye; exit 5' TERM; while :; do sleep 1; done")
    park(shim)
    pid = shim.call("State")["pid"]
    park(shim)
    os.kill(pid, signal.SIGTERM)
    it.events.wait("/tasks/exit", exit_status=5)
    assert '"log":"bye\\n"' in Path(f"{it.root}/log").read_text()  # before the event
    assert shim.call("Wait")["exit_status"] == 5
    shim.end()


def test_a_line_that_is_unfinished_when_it_parks(it: Shims) -> None:
    go = it.root / "one" / "rootfs" / "go"
    script = "printf begun; while ! test -e /go; do sleep 0.1; done; echo ' and done'; sleep 1000"
    shim = start(it, "sh", "-c", script)
    park(shim)
    assert Path(f"{it.root}/log").read_text() == ""
    go.touch()
    eventually(lambda: Path(f"{it.root}/log").read_text() != "", "the line")
    (line,) = Path(f"{it.root}/log").read_text().splitlines()
    assert line.startswith('{"log":"begun and done\\n"')
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()


def test_a_terminal_and_input_that_came_before_it_parked(it: Shims) -> None:
    script = "read a; sleep 1; echo got $a; exit 4"
    shim = start(it, "sh", "-c", script, options="&stdin=1", terminal=True)
    attached = Attached(f"{it.root}/io", stdin=True, stdout=True)
    attached.socket.sendall(b"this\n")
    attached.close()
    park(shim)
    shim.call("ResizePty", width=100, height=40)
    assert shim.call("Wait")["exit_status"] == 4
    assert "got this" in Path(f"{it.root}/log").read_text()
    shim.end()


def test_execs_that_run_while_it_is_parked(it: Shims) -> None:
    shim = start(it, "sleep", "1000")
    shim.exec("long", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    shim.call("Start", exec_id="long")
    park(shim)
    assert shim.call("State", exec_id="long")["status"] == messages.RUNNING
    shim.exec("added", "sh", "-c", "exit 8")
    shim.call("Start", exec_id="added")
    assert shim.call("Wait", exec_id="added")["exit_status"] == 8
    park(shim)
    shim.call("Kill", exec_id="long", signal=signal.SIGTERM)
    assert shim.call("Wait", exec_id="long")["exit_status"] == 7
    for name in ("long", "added"):
        shim.call("Delete", exec_id=name)
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()


def test_a_container_that_is_created_waits_parked(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sh", "-c", "exit 6"))
    park(shim)
    shim.create()
    park(shim)
    assert shim.run_to_end() == 6


@pytest.mark.parametrize("victim", ["worker", "keeper"])
def test_keeper_and_worker_end_together(it: Shims, victim: str) -> None:
    shim = it.start("one", rootfs.config("sleep", "1000"))
    shim.create()
    shim.call("Start")
    pid = shim.call("State")["pid"]
    while not (found := workers(shim)):  # it may just have left
        shim.call("State")
    both = [os.pidfd_open(shim.pid), os.pidfd_open(found[0])]
    os.kill(found[0] if victim == "worker" else shim.pid, signal.SIGKILL)
    for pidfd in both:
        assert select.select([pidfd], [], [], TIMEOUT_S)[0]
        os.close(pidfd)
    shim.client.close()
    it.started.remove(shim)
    assert it.invoke(shim.bundle, "one", "delete")["code"] == 0
    eventually(lambda: not alive(pid), "the container's process ends")


def test_a_shim_that_is_killed_while_parked_is_cleaned_up_after(it: Shims) -> None:
    shim = start(it, "sleep", "1000")
    pid = shim.call("State")["pid"]
    park(shim)
    os.kill(shim.pid, signal.SIGKILL)
    shim.client.close()
    it.started.remove(shim)
    assert it.invoke(shim.bundle, "one", "delete")["code"] == 0
    eventually(lambda: not alive(pid), "the container's process ends")
