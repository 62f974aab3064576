"""The life of a container as runc's callers see it: states, exit codes, words of failures."""

import json
import signal
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import wait_for, wait_gone

pytestmark = [pytest.mark.root, pytest.mark.peer]
OURS_AND_RUNC = pytest.mark.runtimes("ours", "warm", "runc")


@pytest.mark.version_2
def test_run_gives_output_and_exit_code(case: Case) -> None:
    result = case.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.code, result.out, result.err) == (7, "out\n", "err\n")


def test_run_tells_a_signal_by_128_and_its_number(case: Case) -> None:
    assert case.run("sh", "-c", "kill -9 $$; sleep 9").code in (0, 137)  # pid 1 is immune
    assert case.run("sh", "-c", "sh -c 'kill -9 $$'; exit $?").code == 137


@pytest.mark.version_2
def test_states_from_create_to_delete(case: Case) -> None:
    case.create("sh", "-c", "echo hello; sleep 1000").check()
    output = case.runtime.last_output
    state = case.call("state", case.id).check().json
    assert state["status"] == "created"
    assert state["id"] == case.id
    assert state["bundle"] == str(case.bundle)
    pid = state["pid"]
    assert Path(f"/proc/{pid}").exists()
    assert output.read_text() == ""
    case.call("start", case.id).check()
    assert case.runtime.status(case.id) == "running"
    assert case.runtime.pid(case.id) == pid
    wait_for(lambda: output.read_text() == "hello\n")
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    assert case.call("state", case.id).check().json["pid"] == 0
    case.call("delete", case.id).check()
    assert case.call("state", case.id).code == 1


@pytest.mark.version_2
@OURS_AND_RUNC
def test_what_a_state_forbids(case: Case) -> None:
    case.started("sleep", "1000")
    assert "already running" in case.call("start", case.id).err
    refused = case.call("delete", case.id)
    assert refused.code == 1
    assert f"cannot delete container {case.id} that is not stopped: running" in refused.err
    again = case.call("create", "--bundle", str(case.bundle), case.id)
    assert "container with given ID already exists" in again.err
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    assert "cannot start a container that has stopped" in case.call("start", case.id).err
    assert "container not running" in case.call("kill", case.id, "TERM").err
    assert "cannot exec in a stopped container" in case.call("exec", case.id, "true").err
    case.call("delete", case.id).check()
    gone = case.call("delete", case.id)
    assert gone.code == 1
    assert "container does not exist" in gone.err
    case.call("delete", "--force", case.id).check()


@OURS_AND_RUNC
@pytest.mark.parametrize("command", ["state", "start", "kill", "delete", "pause", "resume", "ps"])
def test_an_unknown_container(case: Case, command: str) -> None:
    result = case.call(command, "nobody")
    assert result.code == 1
    assert "container does not exist" in result.err


@OURS_AND_RUNC
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("foo", 'exec: "foo": executable file not found in $PATH'),
        ("/foo", 'exec: "/foo": stat /foo: no such file or directory'),
        ("/etc", 'exec: "/etc": permission denied'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_what_cannot_be_executed(case: Case, program: str, words: str) -> None:
    result = case.create(program)
    assert result.code == 1
    assert f"runc create failed: unable to start container process: {words}" in (
        result.err.replace('\\"', '"')
    )
    assert case.call("state", case.id).code == 1


@OURS_AND_RUNC
def test_a_failure_is_the_last_line_of_the_log(case: Case) -> None:
    case.write(case.configure("foo"))
    log = case.place / "log"
    arguments = ("--log", str(log), "--log-format", "json")
    result = case.call(*arguments, "create", "--bundle", str(case.bundle), case.id)
    line = json.loads(log.read_text().splitlines()[-1])
    assert line["level"] == "error"
    assert line["msg"] in result.err
    assert line["time"].endswith("Z")


@OURS_AND_RUNC
def test_a_program_in_an_unknown_format_fails_at_start(case: Case) -> None:
    bad = case.rootfs / "bin/bad"
    bad.write_text("garbage")
    bad.chmod(0o755)
    case.started("/bin/bad")
    case.runtime.wait_stopped(case.id)
    assert case.errors.read_text() == "exec /bin/bad: exec format error\n"


def test_the_pid_file_has_the_number_alone(case: Case) -> None:
    case.write(case.configure("sleep", "1000"))
    file = case.place / "pid"
    case.call("create", "--bundle", str(case.bundle), "--pid-file", str(file), case.id).check()
    assert int(file.read_bytes()) == case.runtime.pid(case.id)
    assert file.read_bytes().isdigit()


def test_kill_by_number_and_name(case: Case) -> None:
    script = "trap 'echo usr1' USR1; trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    case.started("sh", "-c", script)
    wait_for(lambda: case.output.read_text() == "ready\n")
    case.call("kill", case.id, "SIGUSR1").check()
    wait_for(lambda: case.output.read_text() == "ready\nusr1\n")
    case.call("kill", case.id, str(int(signal.SIGTERM))).check()
    case.runtime.wait_stopped(case.id)


@pytest.mark.version_2
@OURS_AND_RUNC
def test_pause_and_resume(case: Case) -> None:
    case.started("sleep", "1000")
    case.call("pause", case.id).check()
    assert case.runtime.status(case.id) == "paused"
    assert "container not running" in case.call("pause", case.id).err
    assert "cannot exec in a paused container" in case.call("exec", case.id, "true").err
    assert "cannot start a container in the paused state" in case.call("start", case.id).err
    case.call("resume", case.id).check()
    assert case.runtime.status(case.id) == "running"
    assert "container not paused" in case.call("resume", case.id).err


@pytest.mark.version_2
@OURS_AND_RUNC
def test_a_paused_container_can_be_killed(case: Case) -> None:
    case.started("sleep", "1000")
    case.call("pause", case.id).check()
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)


@pytest.mark.version_2
def test_delete_force_kills(case: Case) -> None:
    case.started("sleep", "1000")
    pid = case.runtime.pid(case.id)
    case.call("delete", "--force", case.id).check()
    assert case.call("state", case.id).code != 0
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or ") Z " in stat.read_text()


@pytest.mark.version_2
@OURS_AND_RUNC
def test_a_created_container_can_be_deleted(case: Case) -> None:
    case.create("true").check()
    case.call("delete", case.id).check()


@pytest.mark.version_2
@OURS_AND_RUNC
def test_delete_ends_what_a_shared_pid_namespace_left(case: Case) -> None:
    spec = case.configure("sh", "-c", "sleep 1001 & echo $!")
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]
    case.started(spec=spec)
    case.runtime.wait_stopped(case.id)
    wait_for(lambda: case.output.read_text().endswith("\n"))
    text = case.output.read_text()
    assert Path(f"/proc/{int(text)}").exists()
    case.call("delete", case.id).check()
    wait_gone(int(text))


@OURS_AND_RUNC
def test_list_in_its_forms(case: Case) -> None:
    assert case.call("list", "-q").out == ""
    assert case.call("list", "-f", "json").out == "null\n"
    case.started("sleep", "1000")
    assert case.call("list", "-q").out == f"{case.id}\n"
    (entry,) = case.call("list", "--format", "json").check().json
    assert (entry["id"], entry["status"], entry["owner"]) == (case.id, "running", "root")
    heading, line = case.call("list").check().out.splitlines()
    assert heading.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert line.split()[::2] == [case.id, "running", entry["created"]]
    assert "invalid format option" in case.call("list", "-f", "bad").err


@pytest.mark.version_2
@OURS_AND_RUNC
def test_ps_in_its_forms(case: Case) -> None:
    case.started("sleep", "1000")
    pid = case.runtime.pid(case.id)
    assert case.call("ps", "-f", "json", case.id).check().json == [pid]
    heading, line = case.call("ps", case.id).check().out.splitlines()
    assert heading.split()[:2] == ["UID", "PID"]
    assert line.split()[1] == str(pid)


@pytest.mark.runtimes("ours", "warm")
def test_the_command_line(case: Case) -> None:
    assert case.call("--version").check().out.startswith("runc version ")
    assert "COMMANDS" in case.call("--help").check().out
    assert "--pid-file" in case.call("create", "--help").check().out
    assert case.call("nothing").code == 3
    assert 'runc: "create" requires exactly 1 argument(s)' in case.call("create").err.replace(
        '\\"', '"'
    )
    for argv in (["state", "--foo", "x"], ["--foo"], ["kill", "x", "FOO"], ["create", "a/b"]):
        result = case.call(*argv)
        assert result.code == 1
        assert len(result.err.splitlines()) == 1


def test_spec_writes_a_config_that_runs(case: Case) -> None:
    (case.bundle / "config.json").unlink()
    case.runtime.call("spec", "--bundle", str(case.bundle)).check()
    spec = json.loads((case.bundle / "config.json").read_text())
    spec["process"].update(terminal=False, args=["echo", "fine"])
    spec["process"]["capabilities"].pop("ambient", None)
    assert case.run(spec=spec).out == "fine\n"
    assert case.runtime.call("spec", "--bundle", str(case.bundle)).code == 1


@pytest.mark.runtimes("ours")
def test_features_are_json(case: Case) -> None:
    features = case.call("features").check().json
    assert "pid" in features["linux"]["namespaces"]
    assert "rro" in features["mountOptions"]
