"""What the container's process sees: root, mounts, devices, names, limits, filters, terminal."""

import ctypes
import errno
import os
import pty
import select
import socket
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.cgroups import limit, quota, weight
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
OURS_AND_RUNC = pytest.mark.runtimes("ours", "warm", "runc")


def bind(source: Path | str, destination: str, *options: str) -> dict[str, Any]:
    return {
        "source": str(source),
        "destination": destination,
        "type": "bind",
        "options": ["rbind", *options],
    }


def with_mounts(case: Case, *args: str, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    spec = case.configure(*args)
    spec["mounts"] += mounts
    return spec


def test_read_only_root(case: Case) -> None:
    spec = case.configure("sh", "-c", "touch /x || touch /dev/shm/y && echo fine")
    spec["root"]["readonly"] = True
    result = case.run(spec=spec)
    assert (result.code, result.out) == (0, "fine\n")
    assert "Read-only file system" in result.err


def test_the_host_is_gone(case: Case) -> None:
    out = case.run("sh", "-c", "cat /proc/mounts; ls /").out
    assert str(case.place) not in out
    assert "home" in out.split("\n")[-10:]


def test_bind_mounts_of_directories_and_files(case: Case) -> None:
    source = case.place / "source"
    source.mkdir()
    (source / "file").write_text("content")
    spec = with_mounts(
        case, "sh", "-c", "cat /a/b/file; cat /etc/new; touch /a/b/x; touch /ro/x",
        mounts=[
            bind(source, "/a/b"), bind(source / "file", "/etc/new"), bind(source, "/ro", "ro"),
        ],
    )  # fmt: skip
    result = case.run(spec=spec)
    assert result.out == "contentcontent"
    assert "Read-only file system" in result.err
    assert (source / "x").exists()


def test_mount_options(case: Case) -> None:
    source = case.place / "source"
    source.mkdir()
    tmpfs = {
        "source": "tmpfs",
        "destination": "/t",
        "type": "tmpfs",
        "options": ["nosuid", "noexec", "nodev", "size=1m", "mode=700"],
    }
    spec = with_mounts(
        case, "sh", "-c", "grep -E ' /(t|b) ' /proc/mounts; ls -ld /t",
        mounts=[tmpfs, bind(source, "/b", "nosuid", "noexec", "nodev", "noatime")],
    )  # fmt: skip
    by_place = {line.split()[1]: line for line in case.run(spec=spec).out.splitlines()[:2]}
    for word in ("nosuid", "noexec", "nodev", "size=1024k", "mode=700"):
        assert word in by_place["/t"].split()[3].split(",")
    for word in ("nosuid", "noexec", "nodev", "noatime"):
        assert word in by_place["/b"].split()[3].split(",")


@pytest.mark.runtimes("ours", "warm", "crun")
def test_recursive_read_only(case: Case) -> None:
    source = case.place / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "below"], check=True)
    try:
        spec = with_mounts(
            case,
            "sh",
            "-c",
            "touch /b/x; touch /b/below/x; true",
            mounts=[bind(source, "/b", "rro")],
        )
        assert case.run(spec=spec).err.count("Read-only file system") == 2
    finally:
        subprocess.run(["umount", source / "below"], check=True)


@OURS_AND_RUNC  # crun leaves dangling links alone
def test_a_mount_point_through_links_stays_inside(case: Case) -> None:
    source = case.place / "source"
    source.mkdir()
    (source / "mark").write_text("m")
    (case.rootfs / "real").mkdir()
    (case.rootfs / "link").symlink_to("/real")
    (case.rootfs / "up").symlink_to("../../../../../../real")
    (case.rootfs / "dangling").symlink_to("/made/later")
    spec = with_mounts(
        case, "sh", "-c", "ls /real/a /real/b /made/later",
        mounts=[bind(source, "/link/a"), bind(source, "/up/b"), bind(source, "/dangling")],
    )  # fmt: skip
    result = case.run(spec=spec)
    assert result.out.count("mark") == 3, result
    assert not Path("/real").exists()
    assert not Path("/made").exists()


@OURS_AND_RUNC
@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (bind("/nonexistent/x", "/x"), "no such file or directory"),
        ({"destination": "/x", "type": "nofs", "source": "x"}, "no such device"),
        (bind("/tmp", "/proc/foo"), "inside /proc"),
        (bind("/tmp", "/proc"), "/proc"),
        ({"destination": "/etc/passwd/x", "type": "tmpfs", "source": "t"}, "not a directory"),
    ],
)
def test_mounts_that_cannot_be(case: Case, mount: dict[str, Any], words: str) -> None:
    result = case.run(spec=with_mounts(case, "true", mounts=[mount]))
    assert result.code == 1
    assert words in result.err
    assert "error mounting" in result.err


@OURS_AND_RUNC  # each crun command runs in a mount namespace of its own here
@pytest.mark.parametrize(("option", "seen"), [("rprivate", False), ("rslave", True)])
def test_propagation(case: Case, option: str, seen: bool) -> None:
    source = case.place / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "--bind", source, source], check=True)
    subprocess.run(["mount", "--make-shared", source], check=True)
    try:
        spec = with_mounts(case, "sleep", "1000", mounts=[bind(source, "/b", option)])
        case.started(spec=spec)
        subprocess.run(["mount", "-t", "tmpfs", "later", source / "below"], check=True)
        mounts = case.call("exec", case.id, "cat", "/proc/self/mounts").check().out
        assert ("later" in mounts) == seen
    finally:
        subprocess.run(["umount", "--recursive", source], check=True)


@pytest.mark.runtimes("ours", "warm", "crun")  # runc 1.1 leaves it private
@pytest.mark.parametrize(
    ("word", "seen"),
    [("", ""), ("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")],
)
def test_propagation_of_the_root(case: Case, word: str, seen: str) -> None:
    """The kernel tells it by the optional fields of the root's mount."""
    spec = case.configure("cat", "/proc/self/mountinfo")
    spec["linux"]["rootfsPropagation"] = word
    lines = case.run(spec=spec).check().out.splitlines()
    (root,) = [line.split() for line in lines if line.split()[4] == "/"]
    fields = root[6 : root.index("-")]
    assert [field for field in fields if field.startswith(seen)] if seen else fields == []


def test_masked_and_read_only_paths(case: Case) -> None:
    spec = case.configure(
        "sh", "-c", "cat /proc/version; ls /proc/bus; ls /proc/irq; touch /proc/sys/x; cat /etc/s"
    )
    (case.rootfs / "etc/s").write_text("secret")
    (case.rootfs / "etc/d").mkdir()
    (case.rootfs / "etc/d/x").write_text("secret")
    spec["linux"]["maskedPaths"] = [
        "/proc/version",
        "/proc/bus",
        "/proc/nothing",
        "/etc/s",
        "/etc/d",
    ]
    spec["linux"]["readonlyPaths"] = ["/proc/irq", "/proc/sys", "/proc/nothing2"]
    result = case.run(spec=spec)
    assert "secret" not in result.out
    assert "Linux version" not in result.out


@pytest.mark.version_2
def test_default_devices_and_links(case: Case) -> None:
    script = (
        "for d in null zero full random urandom tty; do [ -c /dev/$d ] && echo $d; done;"
        "for l in fd stdin ptmx; do readlink /dev/$l; done;"
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c"
    )
    out = case.run("sh", "-c", script).out.split()
    assert out[:6] == ["null", "zero", "full", "random", "urandom", "tty"]
    assert "/proc/self/fd" in out
    assert "/proc/self/fd/0" in out
    assert "2" in out


@pytest.mark.version_2
def test_configured_devices(case: Case) -> None:
    spec = case.configure(
        "sh", "-c", "stat -c '%F %a %u %g %t %T' /dev/mine /dev/pipe; cat /dev/mine"
    )
    spec["linux"]["devices"] = [
        {
            "path": "/dev/mine",
            "type": "c",
            "major": 1,
            "minor": 5,
            "fileMode": 0o640,
            "uid": 3,
            "gid": 4,
        },
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
    ]
    spec["process"]["args"][2] += " | head -c 1 | wc -c"
    lines = case.run(spec=spec).out.splitlines()
    assert lines[0].startswith("character special file 640 3 4 1 5")
    assert lines[1].startswith("fifo 600 0 0")


@pytest.mark.version_2
def test_other_devices_are_denied(case: Case) -> None:
    """Also when the list of rules is empty (GHSA-g54h-m393-cpwq)."""
    for rules in ([], [{"allow": False, "access": "rwm"}]):
        spec = case.configure(
            "sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; rm /tmp/kmsg"
        )
        spec["linux"]["resources"]["devices"] = rules
        names = ["CAP_MKNOD", "CAP_DAC_OVERRIDE"]
        spec["process"]["capabilities"] = dict.fromkeys(
            ("bounding", "effective", "permitted"), names
        )
        result = case.run(spec=spec)
        assert "Operation not permitted" in result.err, (rules, result)


@pytest.mark.version_2
def test_an_allowed_device(case: Case) -> None:
    spec = case.configure("sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg >/dev/null")
    spec["linux"]["resources"]["devices"] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
    ]
    names = ["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG"]
    spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    assert case.run(spec=spec).check()


def test_hostname_and_sysctls(case: Case) -> None:
    spec = case.configure(
        "sh", "-c", "hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
    )
    spec["hostname"] = "another"
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
    assert case.run(spec=spec).out.split() == ["another", "1", "4096"]


@OURS_AND_RUNC
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.panic", "1"),
        ("kernel.core_pattern", "|/x"),
        ("net.nothing", "1"),
        ("vm.swappiness", "1"),
    ],
)
def test_sysctls_of_the_host(case: Case, name: str, value: str) -> None:
    spec = case.configure("true")
    spec["linux"]["sysctl"] = {name: value}
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    assert case.run(spec=spec).code == 1
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_network_namespace_by_path(case: Case) -> None:
    name = case.id
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "mark0", "type", "bridge"], check=True)
        spec = case.configure("sh", "-c", "ls /sys/class/net")
        for entry in spec["linux"]["namespaces"]:
            if entry["type"] == "network":
                entry["path"] = f"/run/netns/{name}"
        assert "mark0" in case.run(spec=spec).out
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_joining_another_containers_namespaces(case: Case) -> None:
    case.started("sleep", "1000")
    pid = case.runtime.pid(case.id)
    other = Case(case.runtime, case.place / "other")
    other.place.mkdir(exist_ok=True)
    spec = other.configure("sh", "-c", "ps; hostname")
    spec.pop("hostname")
    kinds = {"pid": "pid", "ipc": "ipc", "uts": "uts"}
    for entry in spec["linux"]["namespaces"]:
        if entry["type"] in kinds:
            entry["path"] = f"/proc/{pid}/ns/{kinds[entry['type']]}"
    result = other.run(spec=spec)
    assert "sleep 1000" in result.out
    assert "busybox" in result.out


@pytest.mark.version_2
class TestLimits:
    def test_limits_are_in_the_cgroup(self, case: Case) -> None:
        spec = case.configure("sleep", "1000")
        spec["linux"]["resources"].update(
            memory={"limit": 64 << 20, "reservation": 32 << 20},
            cpu={"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
            pids={"limit": 33},
        )
        case.started(spec=spec)
        assert limit(case.id, "memory.limit_in_bytes") == str(64 << 20)
        assert limit(case.id, "memory.soft_limit_in_bytes") == str(32 << 20)
        assert limit(case.id, "cpu.shares") == weight(512)
        assert limit(case.id, "cpu.cfs_quota_us") == quota(50000, 100000)
        assert limit(case.id, "cpuset.cpus") == "0"
        assert limit(case.id, "pids.max") == "33"
        case.call("update", "--memory", str(96 << 20), "--pids-limit", "44", case.id).check()
        assert limit(case.id, "memory.limit_in_bytes") == str(96 << 20)
        assert limit(case.id, "pids.max") == "44"

    def test_update_by_file(self, case: Case) -> None:
        case.started("sleep", "1000")
        file = case.place / "resources.json"
        file.write_text('{"cpu": {"shares": 700}, "memory": {"limit": 50331648}}')
        case.call("update", "--resources", str(file), case.id).check()
        assert limit(case.id, "cpu.shares") == weight(700)
        assert limit(case.id, "memory.limit_in_bytes") == str(48 << 20)

    def test_memory_is_kept(self, case: Case) -> None:
        spec = case.configure("sh", "-c", "head -c 100000000 /dev/zero | tail | wc -c; echo $?")
        spec["linux"]["resources"]["memory"] = {"limit": 16 << 20}
        result = case.run(spec=spec)
        assert "100000000" not in result.out

    def test_pids_are_kept(self, case: Case) -> None:
        spec = case.configure("sh", "-c", "sleep 1 & sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait")
        spec["linux"]["resources"]["pids"] = {"limit": 3}
        assert "can't fork" in case.run(spec=spec).err

    @OURS_AND_RUNC
    def test_a_limit_the_kernel_refuses(self, case: Case) -> None:
        spec = case.configure("true")
        spec["linux"]["resources"]["cpu"] = {"cpus": "77"}
        result = case.run(spec=spec)
        assert result.code == 1
        assert 'failed to write "77"' in result.err.replace('\\"', '"')


def calls_before(name: str) -> list[str]:
    """The system calls of this machine with lower numbers."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    native = library.seccomp_arch_native()
    numbers = range(library.seccomp_syscall_resolve_name(name.encode()))
    found = (library.seccomp_syscall_resolve_num_arch(native, number) for number in numbers)
    return [call.decode() for call in found if call]


class TestSeccomp:
    def profile(self, *names: str, action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
        return {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": list(names), "action": action, **more}],
        }

    @pytest.mark.parametrize("no_new_privs", [True, False])
    def test_a_refused_call(self, case: Case, no_new_privs: bool) -> None:
        spec = case.configure("mkdir", "/tmp/x", noNewPrivileges=no_new_privs)
        spec["linux"]["seccomp"] = self.profile("mkdir", "mkdirat", errnoRet=errno.EXDEV)
        result = case.run(spec=spec)
        assert result.code == 1
        assert os.strerror(errno.EXDEV) in result.err

    def test_by_argument(self, case: Case) -> None:
        spec = case.configure("sh", "-c", "kill -0 1 && echo zero; kill -28 $$ || echo refused")
        argument = {"index": 1, "value": 28, "op": "SCMP_CMP_EQ"}
        spec["linux"]["seccomp"] = self.profile("kill", args=[argument])
        assert case.run(spec=spec).out == "zero\nrefused\n"

    def test_exec_is_filtered_too(self, case: Case) -> None:
        spec = case.configure("sleep", "1000")
        spec["linux"]["seccomp"] = self.profile("mkdir", "mkdirat")
        case.started(spec=spec)
        result = case.call(
            "exec", case.id, "sh", "-c", "mkdir /tmp/y; grep Seccomp: /proc/self/status"
        )
        assert "Operation not permitted" in result.err
        assert result.out.split() == ["Seccomp:", "2"]

    @OURS_AND_RUNC
    @pytest.mark.parametrize(
        ("later", "error"), [(("getrandom",), errno.EPERM), ((), errno.ENOSYS)]
    )
    def test_a_call_that_is_newer_than_all_it_names(
        self, case: Case, later: tuple[str, ...], error: int
    ) -> None:
        """Where the profile ends with a later call prlimit is refused; else it is unknown."""
        spec = case.configure("sh", "-c", "ulimit -v 100000")
        names = (*calls_before("prlimit64"), *later)
        spec["linux"]["seccomp"] = {
            **self.profile(*names, action="SCMP_ACT_ALLOW"),
            "defaultAction": "SCMP_ACT_ERRNO",
        }
        result = case.run(spec=spec)
        assert os.strerror(error) in result.err

    @OURS_AND_RUNC
    def test_a_bad_action(self, case: Case) -> None:
        spec = case.configure("true")
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_FOO"}
        result = case.run(spec=spec)
        assert result.code == 1
        assert "SCMP_ACT_FOO is not a valid action" in result.err


class TestTerminal:
    def receive(self, listener: socket.socket) -> int:
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        return fds[0]

    def test_console_socket(self, case: Case) -> None:
        path = case.place / "console"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(20)
            spec = case.configure(
                "sh", "-c", "tty; stty size; ls -l /dev/console; cat", terminal=True
            )
            spec["process"]["consoleSize"] = {"height": 30, "width": 90}
            case.write(spec)
            arguments = ("--bundle", str(case.bundle), "--console-socket", str(path), case.id)
            case.call("create", *arguments).check()
            master = self.receive(listener)
        try:
            case.call("start", case.id).check()
            data = read_until(master, b"/dev/console\r\n")
            assert b"/dev/pts/0" in data or b"/dev/console" in data
            assert b"30 90" in data
            os.write(master, b"typed\n")
            read_until(master, b"typed\r\ntyped\r\n")
            os.write(master, b"\x04")
            case.runtime.wait_stopped(case.id)
        finally:
            os.close(master)

    def test_exec_with_a_terminal(self, case: Case) -> None:
        case.started("sleep", "1000")
        path = case.place / "console"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(20)
            argv = ("exec", "--tty", "--detach", "--console-socket", str(path), case.id)
            case.call(*argv, "sh", "-c", "tty; read line; echo got $line").check()
            master = self.receive(listener)
        try:
            os.write(master, b"a line\n")
            assert b"/dev/pts/0" in read_until(master, b"got a line\r\n")
        finally:
            os.close(master)

    @OURS_AND_RUNC
    def test_a_terminal_needs_somebody(self, case: Case) -> None:
        result = case.create("true", terminal=True)
        assert (
            "cannot allocate tty if runc will detach without setting console socket" in result.err
        )


class TestHooks:
    def hook(self, case: Case, name: str) -> dict[str, Any]:
        script = f"cat > {case.place}/{name}.state; echo {name} >> {case.place}/order"
        return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}

    def test_in_their_order_with_the_state(self, case: Case) -> None:
        spec = case.configure("sh", "-c", "echo run >> /order/order")
        spec["mounts"].append(bind(case.place, "/order"))
        outer = ("prestart", "createRuntime", "poststart", "poststop")
        spec["hooks"] = {name: [self.hook(case, name)] for name in outer}
        case.started(spec=spec)
        case.runtime.wait_stopped(case.id)
        case.call("delete", case.id).check()
        order = (case.place / "order").read_text().split()
        assert order[:2] == ["prestart", "createRuntime"]
        assert order[-1] == "poststop"
        assert set(order[2:4]) == {"run", "poststart"}
        assert case.id in (case.place / "createRuntime.state").read_text()

    @pytest.mark.parametrize("point", ["prestart", "createRuntime"])
    def test_they_find_the_process_in_its_cgroups(self, case: Case, point: str) -> None:
        number = r"""sed 's/.*"pid":\([0-9]*\).*/\1/'"""
        script = f"cat /proc/$({number})/cgroup >{case.place}/groups"
        spec = case.configure("true")
        spec["linux"]["cgroupsPath"] = f"/bq-{case.id}"
        spec["hooks"] = {point: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
        case.create(spec=spec).check()
        groups = (case.place / "groups").read_text().splitlines()
        assert all(line.endswith(f":/bq-{case.id}") for line in groups if ":memory:" in line)
        assert any(line.endswith(f":/bq-{case.id}") for line in groups)

    @pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer"])
    def test_a_failure_undoes_the_container(self, case: Case, point: str) -> None:
        spec = case.configure("true")
        spec["hooks"] = {point: [{"path": "/bin/false"}]}
        assert case.create(spec=spec).code in (1, 255)
        assert case.call("state", case.id).code == 1

    @OURS_AND_RUNC
    def test_one_that_takes_too_long(self, case: Case) -> None:
        spec = case.configure("true")
        hook = {"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}
        spec["hooks"] = {"createRuntime": [hook]}
        result = case.create(spec=spec)
        assert result.code == 1
        assert "hook ran past specified timeout" in result.err


@pytest.mark.runtimes("ours", "runc")
def test_run_on_the_callers_terminal(case: Case) -> None:
    """In the foreground with a terminal: what is typed goes in, raw; what is shown comes out."""
    case.write(case.configure("sh", terminal=True))
    argv = case.runtime.argv("run", "--bundle", str(case.bundle), case.id)
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    termios.tcsetwinsize(master, (33, 77))
    data = b""
    try:
        os.write(master, b"stty size; echo a$((20+3))b; tty\n")
        data = read_until(master, b"/dev/pts/0\r\n")
        assert b"a23b\r\n" in data
        os.write(master, b"sleep 100\n")
        wait_for(lambda: "sleep" in case.call("ps", case.id).out)
        os.write(master, b"\x03")
        os.write(master, b"exit 9\n")
        read_until(master, b"exit 9\r\n")
    except BaseException:
        case.call("delete", "--force", case.id)
        raise
    finally:
        status = os.waitpid(pid, 0)[1]
        os.close(master)
    assert os.waitstatus_to_exitcode(status) == 9


def read_until(master: int, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        assert select.select([master], [], [], 20)[0], data
        data += os.read(master, 4096)
    return data
