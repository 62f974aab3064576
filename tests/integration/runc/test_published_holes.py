"""Published holes of other runtimes, one test each, named by the id: the attack, on ours.

More are in test_attacks.py (grouped by what they attack), test_process.py and test_rootfs.py.
"""

import os
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.integration.runc.test_attacks import give_capabilities, swapping
from tests.support.cgroups import VERSION_2
from tests.support.runtimes import cgroups_of, wait_for

pytestmark = [pytest.mark.root, pytest.mark.runtimes("warm")]
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


@contextmanager
def canary(case: Case) -> Iterator[Path]:
    """A directory and a file of the host that must stay as they are."""
    outside = case.place / "outside"
    outside.mkdir()
    (outside / "file").write_text("of the host")
    before = os.stat(outside).st_mtime_ns
    yield outside
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == "of the host"
    assert os.stat(outside).st_mtime_ns == before
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()


def status_of(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in lines}


def test_cve_2016_9962_descriptors_of_an_exec(case: Case) -> None:
    """The container looks at the descriptors of each process that enters it, before it executes.

    It may have CAP_SYS_PTRACE, which sees through a process that is not dumpable.
    """
    script = (
        "stat -c 'root %d:%i' /; while :; do for p in /proc/[0-9]*; do [ $p = /proc/$$ ] ||"
        " for f in $p/fd/*; do t=$(readlink $f) && echo $t $(stat -L -c %d:%i $f); done; done; done"
    )
    spec = case.configure("sh", "-c", f"({script}) 2>/dev/null")
    give_capabilities(spec, "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE")
    case.started(spec=spec)
    wait_for(lambda: "root" in case.output.read_text())
    for _ in range(40):
        case.call("exec", case.id, "true").check()
    lines = case.output.read_text(errors="replace").splitlines()
    root = lines[0].split()[1]
    harmless = (
        str(case.place / "io-"),
        "/dev/null",
        "/memfd:",
        "pipe:",
        "socket:",
        "/proc/",
        "/etc/passwd",
    )
    for line in lines[1:-1]:
        target, _, inode = line.partition(" ")
        assert target.startswith(harmless) or (target, inode) in (("/", root), ("/", "")), line


def test_cve_2025_24965_and_2015_3629_links_at_each_file_that_is_made(case: Case) -> None:
    """Wherever the runtime makes a file or directory in the image, a link leads to the host's."""
    with canary(case) as outside:
        spec = case.configure("true")
        source = case.place / "source"
        source.write_text("x")
        for name in ("hosts", "hostname", "resolv.conf", "mtab"):
            (case.rootfs / "etc" / name).symlink_to(outside / f"made-{name}")
            mount = {"destination": f"/etc/{name}", "type": "bind", "source": str(source)}
            spec["mounts"].append({**mount, "options": ["bind"]})
        for number, target in enumerate((f"{outside}/directory", f"../../../..{outside}/d")):
            (case.rootfs / f"link{number}").symlink_to(target)
            spec["mounts"].append(
                {"destination": f"/link{number}/below", "type": "tmpfs", "source": "tmpfs"}
            )
        (case.rootfs / "cwd").symlink_to(outside)
        spec["process"]["cwd"] = "/cwd/made"
        assert case.run(spec=spec).code == 0
        assert (case.rootfs / str(outside).lstrip("/")).is_dir()  # made inside


@pytest.mark.parametrize(
    "destination",
    ["/proc", "//proc", "/proc/", "/proc/sys", "/proc/self/attr", "/proc/cpuinfo/x", "/a/../proc"],
)
def test_cve_2015_3630_and_2019_16884_volumes_over_proc(case: Case, destination: str) -> None:
    """A volume over /proc makes files of what the runtime writes its labels to."""
    volume = case.place / "volume"
    (volume / "self/attr").mkdir(parents=True)
    (volume / "self/attr/exec").write_text("")
    spec = case.configure("true")
    mount = {"destination": destination, "type": "bind", "source": str(volume)}
    spec["mounts"].append({**mount, "options": ["rbind"]})
    result = case.run(spec=spec)
    assert result.code == 1
    assert "/proc" in result.err
    assert (volume / "self/attr/exec").read_text() == ""


def test_cve_2019_19921_proc_below_a_shared_volume(case: Case) -> None:
    """The parent of /proc is a volume in which another container swaps the directory."""
    with canary(case) as outside:
        volume = case.place / "volume"
        (volume / "proc").mkdir(parents=True)
        (volume / "other").symlink_to(outside)
        spec = case.configure("true")
        spec["mounts"] += [
            {"destination": "/v", "type": "bind", "source": str(volume), "options": ["rbind"]},
            {"destination": "/v/proc", "type": "proc", "source": "proc"},
        ]
        with swapping(volume / "proc", volume / "other"):
            codes = {case.run(spec=spec).code for _ in range(40)}
        assert codes <= {0, 1}


def test_cve_2025_52565_the_console(case: Case) -> None:
    """The image's /dev/console, /dev/pts and /dev/ptmx lead elsewhere."""
    for own_dev in (True, False):
        with canary(case) as outside:
            spec = case.configure("sh", "-c", "echo in; tty", terminal=True)
            if not own_dev:
                spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/dev"]
            for name in ("console", "ptmx"):
                link = case.rootfs / "dev" / name
                link.unlink(missing_ok=True)
                link.symlink_to(outside / "file")
            pts = case.rootfs / "dev/pts"
            if pts.is_symlink():
                pts.unlink()
            elif pts.exists():
                shutil.rmtree(pts)
            if not own_dev:
                pts.symlink_to(outside)
            run_on_a_terminal(case, spec)
        shutil.rmtree(outside)


def run_on_a_terminal(case: Case, spec: dict[str, Any]) -> None:
    path = case.place / "console"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        case.write(spec)
        arguments = ("--bundle", str(case.bundle), "--console-socket", str(path), case.id)
        code = case.call("create", *arguments).code
        if code == 0:
            case.call("start", case.id).check()
            case.runtime.wait_stopped(case.id)
        if select.select([listener], [], [], 0)[0]:
            connection, _ = listener.accept()
            with connection:
                _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
            for fd in fds:
                os.close(fd)
    case.call("delete", "--force", case.id).check()


@pytest.mark.runtimes("ours")
@pytest.mark.parametrize("below", ["sys/net/ipv4", "self"])
def test_cve_2025_52881_another_filesystem_over_proc(case: Case, below: str) -> None:
    """Who prepares the host's /proc so that a write of the runtime lands elsewhere gains none."""
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj"
    spec = case.configure("sh", "-c", script, oomScoreAdj=77)
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    case.write(spec)
    fake = case.place / "fake"
    fake.mkdir()
    for name in ("ip_forward", "oom_score_adj"):
        (fake / name).write_text("untouched")
    mount = (
        f"mount --bind {fake} /proc/{below}"
        if below != "self"
        else (f"mount --bind {fake}/oom_score_adj /proc/sys/net/ipv4/ip_forward")
    )
    argv = case.runtime.argv("run", "--bundle", str(case.bundle), case.id)
    script = f'{mount} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *argv], capture_output=True, check=False
    )
    assert done.returncode == 1 or done.stdout.split() == [b"1", b"77"], done
    assert {path.read_text() for path in fake.iterdir()} == {"untouched"}


def test_cve_2026_55686_a_working_directory_below_a_link(case: Case) -> None:
    with canary(case) as outside:
        (case.rootfs / "below").symlink_to(outside)
        (case.rootfs / str(outside).lstrip("/")).mkdir(parents=True)
        assert case.run("pwd", cwd="/below/made").check().out.endswith("/made\n")
        assert (case.rootfs / str(outside).lstrip("/") / "made").is_dir()


@pytest.mark.runtimes("warm", "runc")
def test_cve_2016_8867_and_2022_24769_capabilities_of_a_user(case: Case) -> None:
    """A user has no ambient and no inheritable capability that its config does not give."""
    spec = case.configure("cat", "/proc/self/status", user={"uid": 1000, "gid": 1000})
    spec["process"]["capabilities"] = {
        name: ["CAP_CHOWN", "CAP_KILL"] for name in ("bounding", "effective", "permitted")
    }
    case.write(spec)
    texts = [case.run(spec=spec).check().out]
    spec["process"]["args"] = ["sleep", "1000"]
    case.started(spec=spec)
    texts.append(case.call("exec", case.id, "cat", "/proc/self/status").check().out)
    for status in map(status_of, texts):
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[name], 16) == 0, name


@pytest.mark.runtimes("ours")
def test_cve_2022_36109_groups_of_the_caller(case: Case) -> None:
    """The caller's supplementary groups are not the container's."""
    case.write(case.configure("id", "-G", user={"uid": 1000, "gid": 1001}))
    argv = case.runtime.argv("run", "--bundle", str(case.bundle), case.id)
    done = subprocess.run(argv, capture_output=True, check=True, extra_groups=[4, 27])
    assert done.stdout.split() == [b"1001"]


@pytest.mark.parametrize(
    "user", ["-1", "+0", "0x0", " 0", "4294967295", "4294967296", "1:", "1:x", "x", "", "1:-1"]
)
def test_cve_2026_30892_users_of_exec(case: Case, user: str) -> None:
    """What is no number of a user is refused (runc 1.1 takes 4294967296 for root)."""
    case.started("sleep", "1000")
    result = case.call("exec", "--user", user, case.id, "id", "-u")
    assert result.code == 255 or user == "", result
    assert "0\n" not in result.out or user == ""


def test_cve_2021_43784_very_many_mappings(case: Case) -> None:
    """70 kB of mappings are an error, and nothing wraps."""
    spec = case.configure("true")
    spec["linux"]["namespaces"].append({"type": "user"})
    many = [{"containerID": n, "hostID": 200000 + n, "size": 1} for n in range(4000)]
    spec["linux"].update(uidMappings=many, gidMappings=many)
    case.place.chmod(0o755)
    result = case.run(spec=spec)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1


def choose_namespaces(spec: dict[str, Any], *, cgroup: bool, user: bool) -> None:
    kinds = [n for n in spec["linux"]["namespaces"] if n["type"] != "cgroup"]
    if cgroup:
        kinds.append({"type": "cgroup"})
    if user:
        kinds.append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        spec["linux"].update(uidMappings=mapping, gidMappings=mapping)
        for mount in spec["mounts"]:
            mount["options"] = [o for o in mount.get("options", []) if not o.startswith("gid=")]
    spec["linux"]["namespaces"] = kinds


@pytest.mark.version_2
@pytest.mark.runtimes("warm", "runc")
@pytest.mark.parametrize("cgroup_namespace", [True, False])
@pytest.mark.parametrize("user_namespace", [True, False])
def test_cve_2023_25809_cgroups_are_read_only(
    case: Case, cgroup_namespace: bool, user_namespace: bool
) -> None:
    """Where they are mounted read-only nothing can be made or written in them."""
    case.place.chmod(0o755)
    files = "/sys/fs/cgroup /sys/fs/cgroup/*"
    script = f"for d in {files}; do mkdir $d/probe && echo $d; echo 0 > $d/cgroup.procs; done"
    spec = case.configure("sh", "-c", f"({script}) 2>/dev/null; cat /proc/self/cgroup")
    options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
    spec["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}
    )
    choose_namespaces(spec, cgroup=cgroup_namespace, user=user_namespace)
    for line in case.run(spec=spec).check().out.splitlines():
        assert line.count(":") >= 2, f"{line} is writable"
    assert not [path for path in cgroups_of("probe") if case.id in str(path)]


@pytest.mark.version_2
@pytest.mark.parametrize("cgroup_namespace", [True, False])
@pytest.mark.parametrize("user_namespace", [True, False])
def test_cve_2023_6476_the_container_is_in_its_cgroup(
    case: Case, cgroup_namespace: bool, user_namespace: bool
) -> None:
    """Seen from outside, whatever its namespaces and annotations are; and it cannot leave."""
    case.place.chmod(0o755)
    script = "echo 1 2>/dev/null > /sys/fs/cgroup/../memory/cgroup.procs; exec sleep 1000"
    spec = case.configure("sh", "-c", script)
    spec["annotations"] = {
        "io.kubernetes.cri-o.userns-mode": "auto",
        "org.systemd.property.CPUQuota": "100",
        "run.oci.systemd.subgroup": "/",
    }
    choose_namespaces(spec, cgroup=cgroup_namespace, user=user_namespace)
    case.started(spec=spec)
    for line in Path(f"/proc/{case.runtime.pid(case.id)}/cgroup").read_text().splitlines():
        assert line.endswith(f"/{case.id}") or line.split(":")[1] not in (
            "cpu", "memory", "devices", "freezer", "pids", *([""] if VERSION_2 else []),
        )  # fmt: skip


@pytest.mark.parametrize("value", ["1+kernel.core_pattern=|/x", "1\nkernel.panic=1", "1\0"])
def test_cve_2022_0811_values_of_sysctls(case: Case, value: str) -> None:
    spec = case.configure("true")
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": value}
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    result = case.run(spec=spec)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


@pytest.mark.version_2
def test_cve_2022_0492_release_agent(case: Case) -> None:
    """The cgroup mount has the container's own directories, where no release_agent is; it is
    read-only, and a container without capabilities mounts no other."""
    a_file = "cgroup.max.depth" if VERSION_2 else "memory/notify_on_release"
    script = (
        f"find /sys/fs/cgroup -name release_agent; echo 1 > /sys/fs/cgroup/{a_file};"
        " unshare -Ur -m sh -c 'mount -t cgroup -o rdma x /tmp; ls /tmp/release_agent'; echo end"
    )
    spec = case.configure("sh", "-c", script)
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    spec["mounts"].append({**mount, "options": ["nosuid", "noexec", "nodev", "ro"]})
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["unshare", "mount"], "action": "SCMP_ACT_ERRNO"}],
    }
    result = case.run(spec=spec).check()
    assert result.out == "end\n"
    assert "Read-only file system" in result.err


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_setgroups_and_setuid_programs(case: Case, no_new_privs: bool) -> None:
    """A user cannot drop a group that forbids, nor gain by a setuid program when told not to."""
    program = case.rootfs / "bin/raised"
    shutil.copy(case.rootfs / "bin/busybox", program)
    os.chown(program, 0, 0)
    program.chmod(0o4755)
    forbidden = case.rootfs / "forbidden"
    forbidden.write_text("secret")
    os.chown(forbidden, 0, 77)
    forbidden.chmod(0o604)
    user = {"uid": 1000, "gid": 1000, "additionalGids": [77]}
    script = "cat /forbidden; raised id -u"
    spec = case.configure("sh", "-c", script, user=user, noNewPrivileges=no_new_privs)
    spec["process"]["capabilities"] = {}
    (case.rootfs / "bin/id").unlink()
    (case.rootfs / "bin/id").symlink_to("raised")
    spec["process"]["args"][2] = "cat /forbidden; /bin/id -u"
    result = case.run(spec=spec)
    assert "secret" not in result.out
    assert "Permission denied" in result.err
    assert result.out.split() == ["1000"]


def test_exec_into_a_hostile_container(case: Case) -> None:
    """Its programs, links and terminals are the container's: the runtime's own files are not."""
    with canary(case) as outside:
        case.started("sleep", "1000")
        for name in ("passwd", "group", "ld.so.preload", "nsswitch.conf"):
            path = case.rootfs / "etc" / name
            path.unlink(missing_ok=True)
            path.symlink_to(outside / "file")
        (case.rootfs / "bin/evil").symlink_to("/proc/self/exe")
        for argv in (("/bin/evil", "-c", "print(1)"), ("evil",), ("/proc/self/exe",)):
            assert case.call("exec", case.id, *argv).out == ""
        assert case.call("exec", "--cwd", "/proc/self/root/../..", case.id, "pwd").out in (
            "",
            "/\n",
        )
        assert case.call("exec", "--user", "1000", case.id, "id", "-u").out == "1000\n"


@pytest.mark.parametrize(
    "names", [SETS, ("inheritable",), ("ambient", "inheritable"), ("ambient",)]
)
def test_capability_sets_hold_what_they_are_given(case: Case, names: tuple[str, ...]) -> None:
    """No set gets what only another was given."""
    spec = case.configure("cat", "/proc/self/status", user={"uid": 1000, "gid": 1000})
    given = {name: ["CAP_CHOWN"] for name in names}
    spec["process"]["capabilities"] = given
    result = case.run(spec=spec)
    if result.code:  # the kernel: what is not in the bounding set cannot be inheritable
        assert "capset: operation not permitted" in result.err
        return
    status = status_of(result.out)
    columns = dict(zip(SETS, ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"), strict=True))
    for name, column in columns.items():
        if name not in names:
            assert int(status[column], 16) == 0, column
