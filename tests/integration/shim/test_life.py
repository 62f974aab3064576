"""A container's life through the Task service, with each runtime."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.shim import messages, metrics, wire
from tests.support import rootfs
from tests.support.shim import Attached, Shims, eventually

pytestmark = pytest.mark.root


def io(it: Shims, **options: str) -> dict[str, str]:
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return {"stdout": f"barque://{it.root}/io?{query}"}


def test_a_container_runs_to_its_end(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sh", "-c", "echo out; echo err >&2; exit 7"))
    pid = shim.create(**io(it, log="json-file", path=f"{it.root}/log"))
    assert Path(f"/proc/{pid}").exists()
    state = shim.call("State")
    assert (state["status"], state["pid"]) == (messages.CREATED, pid)
    attached = Attached(f"{it.root}/io", stdout=True, stderr=True)
    assert attached.answer == {"ok": True, "tty": False}
    assert shim.call("Start")["pid"] == pid
    answer = shim.call("Wait")
    assert answer["exit_status"] == 7
    assert attached.streams() == (b"out\n", b"err\n")
    assert shim.call("State")["status"] == messages.STOPPED
    deleted = shim.call("Delete")
    assert (deleted["pid"], deleted["exit_status"]) == (pid, 7)
    assert deleted["exited_at"] == answer["exited_at"]
    shim.shutdown()
    log = Path(f"{it.root}/log").read_text()
    assert '{"log":"out\\n","stream":"stdout","time":"' in log
    assert '{"log":"err\\n","stream":"stderr","time":"' in log
    assert it.events.topics() == ["create", "start", "exit", "delete"]
    exited = it.events.told[2][1]
    assert (exited["id"], exited["pid"], exited["exit_status"]) == ("one", pid, 7)
    assert not os.listdir(it.root / "s")


def test_a_killed_process_has_128_and_the_signal(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    shim.call("Kill", signal=signal.SIGKILL)
    assert shim.call("Wait")["exit_status"] == 137
    with pytest.raises(errors.NotFound, match="process already finished"):
        shim.call("Kill", signal=signal.SIGKILL)
    shim.end()


def test_kill_of_all(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sh", "-c", "sleep 100 & sleep 100 & wait"))
    shim.create()
    shim.call("Start")
    eventually(lambda: len(shim.call("Pids")["processes"]) == 3, "three processes")
    shim.call("Kill", signal=signal.SIGKILL, all=True)
    assert shim.call("Wait")["exit_status"] == 137
    shim.end()


def test_a_created_container_can_be_killed_and_deleted(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Kill", signal=signal.SIGKILL)
    assert shim.call("Wait")["exit_status"] == 137
    shim.end()
    assert it.events.topics() == ["create", "exit", "delete"]


def test_a_missing_program_fails_create_and_leaves_nothing(it: Shims) -> None:
    shim = it.start("one", rootfs.config("/no/such/program"))
    with pytest.raises(errors.BarqueError) as caught:  # noqa: PT012  # crun notices at Start
        shim.create(**io(it))
        shim.call("Start")
    assert str(caught.value).startswith("OCI runtime ")
    assert "no such file or directory" in str(caught.value).lower()
    if "create failed" in str(caught.value):
        assert not os.path.exists(it.root / "io")
        assert not rootfs.mounts_below(it.root)
        with pytest.raises(errors.NotFound, match="container not created"):
            shim.call("State")


def test_an_exec(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    stdout = f"barque://{it.root}/x?stdin=1&stdin-once=1"
    shim.exec("ex", "sh", "-c", "cat; echo done >&2; exit 3", stdout=stdout)
    attached = Attached(f"{it.root}/x", stdin=True, stdout=True, stderr=True)
    pid = shim.call("Start", exec_id="ex")["pid"]
    attached.socket.sendall(b"hello\n")
    attached.socket.shutdown(1)
    assert attached.streams() == (b"hello\n", b"done\n")
    answer = shim.call("Wait", exec_id="ex")
    assert answer["exit_status"] == 3
    deleted = shim.call("Delete", exec_id="ex")
    assert (deleted["pid"], deleted["exit_status"]) == (pid, 3)
    with pytest.raises(errors.NotFound):
        shim.call("State", exec_id="ex")
    it.events.wait("/tasks/exit", id="ex", exit_status=3)
    assert it.events.topics() == ["create", "start", "exec-added", "exec-started", "exit"]
    assert it.events.told[-1][1]["id"] == "ex"
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()


def test_execs_are_refused_in_the_wrong_state(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    with pytest.raises(errors.Conflict, match="cannot exec in a created state"):
        shim.exec("ex", "true")
    shim.call("Start")
    shim.exec("ex", "true")
    with pytest.raises(errors.AlreadyExists):
        shim.exec("ex", "true")
    with pytest.raises(errors.InvalidArgument):
        shim.exec("../../x", "true")
    with pytest.raises(errors.Conflict, match="process not created"):
        shim.call("Kill", exec_id="ex", signal=9)
    shim.call("Delete", exec_id="ex")
    shim.exec("bad", "/no/such/program")
    with pytest.raises(errors.BarqueError, match="OCI runtime exec failed"):
        shim.call("Start", exec_id="bad")
    shim.call("Delete", exec_id="bad")
    shim.call("Kill", signal=9)
    shim.call("Wait")
    with pytest.raises(errors.Conflict, match="cannot exec in a stopped state"):
        shim.exec("late", "true")
    shim.end()


def test_many_short_execs_each_report_their_exit(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    for number in range(8):
        shim.exec(f"e{number}", "sh", "-c", f"exit {number}")
    started = [shim.client.send("Start", id="one", exec_id=f"e{n}") for n in range(8)]
    for number in started:
        shim.client.answer(number, "Start")
    for number in range(8):
        assert shim.call("Wait", exec_id=f"e{number}")["exit_status"] == number
        shim.call("Delete", exec_id=f"e{number}")
        it.events.wait("/tasks/exit", id=f"e{number}")
        order = [
            topic
            for topic, values in it.events.told
            if values.get("exec_id") == f"e{number}" or values.get("id") == f"e{number}"
        ]
        assert order == ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()


def test_a_terminal(it: Shims) -> None:
    config = rootfs.config("sh", "-c", "stty size; read x; stty size; echo got $x", terminal=True)
    shim = it.start("one", config)
    shim.create(terminal=True, **io(it, stdin="1", log="json-file", path=f"{it.root}/log"))
    attached = Attached(f"{it.root}/io", stdin=True, stdout=True)
    assert attached.answer == {"ok": True, "tty": True}
    shim.call("ResizePty", width=90, height=31)
    shim.call("Start")
    attached.read_until(b"31 90\r\n")
    shim.call("ResizePty", width=101, height=42)
    attached.socket.sendall(b"word\n")
    assert attached.read_raw().endswith(b"42 101\r\ngot word\r\n")
    assert shim.call("Wait")["exit_status"] == 0
    shim.end()
    assert '{"log":"got word\\r\\n","stream":"stdout"' in Path(it.root / "log").read_text()


def test_a_terminal_of_an_exec(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    shim.exec("ex", "sh", "-c", "tty; exit 5", terminal=True, stdout=f"barque://{it.root}/x")
    attached = Attached(f"{it.root}/x", stdout=True)
    shim.call("Start", exec_id="ex")
    assert attached.read_raw().startswith(b"/dev/")
    assert shim.call("Wait", exec_id="ex")["exit_status"] == 5
    shim.call("ResizePty", width=1, height=1)  # of the first process, which has none
    shim.call("Delete", exec_id="ex")
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()


def test_pause_and_resume(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    with pytest.raises(errors.Conflict):
        shim.call("Pause")
    shim.call("Start")
    shim.call("Pause")
    assert shim.call("State")["status"] == messages.PAUSED
    with pytest.raises(errors.Conflict):
        shim.call("Pause")
    shim.call("Resume")
    assert shim.call("State")["status"] == messages.RUNNING
    shim.call("Pause")
    shim.call("Resume")
    shim.call("Kill", signal=9)
    assert shim.call("Wait")["exit_status"] == 137
    shim.end()
    paused = ["paused", "resumed", "paused", "resumed"]
    assert it.events.topics() == ["create", "start", *paused, "exit", "delete"]


def test_pids_and_stats(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sh", "-c", "sleep 100 & wait"))
    pid = shim.create()
    shim.call("Start")
    shim.exec("ex", "sleep", "100")
    exec_pid = shim.call("Start", exec_id="ex")["pid"]
    eventually(lambda: len(shim.call("Pids")["processes"]) == 3, "three processes")
    entries = {entry["pid"]: entry["info"] for entry in shim.call("Pids")["processes"]}
    assert entries[pid] is None
    details = wire.decode(messages.PROCESS_DETAILS, entries[exec_pid]["value"])
    assert details == {"exec_id": "ex"}
    stats = shim.call("Stats")["stats"]
    assert stats["type_url"] in (
        "io.containerd.cgroups.v1.Metrics",
        "io.containerd.cgroups.v2.Metrics",
    )
    table = metrics.METRICS_V1 if ".v1." in stats["type_url"] else metrics.METRICS_V2

    def measured() -> dict[str, Any]:
        return wire.decode(table, shim.call("Stats")["stats"]["value"])

    # the runtime's own processes, which have just ended, are counted for a moment
    eventually(lambda: measured()["pids"]["current"] == 3, "three are counted")
    values = measured()
    usage = values["memory"]["usage"]
    assert 0 < (usage["usage"] if isinstance(usage, dict) else usage) < 1 << 30
    shim.call("Kill", signal=9)
    shim.call("Wait")
    with pytest.raises(errors.NotFound):
        shim.call("Stats")
    shim.call("Wait", exec_id="ex")
    shim.call("Delete", exec_id="ex")
    shim.end()


def test_update(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    resources = {"type_url": "x", "value": b'{"pids": {"limit": 17}}'}
    shim.call("Update", resources=resources)
    values = wire.decode(metrics.METRICS_V1, shim.call("Stats")["stats"]["value"])
    assert values["pids"]["limit"] == 17
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()


def test_an_out_of_memory_kill_is_told_before_the_exit(it: Shims) -> None:
    config = rootfs.config("dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")
    config["linux"]["resources"]["memory"] = {"limit": 20 << 20, "swap": 20 << 20}
    shim = it.start("one", config)
    shim.create()
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 137
    shim.end()
    topics = it.events.topics()
    assert "oom" in topics
    assert topics.index("oom") < topics.index("exit")


def test_without_a_pid_namespace_all_processes_end_with_the_first(it: Shims) -> None:
    config = rootfs.config("sh", "-c", "sleep 1000 & echo $!; exit 0")
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] != "pid"]
    config["linux"]["maskedPaths"] = []
    shim = it.start("one", config)
    shim.create(**io(it))
    attached = Attached(f"{it.root}/io", stdout=True)
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 0
    left = int(attached.streams()[0])
    eventually(lambda: not Path(f"/proc/{left}").exists(), "the other process has ended")
    shim.end()


def test_rootfs_mounts_are_made_and_taken_away(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sh", "-c", "cat /mark; touch /made"))
    lower, upper, work = it.root / "l", it.root / "u", it.root / "w"
    for directory in (upper, work):
        directory.mkdir()
    os.rename(shim.bundle / "rootfs", lower)
    (shim.bundle / "rootfs").mkdir()
    (lower / "mark").write_text("overlay\n")
    options = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}"]
    shim.create(rootfs=[{"type": "overlay", "source": "overlay", "options": options}], **io(it))
    attached = Attached(f"{it.root}/io", stdout=True)
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 0
    assert attached.streams()[0] == b"overlay\n"
    shim.end()
    assert (upper / "made").exists()
    if it.runtime != "crun":  # whose zygote has a mount namespace of its own
        assert not rootfs.mounts_below(it.root)


def test_what_the_runtime_has_of_it_goes_when_it_has_ended(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("sh", "-c", "exit 3"))
    shim.create()
    group = Path(f"/sys/fs/cgroup/memory/{ours.root.name}/one")
    assert group.exists() or not group.parent.parent.exists()
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 3
    eventually(lambda: not group.exists(), "the cgroup is left")
    assert shim.call("State")["status"] == messages.STOPPED
    for everyone in (False, True):
        with pytest.raises(errors.NotFound, match="process already finished"):
            shim.call("Kill", signal=15, all=everyone)
    with pytest.raises(errors.Conflict, match="container not running"):
        shim.call("Update", resources={"type_url": "", "value": b"{}"})
    with pytest.raises(errors.Conflict, match="cannot exec in a stopped state"):
        shim.exec("late", "true")
    assert shim.call("Delete")["exit_status"] == 3
    shim.shutdown()
