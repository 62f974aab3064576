"""Each command's mistakes, and the shape of what it prints: the same as runc's.

In the lines, @ID is a container, @PLACE a directory of the test.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support.cgroups import VERSION_2, group, limit
from tests.support.runtimes import Result, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.runtimes("warm", "runc")]

# the line, the exit code, words of the failure
OF_USAGE = """
    --bogus                          | 1 | flag provided but not defined: -bogus
    --root                           | 1 | flag needs an argument: -root
    create                           | 1 | "create" requires exactly 1 argument(s)
    create a b                       | 1 | "create" requires exactly 1 argument(s)
    create --bundle                  | 1 | flag needs an argument: -bundle
    create --preserve-fds x @ID      | 1 | invalid value "x" for flag -preserve-fds: parse error
    run                              | 1 | "run" requires exactly 1 argument(s)
    start a b                        | 1 | "start" requires exactly 1 argument(s)
    state                            | 1 | "state" requires exactly 1 argument(s)
    state --foo @ID                  | 1 | flag provided but not defined: -foo
    kill                             | 1 | "kill" requires a minimum of 1 argument(s)
    kill @ID TERM x                  | 1 | "kill" requires a maximum of 2 argument(s)
    state @ID --foo                  | 1 | "state" requires exactly 1 argument(s)
    delete a b                       | 1 | "delete" requires exactly 1 argument(s)
    pause                            | 1 | "pause" requires exactly 1 argument(s)
    resume a b                       | 1 | "resume" requires exactly 1 argument(s)
    ps                               | 1 | "ps" requires a minimum of 1 argument(s)
    list x                           | 1 | "list" requires exactly 0 argument(s)
    list --quiet=maybe               | 1 | invalid boolean value "maybe" for -quiet: parse error
    events                           | 1 | "events" requires exactly 1 argument(s)
    events --interval x @ID          | 1 | invalid value "x" for flag -interval: parse error
    spec x                           | 1 | "spec" requires exactly 0 argument(s)
    features x                       | 1 | "features" requires exactly 0 argument(s)
    update                           | 1 | "update" requires exactly 1 argument(s)
    update --pids-limit x @ID        | 1 | invalid value "x" for flag -pids-limit: parse error
    exec                             | 1 | "exec" requires a minimum of 1 argument(s)
    exec --preserve-fds x @ID true   | 1 | invalid value "x" for flag -preserve-fds: parse error
    exec -g x @ID true               | 1 | invalid value "x" for flag
    checkpoint                       | 1 | "checkpoint" requires exactly 1 argument(s)
    restore a b                      | 1 | "restore" requires exactly 1 argument(s)
"""
OF_A_RUNNING_ONE = """
    bogus                            | 3 | No help topic for 'bogus'
    help bogus                       | 3 | No help topic for 'bogus'
    --log-format xml list            | 1 | invalid log-format: xml
    kill @ID FOO                     | 1 | unknown signal "FOO"
    kill @ID -- FOO                  | 1 | unknown signal "FOO"
    exec @ID --env A=b true          | 255 | exec: \"--env\": executable file not found
    exec @ID -- true                 | 255 | exec: \"--\": executable file not found
    ps @ID --format json             | 1 |
    delete @ID                       | 1 | cannot delete container @ID that is not stopped: running
    start @ID                        | 1 | cannot start an already running container
    resume @ID                       | 1 | container not paused
    ps -f bad @ID                    | 1 | invalid format option
    ps @ID -o args                   | 1 | couldn't find PID field in ps output
    list -f bad                      | 1 | invalid format option
    events --interval 0s @ID         | 1 | duration interval must be greater than 0
    update -r @PLACE/no @ID          | 1 | open @PLACE/no: no such file or directory
    update -r @PLACE @ID             | 1 | read @PLACE: is a directory
    update -r @PLACE/cut.json @ID    | 1 |
    update -r @PLACE/list.json @ID   | 1 |
    update --cpuset-cpus 9999 @ID    | 1 | cpuset.cpus: numerical result out of range
    exec @ID                         | 255 | process args cannot be empty
    exec @ID nosuch                  | 255 | executable file not found in $PATH
    exec -p @PLACE/no @ID            | 255 | open @PLACE/no: no such file or directory
    exec -p @PLACE @ID               | 255 | read @PLACE: is a directory
    exec -p @PLACE/cut.json @ID      | 255 |
    exec -u x @ID true               | 255 |
    exec -u 1:x @ID true             | 255 |
    exec -e A @ID true               | 255 | invalid environment variable
    exec --cwd relative @ID true     | 255 | Cwd must be an absolute path
    exec --cwd /missing @ID true     | 255 | chdir to cwd ("/missing") set in config.json failed
    exec --pid-file @PLACE/no/x @ID true | 255 | no such file or directory
    exec -d -t @ID true              | 255 | cannot allocate tty if runc will detach without
    exec -d --console-socket @PLACE/no @ID true | 255 | cannot use console socket if runc will not
    create -b @PLACE/no x            | 1 | runc create failed: chdir @PLACE/no: no such file
    create -b @PLACE x               | 1 | runc create failed: JSON specification file config.json
    create -b @PLACE/bundle a/b      | 1 | runc create failed: invalid container ID format
    create -b @PLACE/bundle ..       | 1 | runc create failed: invalid container ID format
    create -b @PLACE/bundle a@b      | 1 | runc create failed: invalid container ID format
    spec -b @PLACE/no                | 1 | no such file or directory
    spec -b @PLACE/bundle            | 1 | File config.json exists. Remove it first
    restore --image-path @PLACE/images -b @PLACE/bundle x | 1 | no such file or directory
"""
OF_A_STOPPED_ONE = """
    start @ID                        | 1 | cannot start a container that has stopped
    pause @ID                        | 1 | container not running
    resume @ID                       | 1 | container not paused
    kill @ID TERM                    | 1 | container not running
    exec @ID true                    | 255 | exec failed: cannot exec in a stopped container
    events --stats @ID               | 1 | container with id @ID is not running
    update --pids-limit 5 @ID        | 1 | container not running
"""
OF_NONE = """
    state nobody                     | 1 | container does not exist
    kill nobody FOO                  | 1 | container does not exist
    ps -f json nobody                | 1 | container does not exist
    events --stats nobody            | 1 | container does not exist
    update nobody                    | 1 | container does not exist
    exec nobody true                 | 255 | exec failed: container does not exist
    checkpoint nobody                | 1 | container does not exist
    state ..                         | 1 | invalid container ID format
    start a/b                        | 1 | invalid container ID format
"""


def lines(case: Case, table: str) -> Iterable[tuple[Result, int, str]]:
    """What each line of a table answers, and should."""
    (case.place / "cut.json").write_text('{"a":')
    (case.place / "list.json").write_text("[]")
    for row in table.strip().splitlines():
        line, code, words = (cell.strip() for cell in row.split(" |"))
        for name, value in (("@ID", case.id), ("@PLACE", str(case.place))):
            line, words = line.replace(name, value), words.replace(name, value)
        yield case.call(*line.split()), int(code), words


def assert_as_told(case: Case, table: str, *, usage: bool = False) -> None:
    """One line of failure, and how to use it where that was the mistake."""
    for result, code, words in lines(case, table):
        assert (result.code, words) == (code, words), result
        assert words in result.err.replace('\\"', '"'), result
        assert result.out.startswith("Incorrect Usage") == usage, result
        assert "USAGE:" in result.out or not usage
        assert "Traceback" not in result.err


def test_a_wrong_line_is_told_with_the_usage(case: Case) -> None:
    assert_as_told(case, OF_USAGE, usage=True)


def test_mistakes_with_a_running_container(case: Case) -> None:
    case.started("sleep", "1000")
    assert_as_told(case, OF_A_RUNNING_ONE)
    assert case.runtime.status(case.id) == "running"


def test_flags_after_words(case: Case) -> None:
    """As people type them; only the lines of `exec` and `ps` are another program's from there."""
    case.started("sleep", "1000")
    assert case.call("events", case.id, "--stats").check().json["id"] == case.id
    case.call("update", case.id, "--pids-limit", "20").check()
    assert limit(case.id, "pids.max") == "20"
    assert case.call("state", case.id, "--").check().json["id"] == case.id
    assert "USAGE:" in case.call("state", case.id, "--help").check().out
    case.call("kill", case.id, "--", "0").check()
    case.call("kill", case.id, "0", "--all").check()
    case.call("delete", case.id, "--force").check()
    assert case.call("state", case.id).code == 1


def test_mistakes_with_a_stopped_container(case: Case) -> None:
    case.started("true")
    case.runtime.wait_stopped(case.id)
    assert_as_told(case, OF_A_STOPPED_ONE)
    assert case.call("ps", case.id).check().out.split()[:2] == ["UID", "PID"]
    assert case.call("ps", "-f", "json", case.id).out == "null\n"
    case.call("kill", "-a", case.id, "KILL").check()


def test_mistakes_without_a_container(case: Case) -> None:
    assert_as_told(case, OF_NONE)
    case.call("delete", "-f", "nobody").check()


@pytest.mark.parametrize("shares", [1, 262145])
def test_shares_that_the_kernel_would_change(case: Case, shares: int) -> None:
    """Only version 1 has them as they are."""
    if VERSION_2:
        pytest.skip("version 2 has weights")
    case.started("sleep", "1000")
    result = case.call("update", "--cpu-share", str(shares), case.id)
    assert result.code == 1
    assert "allowed cpu-shares is" in result.err


def test_help(case: Case) -> None:
    for line in ("create --help", "create -h", "help create"):
        out = case.call(*line.split()).check().out
        assert out.startswith("NAME:\n   runc create - ")
        assert "--pid-file" in out
    for line in ("", "help", "--help", "-h"):
        assert "GLOBAL OPTIONS:" in case.call(*line.split()).check().out
    for line in ("--version", "-v"):
        first, *others = case.call(line).check().out.splitlines()
        assert first.startswith("runc version ")
        assert [other for other in others if other.startswith("spec: ")]


def test_lists_and_processes(case: Case) -> None:
    """`--quiet` comes before the format; `ps` gives on what it is given."""
    case.started("sleep", "1000")
    pid = case.runtime.pid(case.id)
    wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    for argv in (("-q",), ("-q", "-f", "json"), ("-q", "-f", "bad")):
        assert case.call("list", *argv).check().out == f"{case.id}\n"
    heading, line = case.call("ps", case.id, "-eo", "pid,args").check().out.splitlines()
    assert heading.split() == ["PID", "COMMAND"]
    assert line.split()[1:] == ["sleep", "1000"]


def test_the_documents(case: Case) -> None:
    """Members of what is printed as JSON: all that runc 1.1 has, and what newer ones add."""
    spec = case.configure("sleep", "1000")
    spec["annotations"] = {"org.example": "x"}
    case.started(spec=spec)
    common = {"ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations"}
    assert set(case.call("state", case.id).check().json) == {*common, "owner"}
    (entry,) = case.call("list", "-f", "json").check().json
    assert set(entry) == {*common, "owner"}
    features = case.call("features").check().json
    assert {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux"} <= set(features)
    linux = {"namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux"}
    assert linux <= set(features["linux"])
    assert features["linux"]["apparmor"]["enabled"]
    assert {"v1", "v2", "systemd", "systemdUser"} <= set(features["linux"]["cgroup"])


def test_the_log(case: Case) -> None:
    """Each form has the level, the text and the time; the file gets more, never less."""
    log = case.place / "log"
    for number in (1, 2):
        case.call("--log", str(log), "--log-format", "json", "state", "nobody")
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert len(entries) == number
        assert set(entries[-1]) == {"level", "msg", "time"}
    text = case.call("state", "nobody").err
    assert text.startswith('time="')
    assert 'level=error msg="container does not exist"' in text


@pytest.mark.parametrize("rootless", [False, True])
def test_spec_is_runcs(case: Case, rootless: bool) -> None:
    """The same members as runc's file has, with the same shape."""
    words = ("--rootless",) if rootless else ()
    case.call("spec", *words, "-b", str(case.place)).check()
    spec = json.loads((case.place / "config.json").read_text())
    assert spec["process"]["args"] == ["sh"]
    assert spec["root"] == {"path": "rootfs", "readonly": True}
    kinds = {entry["type"] for entry in spec["linux"]["namespaces"]}
    assert ("user" in kinds, "network" in kinds) == (rootless, not rootless)
    assert ("cgroup" in kinds) == VERSION_2
    assert ("uidMappings" in spec["linux"]) == rootless
    paths = [mount["destination"] for mount in spec["mounts"]]
    assert paths[:5] == ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]
    (sysfs,) = [mount for mount in spec["mounts"] if mount["destination"] == "/sys"]
    assert sysfs["type"] == ("none" if rootless else "sysfs")


def test_a_file_of_resources_from_standard_input(case: Case) -> None:
    case.started("sleep", "1000")
    argv = ("update", "--resources", "-", case.id)
    case.runtime.call(*argv, stdin=b'{"pids": {"limit": 33}}').check()
    assert (group("pids", case.id) / "pids.max").read_text() == "33\n"
