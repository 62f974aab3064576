"""The supervisor beside Debian's containerd: the same `ctr`, the same image, in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.answers import answering
from bench.measure import Figure, interleaved, pss_kib, workers
from tests.support.disks import run_in_memory
from tests.support.node import OURS, RUNC, Node, node, parent

ROUNDS = 25
MEMORY_TASKS = 10
IDLE_S = 8.0
CROWD = 50


def _run(node: Node, runtime: str) -> None:
    done = node.run("bench", "true", runtime=runtime, flags=("--rm",))
    assert done.returncode == 0, done.stderr


@contextmanager
def _sleepers(node: Node, runtime: str, count: int, *flags: str) -> Iterator[list[int]]:
    """`count` tasks that sleep, and the process ids of their shims."""
    ids = [f"sleeper{number}" for number in range(count)]
    try:
        for id in ids:
            node.run(id, "sleep", "600", runtime=runtime, flags=("-d", *flags))
        yield [parent(pid) for pid in node.pids().values()]
    finally:
        for id in ids:
            node.end(id)


def _shim_kib(node: Node, runtime: str) -> float:
    """What one more shim takes: the mean of several at once."""
    with _sleepers(node, runtime, MEMORY_TASKS) as shims:
        assert len(set(shims)) == MEMORY_TASKS
        return _idle_kib(set(shims)) / MEMORY_TASKS


def _pod_kib(node: Node, runtime: str) -> float:
    """What a task of a group takes, which shares a shim with the others."""
    mark = ("--annotation", "io.containerd.runc.v2.group=pod")
    with _sleepers(node, runtime, MEMORY_TASKS, *mark) as shims:
        assert len(set(shims)) == 1
        return _idle_kib(set(shims)) / MEMORY_TASKS


def _idle_kib(shims: set[int]) -> int:
    """Of shims whose containers have done nothing for some time."""
    time.sleep(IDLE_S)
    return pss_kib([*shims, *(pid for shim in shims for pid in workers(shim))])


def figures() -> Iterator[Figure]:
    with (
        run_in_memory("containerd"),  # ctr's fifos, and what Debian's shim has its runc keep
        node("ours", run_in_memory=True) as ours,
        node("real", run_in_memory=True) as theirs,
        answering() as at_once,
    ):
        medians = interleaved(
            {
                "ours": lambda: _run(ours, OURS),
                "their-shim": lambda: _run(ours, RUNC),
                "theirs": lambda: _run(theirs, RUNC),
                "at-once": lambda: _run(at_once, OURS),
            },
            ROUNDS,
        )
        alone = medians["at-once"]
        yield Figure("ctr run --rm, answered at once", alone, medians["theirs"], "ms")
        yield Figure("ctr run --rm", medians["ours"], medians["theirs"], "ms", 0.4)
        yield Figure("... with their shim and runc", medians["their-shim"], medians["theirs"], "ms")
        for node_, runtime in ((ours, OURS), (theirs, RUNC)):
            node_.run("exec", "sleep", "600", runtime=runtime, flags=("-d",))
        exec_flags = ("task", "exec", "--exec-id", "e", "exec", "true")
        medians = interleaved(
            {"ours": lambda: ours.ctr(*exec_flags), "theirs": lambda: theirs.ctr(*exec_flags)},
            ROUNDS,
        )
        yield Figure("ctr task exec", medians["ours"], medians["theirs"], "ms")
        ours.end("exec")
        theirs.end("exec")
        yield Figure("shim PSS", _shim_kib(ours, OURS), _shim_kib(theirs, RUNC), "KiB", 0.25)
        yield Figure(
            f"shim PSS a task, {MEMORY_TASKS} in a group",
            _pod_kib(ours, OURS),
            _pod_kib(theirs, RUNC),
            "KiB",
        )
        yield Figure("server PSS, idle", _server_kib(ours), _server_kib(theirs), "KiB", 1.0)
        alone = interleaved({"run": lambda: _run(ours, OURS)}, ROUNDS)["run"]
        with _sleepers(ours, OURS, CROWD):
            crowded = interleaved({"run": lambda: _run(ours, OURS)}, ROUNDS)["run"]
        yield Figure(f"ctr run --rm with {CROWD} tasks / alone", crowded, alone, "ms", 1.2)


def _server_kib(node: Node) -> float:
    """The server and what it has forked, while no container runs: with ours the zygote, which has
    a child, and one shim ahead of its request."""
    return pss_kib(_family(node.server_pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]
