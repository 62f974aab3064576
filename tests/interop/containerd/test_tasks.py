"""The real `ctr` on our containerd: tasks in our shim with our runtime, and in containerd's own.

The same tests run on Debian's containerd with its own shim: what fails there is a wrong test.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from barque import program
from barque.containerd.proto.event_types_pb2 import TaskOOM
from tests.support.node import IMAGE, OURS, RUNC, Node, alive, node, parent, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]


@pytest.fixture(
    scope="module",
    params=[("ours", OURS), ("ours", RUNC), ("real", RUNC)],
    ids=["all-ours", "their-shim", "all-theirs"],
)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str]]:
    kind, runtime = request.param
    with node(kind) as it:
        yield it, runtime


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.fixture
def containerd(pair: tuple[Node, str]) -> Node:
    return pair[0]


@pytest.fixture
def runtime(pair: tuple[Node, str]) -> str:
    return pair[1]


def test_run_gives_output_and_exit_code(containerd: Node, runtime: str) -> None:
    done = containerd.run(
        "once", "sh", "-c", "echo out; echo err >&2; exit 3", runtime=runtime, flags=("--rm",)
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert "once" not in containerd.ctr("container", "ls", "-q").stdout.split()
    assert "once" not in containerd.tasks()


def test_a_program_that_is_not_there(containerd: Node, runtime: str) -> None:
    done = containerd.run("absent", "/no/such", runtime=runtime, flags=("--rm",))
    assert done.returncode == 1
    assert 'exec: "/no/such": ' in done.stderr
    assert "no such file or directory" in done.stderr
    assert "absent" not in containerd.tasks()
    containerd.end("absent")


def test_the_life_of_a_detached_task(containerd: Node, runtime: str) -> None:
    containerd.run("long", "sleep", "1000", runtime=runtime, flags=("-d",))
    assert containerd.tasks()["long"] == "RUNNING"
    pid = containerd.pid("long")
    assert str(pid) in containerd.ctr("task", "ps", "long").stdout
    containerd.ctr("task", "pause", "long")
    assert containerd.tasks()["long"] == "PAUSED"
    containerd.ctr("task", "resume", "long")
    assert containerd.tasks()["long"] == "RUNNING"
    refused = containerd.ctr("task", "rm", "long", check=False)
    assert refused.returncode == 1
    again = containerd.ctr("task", "start", "-d", "long", check=False)
    assert "already exists" in again.stderr
    containerd.ctr("task", "kill", "--signal", "KILL", "long")
    assert wait_until(lambda: containerd.tasks()["long"] == "STOPPED")
    assert not alive(pid)
    deleted = containerd.ctr("task", "rm", "long", check=False)
    assert "exit with non-zero exit code 137" in deleted.stderr
    assert "long" not in containerd.tasks()
    containerd.ctr("container", "rm", "long")


def test_a_shim_is_killed_for_memory_before_its_containerd(containerd: Node, runtime: str) -> None:
    containerd.run("scored", "sleep", "1000", runtime=runtime, flags=("-d",))
    shim = parent(containerd.pid("scored"))
    assert oom_score(shim) == oom_score(containerd.server_pid) + 1
    containerd.end("scored")


def test_exec(containerd: Node, runtime: str) -> None:
    containerd.run("exec", "sleep", "1000", runtime=runtime, flags=("-d",))
    done = containerd.ctr(
        # ctr gives up reading when it hears of the exit
        *("task", "exec", "--exec-id", "e", "exec", "sh", "-c", "echo in; sleep 1; exit 4"),
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "in\n")
    absent = containerd.ctr("task", "exec", "--exec-id", "e", "exec", "/no/such", check=False)
    assert absent.returncode == 1
    assert "no such file or directory" in absent.stderr
    containerd.end("exec")


def test_metrics(containerd: Node, runtime: str) -> None:
    containerd.run("meter", "sleep", "1000", runtime=runtime, flags=("-d",))
    shown = containerd.ctr("task", "metrics", "meter").stdout
    assert "memory.usage_in_bytes" in shown
    assert "pids.current" in shown
    containerd.end("meter")


def test_tasks_that_are_not_there(containerd: Node) -> None:
    containerd.ctr("container", "create", IMAGE, "idle")
    for command in ("kill", "pause", "resume", "ps"):
        failed = containerd.ctr("task", command, "idle", check=False)
        assert failed.returncode == 1
        assert "no running task found: task idle not found: not found" in failed.stderr
    containerd.ctr("container", "rm", "idle")


def test_events(containerd: Node, runtime: str) -> None:
    with containerd.events() as lines:
        containerd.run("told", "true", runtime=runtime, flags=("--rm",))
        assert wait_until(lambda: any("/tasks/delete" in line for line in lines))
        topics = [line.split()[5] for line in lines if "/tasks/" in line]
    assert topics == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def test_standard_input_and_its_end(containerd: Node, runtime: str) -> None:
    done = subprocess.run(
        [
            *("ctr", "--address", containerd.address, "run", "--rm", "--runtime", runtime),
            *("--cgroup", f"/{containerd.word}/in", IMAGE, "in", "wc", "-c"),
        ],
        input=b"x" * 300_000,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, b"300000")


def test_a_terminal(containerd: Node, runtime: str) -> None:
    sized = (
        'i=0; while [ "$(stty size)" != "33 99" ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done'
    )
    script = f"{sized}; stty size; tty; sleep 1; exit 4"  # ctr may end before it has read all
    command = (
        f"ctr --address {containerd.address} run --rm -t --runtime {runtime} "
        f"--cgroup /{containerd.word}/tty {IMAGE} tty sh -c '{script}'"
    )
    done = subprocess.run(
        ["script", "-qec", f"stty rows 33 cols 99; {command}", "/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 4
    assert "33 99" in done.stdout
    assert "/dev/pts/0" in done.stdout


def test_an_event_by_the_publish_command() -> None:
    """As a shim without ttrpc sends it: an Any on the standard input of containerd's program."""
    with node() as it, it.events() as lines:
        command = program.command(
            *("barque-containerd", "--address", it.address, "publish"),
            *("--namespace", "some", "--topic", "/tasks/oom"),
        )
        value = TaskOOM(container_id="victim").SerializeToString()
        event = AnyMessage(type_url="containerd.events.TaskOOM", value=value)
        done = subprocess.run(command, input=event.SerializeToString(), capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert wait_until(lambda: any("/tasks/oom" in line for line in lines))
        (line,) = [line for line in lines if "/tasks/oom" in line]
        assert " some " in line
        assert '"container_id":"victim"' in line
        for words, said in (((), b"topic required"), (("--topic", "x", "y"), b"not defined: y")):
            done = subprocess.run(
                program.command("barque-containerd", "--address", it.address, "publish", *words),
                input=b"",
                capture_output=True,
            )
            assert done.returncode == 1
            assert said in done.stderr
