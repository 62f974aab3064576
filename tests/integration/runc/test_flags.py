"""Flags of create, run and exec that few callers use."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support.cgroups import VERSION_2, group
from tests.support.runtimes import cgroups_of, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
OURS = pytest.mark.runtimes("warm")


def receive(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    return fds[0]


@OURS
def test_pidfd_socket(case: Case) -> None:
    path = case.place / "pidfd"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(20)
        case.write(case.configure("sleep", "1000"))
        case.call("create", "-b", str(case.bundle), "--pidfd-socket", str(path), case.id).check()
        init = receive(listener)
        case.call("start", case.id).check()
        argv = ("exec", "--detach", "--pidfd-socket", str(path), case.id, "sleep", "1000")
        case.call(*argv).check()
        other = receive(listener)
    try:
        for pidfd in (other, init):
            assert not select.select([pidfd], [], [], 0)[0]
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(init)
        os.close(other)
    case.runtime.wait_stopped(case.id)


@OURS
def test_a_pidfd_socket_where_nobody_listens(case: Case) -> None:
    case.write(case.configure("true"))
    argv = ("create", "-b", str(case.bundle), "--pidfd-socket", str(case.place / "no"), case.id)
    result = case.call(*argv)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert case.call("state", case.id).code == 1


def test_no_pivot(case: Case) -> None:
    script = "ls /; cat /proc/self/mountinfo; echo over; ls -d /proc/1"
    case.write(case.configure("sh", "-c", script))
    argv = ("run", "--no-pivot", "-b", str(case.bundle), case.id)
    out = case.call(*argv).check().out
    assert out.startswith("bin\ndev\netc\n")
    assert out.endswith("over\n/proc/1\n")


@OURS
def test_no_pivot_leaves_no_kernel_tree_of_the_host(case: Case) -> None:
    """What of the host stays mounted below has no procfs and no sysfs (runc masks them too)."""
    spec = case.configure("cat", "/proc/self/mountinfo")
    case.write(spec)
    out = case.call("run", "--no-pivot", "-b", str(case.bundle), case.id).check().out
    kinds = [line.split(" - ")[1].split()[0] for line in out.splitlines()]
    assert kinds.count("sysfs") == 1
    assert kinds.count("proc") == 1 + len(spec["linux"]["readonlyPaths"])


@pytest.mark.version_2
class TestCgroupsOfExec:
    @pytest.mark.runtimes("warm", "runc")
    def test_below_the_containers(self, case: Case) -> None:
        case.started("sleep", "1000")
        for directory in cgroups_of(case.id):
            (directory / "below").mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (directory / name).exists() and not VERSION_2:
                    (directory / "below" / name).write_text((directory / name).read_text())
        out = case.call("exec", "--cgroup", "below", case.id, "cat", "/proc/self/cgroup").check()
        paths = {line.split(":")[2] for line in out.out.splitlines()}
        assert "/below" in paths
        assert paths <= {"/below", "/"}

    @pytest.mark.runtimes("warm", "runc")
    def test_of_one_controller(self, case: Case) -> None:
        if VERSION_2:
            pytest.skip("version 2 has all controllers in one")
        case.started("sleep", "1000")
        (group("memory", case.id) / "below").mkdir()
        argv = ("exec", "--cgroup", "memory:below", case.id, "cat", "/proc/self/cgroup")
        for line in case.call(*argv).check().out.splitlines():
            _, controllers, path = line.split(":")
            assert (path == "/below") == (controllers == "memory"), line

    @pytest.mark.runtimes("warm", "runc")
    @pytest.mark.parametrize("entry", ["../x", "nosuch:x", "missing", "memory:missing"])
    def test_what_is_not_there(self, case: Case, entry: str) -> None:
        case.started("sleep", "1000")
        result = case.call("exec", "--cgroup", entry, case.id, "true")
        assert result.code == 255
        assert not [path for path in cgroups_of(case.id) if (path / "missing").exists()]


@pytest.mark.runtimes("warm", "runc")
def test_labels_without_their_kernel(case: Case) -> None:
    case.started("sleep", "1000")
    if not Path("/sys/fs/selinux").exists():
        result = case.call("exec", "--process-label", "system_u:x:y:s0", case.id, "true")
        assert (result.code, len(result.err.splitlines())) == (255, 1)
    if not Path("/sys/kernel/security/apparmor").exists():
        result = case.call("exec", "--apparmor", "docker-default", case.id, "true")
        assert result.code == 255
        assert "apparmor" in result.err


@pytest.mark.runtimes("warm", "runc")
def test_a_sysctl_of_the_host_through_a_path(case: Case) -> None:
    """A namespace given by path may be the host's own: its sysctls are not the container's."""
    spec = case.configure("true")
    for entry in spec["linux"]["namespaces"]:
        if entry["type"] == "network":
            entry["path"] = f"/proc/{os.getpid()}/ns/net"
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/sys"]
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    result = case.run(spec=spec)
    assert result.code == 1
    assert "net.ipv4.ip_forward" in result.err
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


@OURS
def test_a_failed_command_leaves_no_process(case: Case) -> None:
    """Whatever a new process has come to when the runtime gives up, it ends with it."""
    case.write(case.configure("sleep", "1000"))
    argv = ("create", "-b", str(case.bundle), "--pid-file", "/nonexistent/pid", case.id)
    assert case.call(*argv).code == 1
    text = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert case.id not in text


@pytest.mark.runtimes("warm", "runc")
def test_one_that_is_kept(case: Case) -> None:
    case.write(case.configure("true"))
    case.call("run", "--keep", "-b", str(case.bundle), case.id).check()
    assert case.runtime.status(case.id) == "stopped"
    case.call("delete", case.id).check()


@pytest.mark.runtimes("warm", "runc")
@pytest.mark.parametrize("flag", [(), ("--no-new-keyring",)])
def test_the_session_keyring(case: Case, flag: tuple[str, ...]) -> None:
    """A container has one of its own, or its caller's."""
    case.write(case.configure("sh", "-c", "cat /proc/keys; true"))
    keyring = f"_ses.{case.id}"
    out = case.call("run", *flag, "-b", str(case.bundle), case.id).check().out
    assert (keyring in out) == (not flag and bool(out))


WITH_A_KEY = """
import ctypes, os, sys
call = ctypes.CDLL(None).syscall
add_key, keyctl, join, set_permissions, session = 248, 250, 1, 5, -3
call(keyctl, join, None)
key = call(add_key, b"user", sys.argv[1].encode(), b"secret", 6, session)
assert key > 0 and call(keyctl, set_permissions, key, 0x3F000000) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.runtimes("ours", "runc")
@pytest.mark.parametrize("flag", [(), ("--no-new-keyring",)])
def test_an_exec_has_the_containers_session_keyring(case: Case, flag: tuple[str, ...]) -> None:
    """What the caller of `exec` keeps in its own is seen by who has that alone."""
    spec = case.configure("sleep", "1000")
    spec["linux"]["maskedPaths"] = []
    case.write(spec)
    case.call("create", *flag, "-b", str(case.bundle), case.id).check()
    case.call("start", case.id).check()
    key = f"key-{case.id}"
    script = f"grep {key} /proc/keys; true"
    argv = case.runtime.argv("exec", case.id, "sh", "-c", script)
    command = [sys.executable, "-I", "-c", WITH_A_KEY, key, *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (key in done.stdout) == bool(flag)


@pytest.mark.runtimes("ours", "runc")
def test_exec_in_a_paused_container(case: Case) -> None:
    """It waits with the others until they go on."""
    case.started("sleep", "1000")
    case.call("pause", case.id).check()
    argv = case.runtime.argv("exec", "--ignore-paused", case.id, "echo", "out")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        case.call("resume", case.id).check()
        assert process.communicate(timeout=60)[0] == "out\n"
    assert process.returncode == 0


@pytest.mark.runtimes("warm", "runc")
def test_what_exec_adds_to_a_process(case: Case) -> None:
    spec = case.configure("sleep", "1000")
    names = ["CAP_CHOWN"]
    spec["process"]["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
    case.started(spec=spec)
    flags = ("--cap", "CAP_KILL", "-g", "5", "-g", "7", "--no-new-privs")
    out = case.call("exec", *flags, case.id, "cat", "/proc/self/status").check().out
    status = dict(line.split(":\t") for line in out.splitlines() if ":\t" in line)
    chown, kill = 1 << 0, 1 << 5
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == chown | kill
    assert {"5", "7"} <= set(status["Groups"].split())
    assert status["NoNewPrivs"].strip() == "1"


@pytest.mark.runtimes("ours", "runc")
def test_paths_are_the_callers(case: Case) -> None:
    """What a line names is below the caller's directory, wherever the bundle is."""
    case.write(case.configure("sleep", "1000"))
    globals_ = ("--root", "root", "--log", "log", "--log-format", "json")
    line = (*globals_, "create", "--pid-file", "pid", "-b", str(case.bundle), case.id)
    case.runtime.call(*line, cwd=case.place).check()
    assert (case.place / "log").exists()
    assert int((case.place / "pid").read_text()) == case.runtime.pid(case.id)
    case.runtime.call(*globals_, "delete", "--force", case.id, cwd=case.place).check()


@pytest.mark.runtimes("ours", "warm", "runc")
def test_a_log_that_cannot_be(case: Case) -> None:
    """Nothing is done without it."""
    result = case.call("--log", str(case.place / "no/log"), "spec", "-b", str(case.bundle))
    assert result.code == 1
    assert f"open {case.place}/no/log: no such file or directory" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.runtimes("warm", "runc")
def test_the_debug_log(case: Case) -> None:
    """What a command does, and nothing less than without it."""
    case.write(case.configure("echo", "out"))
    argv = ("--debug", "run", "-b", str(case.bundle), case.id)
    result = case.call(*argv).check()
    assert result.out == "out\n"
    assert "level=debug msg=" in result.err


@pytest.mark.runtimes("ours", "runc")
@pytest.mark.parametrize(("flag", "is_reaper"), [((), True), (("--no-subreaper",), False)])
def test_orphans_of_a_container(case: Case, flag: tuple[str, ...], is_reaper: bool) -> None:
    """Without a pid namespace of its own a container's orphans are the runtime's, or not."""
    script = "(sleep 1000 & echo $!); echo; exec sleep 1001"
    spec = case.configure("sh", "-c", script)
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]
    case.write(spec)
    argv = case.runtime.argv("run", *flag, "-b", str(case.bundle), case.id)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        process.stdout.readline()  # it is one by now
        parent = f"PPid:\t{process.pid}\n" in Path(f"/proc/{orphan}/status").read_text()
        os.kill(orphan, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{orphan}").exists())
        assert parent == is_reaper
    finally:
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM


@OURS
@pytest.mark.parametrize("word", ["true", "false", "auto"])
def test_rootless_is_taken_at_its_word(case: Case, word: str) -> None:
    case.write(case.configure("echo", "out"))
    argv = ("--rootless", word, "run", "-b", str(case.bundle), case.id)
    assert case.call(*argv).check().out == "out\n"


@OURS
def test_criu_by_its_path(case: Case) -> None:
    case.started("sleep", "1000")
    images = str(case.place / "images")
    argv = ("--criu", "/nonexistent-criu", "checkpoint", "--image-path", images, case.id)
    result = case.call(*argv)
    assert result.code == 1
    assert "/nonexistent-criu" in result.err
    assert case.runtime.status(case.id) == "running"
