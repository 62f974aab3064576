"""Kernel calls of a shim fail, whichever: the container goes on, and nothing of the failure stays.

strace makes them fail, in the worker of a shim: as on a disk that is full or broken, and on a
machine that is out of memory, descriptors or processes.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from barque import errors
from barque.daemon.containers.log_local import LocalFormat
from barque.shim import messages
from tests.support import rootfs
from tests.support.faults import failing
from tests.support.shim import Attached, EventTaker, Shim, Shims, children, eventually, shims

pytestmark = [pytest.mark.root, pytest.mark.peer]
LINES = 40
ECHOES = "while read x; do for i in $(seq 1 40); do echo $x $i; done; done"
LOST = "lines of this log are lost"


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shims]:
    """Shims whose worker stays: it is the one that strace is told of."""
    monkeypatch.setenv("BARQUE_SHIM_QUIET_MS", "600000")
    with shims() as it:
        yield it


def worker(shim: Shim) -> int:
    name = Path(f"/proc/{shim.pid}/comm").read_text()
    (found,) = (pid for pid in children(shim.pid) if Path(f"/proc/{pid}/comm").read_text() == name)
    return found


def writer(shim: Shim) -> int:
    """The process that writes the log of a container that it must not hold back."""
    (found,) = children(worker(shim))
    return found


def running(it: Shims, query: str) -> Shim:
    shim = it.start("one", rootfs.config("sh", "-c", ECHOES))
    shim.create(stdout=f"barque://{it.root}/io?stdin=1&{query}")
    shim.call("Start")
    return shim


def finish(shim: Shim) -> None:
    shim.call("Kill", signal=signal.SIGKILL)
    assert shim.call("Wait")["exit_status"] == 137
    shim.end()


def told(shim: Shim) -> str:
    """The shim's own log."""
    path = shim.bundle / "log"
    return path.read_text() if path.exists() else ""


def echoed(client: Attached, word: str) -> None:
    """Have `word` written, and every byte of it read by the shim."""
    client.socket.sendall(f"{word}\n".encode())
    client.read_until(f"{word} {LINES}\n".encode())


def texts(log: Path) -> list[str]:
    """The lines of a log and of its rotated files, oldest first: each of them whole."""
    files = sorted(log.parent.glob(f"{log.name}*"), reverse=True)
    data = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in files
    )
    if log.name == "local":
        return [line.log for line in LocalFormat().decode(data)]
    return [json.loads(line)["log"] for line in data.splitlines()]


@pytest.mark.parametrize(
    ("kind", "error", "mode"),
    [
        ("json-file", "ENOSPC", "blocking"),
        ("json-file", "EIO", "non-blocking"),
        ("local", "EIO", "blocking"),
        ("local", "ENOMEM", "non-blocking"),
    ],
)
def test_a_log_that_cannot_be_written(it: Shims, kind: str, error: str, mode: str) -> None:
    log = it.root / "logs" / kind
    log.parent.mkdir()
    shim = running(it, f"log={kind}&path={log}&mode={mode}")
    client = Attached(f"{it.root}/io", stdin=True, stdout=True)
    echoed(client, "before")
    pid = worker(shim) if mode == "blocking" else writer(shim)
    eventually(lambda: len(texts(log)) == LINES, "the log is written")
    with failing(pid, f"write:error={error}", log):
        echoed(client, "lost")
        eventually(lambda: "cannot be written" in told(shim), "it is told")
    echoed(client, "after")
    finish(shim)
    found = texts(log)
    assert found[:LINES] == lines("before")
    assert found[-LINES:] == lines("after")
    written = len(set(found) & set(lines("lost")))
    assert left_out(found, os.strerror(getattr(errno, error))) + written == LINES


def lines(word: str) -> list[str]:
    return [f"{word} {number}\n" for number in range(1, LINES + 1)]


def left_out(found: list[str], why: str) -> int:
    """How many lines the log says that it has not, all for that reason."""
    notes = [re.fullmatch(rf"\[barque: (\d+) {LOST}: (.*)\]\n", line) for line in found]
    assert {note[2] for note in notes if note} == {why}
    return sum(int(note[1]) for note in notes if note)


@pytest.mark.parametrize(
    ("kind", "files", "fault"),
    [
        ("json-file", "max-file=1", "openat:error=EMFILE"),
        ("json-file", "max-file=3", "rename:error=EIO:when=2"),
        ("json-file", "max-file=3&compress=1", "openat:error=ENOMEM"),
        ("local", "max-file=1", "rename:error=EIO"),
        ("local", "max-file=3&compress=1", "rename:error=EIO"),
    ],
)
def test_a_log_that_cannot_be_rotated(it: Shims, kind: str, files: str, fault: str) -> None:
    """It grows meanwhile: what was written before is not lost to that."""
    log = it.root / "logs" / kind
    log.parent.mkdir()
    shim = running(it, f"log={kind}&path={log}&max-size=2000&{files}")
    client = Attached(f"{it.root}/io", stdin=True, stdout=True)
    echoed(client, "first")
    last = texts(log)
    with failing(worker(shim), fault):
        echoed(client, "second")
    assert [line for line in texts(log) if line in last] == last
    echoed(client, "third")
    finish(shim)
    assert texts(log)[-5:] == lines("third")[-5:]
    assert not list(log.parent.glob("*~"))


def test_a_rotated_log_that_cannot_be_packed_stays_as_it_is(it: Shims) -> None:
    log = it.root / "json-file"
    shim = running(it, f"log=json-file&path={log}&max-size=1000&max-file=3&compress=1")
    client = Attached(f"{it.root}/io", stdin=True, stdout=True)
    with failing(worker(shim), "clone:error=EAGAIN"):
        echoed(client, "one")
    assert texts(log)[-5:] == lines("one")[-5:]
    assert (it.root / "json-file.1").exists()
    echoed(client, "two")
    finish(shim)
    assert texts(log)[-5:] == lines("two")[-5:]


CALLS = ("socket", "pipe2", "openat", "epoll_ctl", "clone", "pidfd_open", "dup")
NUMBERS = range(1, 12)
SAMPLE = {
    "barque://{0}/x?log=json-file&path={0}/x.log": [
        *(("epoll_ctl", number) for number in (1, 2, 3, 4)),
        ("socket", 1),
        ("openat", 2),
        ("pidfd_open", 1),
        ("clone", 1),
    ],
    "barque://{0}/x?log=local&path={0}/l.log&mode=non-blocking": [("pipe2", 2), ("clone", 1)],
    "binary:///bin/cat": [("pipe2", 2), ("pipe2", 3), ("clone", 1), ("epoll_ctl", 1)],
    "{0}/fifo": [("openat", 1), ("epoll_ctl", 2)],
}
ALL = [(call, number) for call in CALLS for number in NUMBERS]


def descriptors(shim: Shim) -> int:
    return len(os.listdir(f"/proc/{shim.pid}/fd"))


def run_exec(shim: Shim, stdout: str) -> int:
    shim.exec("ex", "sh", "-c", "exit 3", stdout=stdout)
    shim.call("Start", exec_id="ex")
    status: int = shim.call("Wait", exec_id="ex")["exit_status"]
    return status


def delete_exec(shim: Shim) -> None:
    with suppress(errors.NotFound):  # it was not added
        shim.call("Delete", exec_id="ex")


@pytest.mark.parametrize("stdout", SAMPLE)
def test_an_exec_whose_calls_fail(it: Shims, stdout: str) -> None:
    """It may fail; what it had is given back, and the container knows nothing of it."""
    shim = running(it, "log=none")
    os.mkfifo(it.root / "fifo")
    cases = ALL if os.environ.get("BARQUE_FAULTS") == "all" else SAMPLE[stdout]
    stdout = stdout.format(it.root)
    run_exec(shim, stdout)
    delete_exec(shim)
    before = descriptors(shim)
    for call, number in cases:
        fault = f"{call}:error=ENOMEM:when={number}"
        with failing(worker(shim), fault), suppress(errors.BarqueError):
            run_exec(shim, stdout)
        delete_exec(shim)
        assert descriptors(shim) == before, (call, number)
        assert shim.call("State")["status"] == messages.RUNNING
    assert run_exec(shim, stdout) == 3
    delete_exec(shim)
    finish(shim)


def test_an_end_is_told_once_there_is_a_socket_to_tell_it(it: Shims) -> None:
    shim = running(it, "log=none")
    it.events.wait("/tasks/start")
    it.events.close()
    with failing(worker(shim), "socket,connect:error=ENOMEM"):
        shim.call("Kill", signal=signal.SIGKILL)
        assert shim.call("Wait")["exit_status"] == 137
    taker = it.events = EventTaker(it.events.path)
    taker.wait("/tasks/exit", exit_status=137)
    shim.end()
    taker.wait("/tasks/delete")


def test_an_end_is_told_where_what_is_left_cannot_be_killed(it: Shims) -> None:
    """Without a pid namespace of its own the runtime has to end the others."""
    config = rootfs.config("sleep", "1000")
    spaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "pid"]
    shim = it.start("one", config)
    shim.create()
    shim.call("Start")
    with failing(worker(shim), "clone,clone3,fork,vfork:error=EAGAIN"):
        shim.call("Kill", signal=signal.SIGKILL)
        assert shim.call("Wait")["exit_status"] == 137
    it.events.wait("/tasks/exit", exit_status=137)
    assert "processes of one may be left" in told(shim)
    shim.end()


def test_an_answer_that_finds_no_memory_comes_later(it: Shims) -> None:
    shim = running(it, "log=none")
    with failing(worker(shim), "write:error=ENOBUFS:when=1"):
        assert shim.call("State")["status"] == messages.RUNNING
    with failing(worker(shim), "read:error=ENOMEM:when=1"):
        assert shim.call("State")["status"] == messages.RUNNING
    finish(shim)
