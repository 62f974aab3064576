"""What the container's process is: user, groups, capabilities, limits, environment, descriptors."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support import signals
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
OURS_AND_RUNC = pytest.mark.runtimes("ours", "warm", "runc")
CHOWN, KILL, NET_RAW = 1 << 0, 1 << 5, 1 << 13


def status_of(text: str) -> dict[str, str]:
    return {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }


def test_user_groups_and_umask(case: Case) -> None:
    user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o27}
    result = case.run("sh", "-c", "id -u; id -g; id -G; umask", user=user)
    assert result.out.split("\n")[:2] == ["1000", "1001"]
    assert set(result.out.split("\n")[2].split()) == {"1001", "5", "7"}
    assert result.out.split("\n")[3] == "0027"


def test_a_user_without_capabilities_has_none(case: Case) -> None:
    names = ["CAP_CHOWN", "CAP_KILL"]
    sets = {"bounding": names, "effective": names, "permitted": names}
    spec = case.configure("cat", "/proc/self/status", user={"uid": 1000, "gid": 1000})
    spec["process"]["capabilities"] = sets
    status = status_of(case.run(spec=spec).out)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert int(status["CapBnd"], 16) == CHOWN | KILL


def test_the_five_capability_sets(case: Case) -> None:
    spec = case.configure("cat", "/proc/self/status", user={"uid": 1000, "gid": 1000})
    spec["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    }
    status = status_of(case.run(spec=spec).out)
    found = {name: int(status[name], 16) for name in status if name.startswith("Cap")}
    assert found == {
        "CapBnd": CHOWN | KILL | NET_RAW,
        "CapPrm": CHOWN,
        "CapEff": CHOWN,
        "CapInh": CHOWN,
        "CapAmb": CHOWN,
    }


def test_what_cannot_be_ambient_is_left_out_aloud(case: Case) -> None:
    """In the words of runc 1.3, which tools look for; older ones and crun say nothing."""
    names = ["CAP_CHOWN", "CAP_KILL"]
    spec = case.configure("cat", "/proc/self/status", user={"uid": 1000, "gid": 1000})
    sets = dict.fromkeys(("bounding", "permitted", "effective", "ambient"), names)
    spec["process"]["capabilities"] = {**sets, "inheritable": ["CAP_KILL"]}
    result = case.run(spec=spec)
    assert int(status_of(result.out)["CapAmb"], 16) == KILL
    if case.runtime.name == "ours":
        assert "can't raise ambient capability CAP_CHOWN: operation not permitted" in result.err
        assert "CAP_KILL" not in result.err


def test_root_gets_its_sets_and_no_inheritable(case: Case) -> None:
    status = status_of(case.run("cat", "/proc/self/status").out)
    assert int(status["CapInh"], 16) == 0
    assert status["CapPrm"] == status["CapEff"] == status["CapBnd"]


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(case: Case, wanted: bool) -> None:
    status = status_of(case.run("cat", "/proc/self/status", noNewPrivileges=wanted).out)
    assert status["NoNewPrivs"] == str(int(wanted))


def test_resource_limits(case: Case) -> None:
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 50, "hard": 60},
    ]
    out = case.run("sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c; ulimit -u", rlimits=limits).out
    assert out.split() == ["100", "200", "0", "50"] or out.split()[:3] == ["100", "200", "0"]


@OURS_AND_RUNC
def test_a_limit_that_may_not_be_raised(case: Case) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no limit to raise")
    limits = [{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]
    result = case.run("true", rlimits=limits)
    assert result.code == 1
    assert "error setting rlimit type 7" in result.err
    assert case.run("true", rlimits=[{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}]).code == 1


def test_environment_and_working_directory(case: Case) -> None:
    (case.rootfs / "etc/passwd").write_text("r:x:0:0::/ro:/bin/sh\nu:x:1000:1000::/h/u:/bin/sh\n")
    env = ["PATH=/bin", "A=1", "B=x=y", "A=2"]
    out = case.run("sh", "-c", "echo $A $B $HOME; pwd", env=env, cwd="/usr").out
    assert out == "2 x=y /ro\n/usr\n"
    user = {"uid": 1000, "gid": 1000}
    assert case.run("sh", "-c", "echo $HOME", env=["PATH=/bin"], user=user).out == "/h/u\n"
    assert case.run("sh", "-c", "echo $HOME", env=["PATH=/bin", "HOME=/x"]).out == "/x\n"


def test_a_missing_working_directory_is_made(case: Case) -> None:
    assert case.run("pwd", cwd="/new/place").out == "/new/place\n"


def test_a_working_directory_only_the_user_may_enter(case: Case) -> None:
    inside = case.rootfs / "private"
    inside.mkdir(mode=0o700)
    os.chown(inside, 1000, 1000)
    spec = case.configure("pwd", user={"uid": 1000, "gid": 1000}, cwd="/private")
    spec["process"]["capabilities"] = {}
    assert case.run(spec=spec).out == "/private\n"


def test_oom_score(case: Case) -> None:
    assert case.run("cat", "/proc/self/oom_score_adj", oomScoreAdj=123).out == "123\n"


def test_signals_are_default_and_unblocked(case: Case) -> None:
    status = status_of(case.run("cat", "/proc/self/status").out)
    assert {status[name] for name in ("SigBlk", "SigIgn", "SigCgt")} == {"0" * 16}


@pytest.mark.runtimes("ours", "warm")
def test_signals_are_default_whoever_starts_the_runtime(case: Case) -> None:
    with signals.hostile():
        status = status_of(case.run("cat", "/proc/self/status").out)
    assert {status[name] for name in ("SigBlk", "SigIgn", "SigCgt")} == {"0" * 16}


def test_only_stdio_is_open(case: Case) -> None:
    out = case.run("sh", "-c", "ls /proc/self/fd").out
    assert set(out.split()) <= {"0", "1", "2", "3"}  # 3 is the directory that ls reads
    assert case.run("sh", "-c", "ls /proc/1/fd; true").out.split() == ["0", "1", "2"]


def test_preserved_descriptors(case: Case) -> None:
    first = os.memfd_create("first")
    try:
        os.write(first, b"kept")
        case.write(case.configure("sh", "-c", "ls /proc/1/fd; cat /proc/self/fd/3"))
        arguments = ("run", "--bundle", str(case.bundle), "--preserve-fds", "1", case.id)
        out = case.runtime.call(*arguments, fds=[first]).check().out
        assert out.split() == ["0", "1", "2", "3", "kept"]
    finally:
        os.close(first)


@OURS_AND_RUNC
@pytest.mark.parametrize("command", ["run", "exec"])
def test_preserved_descriptors_that_are_not_open(case: Case, command: str) -> None:
    """In their place the process would get descriptors of the runtime: the host's root, /proc."""
    case.write(case.configure("sh", "-c", "ls -l /proc/self/fd; sleep 1000"))
    words, program = ["--bundle", str(case.bundle)], []
    if command == "exec":
        case.started("sleep", "1000")
        words, program = [], ["ls", "-l", "/proc/self/fd"]
    result = case.call(command, *words, "--preserve-fds", "40", case.id, *program)
    assert result.code in (1, 255)
    assert "unable to stat preserved-fd" in result.err
    assert " (of 40): stat /proc/self/fd/" in result.err
    assert result.out == ""


@OURS_AND_RUNC
def test_personality(case: Case) -> None:
    spec = case.configure("uname", "-m")
    spec["linux"]["personality"] = {"domain": "LINUX32"}
    result = case.run(spec=spec)
    assert result.code == 0 or case.runtime.name == "runc"
    if case.runtime.name != "runc":
        assert result.out == "i686\n"


class TestExec:
    @pytest.mark.version_2
    def test_exit_code_and_output(self, case: Case) -> None:
        case.started("sleep", "1000")
        result = case.call("exec", case.id, "sh", "-c", "echo out; echo err >&2; exit 9")
        assert (result.code, result.out, result.err) == (9, "out\n", "err\n")

    @pytest.mark.version_2
    def test_it_is_inside(self, case: Case) -> None:
        case.started("sleep", "1000")
        program = Path(f"/proc/{case.runtime.pid(case.id)}/cmdline")
        wait_for(lambda: program.read_bytes() == b"sleep\0001000\0")  # a start does not
        script = "hostname; cat /proc/1/cmdline | tr '\\0' ' '; for n in mnt pid net ipc uts; do "
        script += "[ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] && echo $n; done"
        out = case.call("exec", case.id, "sh", "-c", script).check().out
        assert out == "busybox\nsleep 1000 mnt\npid\nnet\nipc\nuts\n"
        pid = case.runtime.pid(case.id)
        mine = Path(f"/proc/{pid}/cgroup").read_text()
        case.call("exec", "--detach", case.id, "sleep", "1001").check()
        pids = (
            case.call("ps", "-f", "json", case.id).out.split()
            if case.runtime.name != "crun"
            else []
        )
        numbers = [int(n) for n in "".join(pids).strip("[]").split(",") if n]
        for number in numbers:
            assert Path(f"/proc/{number}/cgroup").read_text() == mine

    def test_user_environment_and_directory(self, case: Case) -> None:
        case.started("sleep", "1000")
        # crun's --env is the whole environment
        argv = ("exec", "--user", "5:6", "--env", "A=b", "--env", "PATH=/bin", "--cwd", "/usr")
        out = case.call(*argv, case.id, "sh", "-c", "id -u; id -g; echo $A; pwd").check().out
        assert out.split() == ["5", "6", "b", "/usr"]

    def test_process_file(self, case: Case) -> None:
        case.started("sleep", "1000")
        file = case.place / "process.json"
        file.write_text(
            '{"args": ["sh", "-c", "id -u; id -G; pwd; cat /proc/self/status"], "cwd": "/tmp",'
            '"user": {"uid": 7, "gid": 8, "additionalGids": [9]}, "env": ["PATH=/bin"],'
            '"capabilities": {"bounding": ["CAP_CHOWN"]}, "noNewPrivileges": true}'
        )
        pid_file = case.place / "exec.pid"
        argv = ("exec", "--process", str(file), "--pid-file", str(pid_file), case.id)
        uid, gids, cwd, status = case.call(*argv).check().out.split("\n", 3)
        assert (uid, set(gids.split()), cwd) == ("7", {"8", "9"}, "/tmp")
        assert int(status_of(status)["CapBnd"], 16) == CHOWN
        assert status_of(status)["NoNewPrivs"] == "1"
        assert int(pid_file.read_text()) > 0

    @OURS_AND_RUNC
    def test_what_cannot_be_executed(self, case: Case) -> None:
        case.started("sleep", "1000")
        for program, words in (
            ("foo", 'exec: "foo": executable file not found in $PATH'),
            ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
        ):
            result = case.call("exec", case.id, program)
            assert result.code == 255
            assert words in result.err.replace('\\"', '"')
        assert case.call("exec", "--user", "-1", case.id, "true").code == 255

    def test_exec_before_start(self, case: Case) -> None:
        case.create("sleep", "1000").check()
        assert case.call("exec", case.id, "echo", "early").check().out == "early\n"


@pytest.mark.runtimes("ours", "runc")
@pytest.mark.parametrize(("pid", "passed"), [("$$", True), ("1", False)])
def test_sockets_of_the_caller(case: Case, pid: str, passed: bool) -> None:
    """sd_listen_fds(3) through the runtime."""
    file = case.place / "socket"
    file.write_text("kept")
    case.write(
        case.configure("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat /proc/self/fd/3; true")
    )
    argv = case.runtime.argv("run", "--bundle", str(case.bundle), case.id)
    script = f'LISTEN_PID={pid} LISTEN_FDS=1 exec "$@" 3<{file}'
    done = subprocess.run(["bash", "-c", script, "bash", *argv], capture_output=True, check=True)
    assert done.stdout.split() == ([b"1", b"1", b"kept"] if passed else [])
