"""Attacks on the runtime by a hostile image or a hostile container: DESIGN's invariants 1 to 3."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from barque.linux import memfd
from tests.integration.runc.conftest import Case
from tests.support.cgroups import group, tops
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.runtimes("ours", "warm")]

ALL_SETS = ("bounding", "effective", "permitted")
# Looks at its own /proc/self/exe from inside: writes only to what is sealed, so that the host's
# interpreter survives a run against a vulnerable design.
OVERWRITE = """
import os
fd = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(fd, True)
print("runs", os.readlink("/proc/self/exe"), flush=True)
import fcntl
try:
    seals = fcntl.fcntl(fd, 1034)
except OSError:
    print("VULNERABLE: not sealed", flush=True)
    os._exit(0)
os.execv("/bin/sh", ["sh", "-c", "echo seals %d; echo x >> /proc/self/fd/%d" % (seals, fd)])
"""


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def interpreter_files() -> list[Path]:
    """The interpreter and the libraries that it is linked with."""
    executable = Path(sys.executable).resolve()
    lines = subprocess.run(["ldd", executable], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(?:=> )?(/\S+) \(", lines)
    return [executable, *(Path(library) for library in libraries)]


def plant(case: Case, path: Path | str, content: str) -> None:
    """Write a file of the image at the place where the host has one of this path."""
    target = case.rootfs / str(path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)


def give_capabilities(spec: dict[str, Any], *names: str) -> None:
    spec["process"]["capabilities"] = {kind: list(names) for kind in ALL_SETS}


class TestTheInterpreter:
    """CVE-2019-5736: the container gets hold of the runtime's own binary."""

    def test_as_the_entry_point(self, case: Case) -> None:
        hashes = [sha256(path) for path in interpreter_files()]
        for path in interpreter_files():
            for name in (path, Path("/lib64") / path.name):
                copy = case.rootfs / str(name).lstrip("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        library = Path(sys.base_prefix) / "lib" / version
        inside = case.rootfs / str(library).lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        shutil.copytree(library / "encodings", inside / "encodings", dirs_exist_ok=True)
        shutil.copy(library / "os.py", inside)
        for dynamic in (library / "lib-dynload").glob("fcntl*"):
            (inside / "lib-dynload").mkdir(exist_ok=True)
            shutil.copy(dynamic, inside / "lib-dynload")
        spec = case.configure("/proc/self/exe", "-I", "-S", "-c", OVERWRITE)
        give_capabilities(spec, "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE")
        result = case.run(spec=spec)
        assert "VULNERABLE" not in result.out
        if "runs" in result.out:  # the attack got as far as it can: it has a sealed copy
            assert "runs /memfd:" in result.out, result
            assert "Operation not permitted" in result.err or "Text file busy" in result.err
        else:  # nothing of the host is to be had: an empty file is no program
            assert "exec format error" in result.err, result
        assert [sha256(path) for path in interpreter_files()] == hashes

    def test_as_the_interpreter_of_a_script(self, case: Case) -> None:
        hashes = [sha256(path) for path in interpreter_files()]
        plant(case, "/script", "#!/proc/self/exe\n")
        (case.rootfs / "script").chmod(0o755)
        assert case.run("/script").code != 0
        assert [sha256(path) for path in interpreter_files()] == hashes

    def test_seen_by_a_container_that_may_ptrace(self, case: Case) -> None:
        """Processes that enter by exec are visible; their binary is the sealed copy."""
        script = (
            "while :; do for p in /proc/[0-9]*; do readlink $p/exe; ls -l $p/fd 2>/dev/null; done;"
            " done"
        )
        spec = case.configure("sh", "-c", script)
        give_capabilities(spec, "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE")
        case.started(spec=spec)

        def seen() -> str:
            return case.output.read_text(errors="replace")

        tries = iter(range(200))

        def entered() -> bool:
            next(tries)
            case.call("exec", case.id, "true").check()
            return "/memfd:barque" in seen()

        wait_for(entered)
        text = seen()
        assert "python" not in text.replace("/memfd:barque", "")
        assert str(case.runtime.root) not in text

    def test_the_waiting_process_shows_nothing(self, case: Case) -> None:
        spec = case.configure("true", user={"uid": 1000, "gid": 1000})
        case.create(spec=spec).check()
        pid = case.runtime.pid(case.id)
        assert "Uid:\t1000" in Path(f"/proc/{pid}/status").read_text()
        assert os.stat(f"/proc/{pid}/fd").st_uid == 0  # the user may not look: not dumpable
        assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:barque")
        assert memfd.is_sealed(f"/proc/{pid}/exe")
        assert sys.executable not in Path(f"/proc/{pid}/maps").read_text()
        assert str(Path(sys.executable).resolve()) not in Path(f"/proc/{pid}/maps").read_text()
        links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert not [link for link in links if link == "/" or "cgroup" in link or link == "/proc"]


class TestCodeOfTheImage:
    """Invariant 1: nothing of the image is loaded by a process of ours."""

    def test_planted_modules_are_not_run(self, case: Case) -> None:
        evil = "open('/pwned', 'w').write('x')\nraise SystemExit(0)\n"
        roots = [Path(p) for p in sys.path if p.startswith("/")]
        roots += [Path(sys.base_prefix) / "lib/python3.11", Path("/usr/lib/python3.11")]
        names = ("encodings/idna.py", "codecs.py", "os.py", "json.py", "traceback.py", "ctypes.py")
        for root in roots:
            for name in (*names, "linecache.py", "sitecustomize.py", "encodings/utf_16.py"):
                plant(case, root / name, evil)
        plant(case, "/etc/nsswitch.conf", "passwd: evil\nhosts: evil\n")
        plant(case, "/lib/libnss_evil.so.2", "not a library")
        plant(case, "/etc/ld.so.preload", "/lib/libnss_evil.so.2\n")
        plant(case, "/usr/lib/locale/locale-archive", "x")
        for user in ({"uid": 0, "gid": 0}, {"uid": 65534, "gid": 65534, "additionalGids": [7]}):
            assert case.run("true", user=user).code == 0
        for args in (("nothing",), ("/bin",)):
            assert case.run(*args).code == 1
        assert case.run("true", cwd="/bin/busybox").code == 1
        assert not (case.rootfs / "pwned").exists()

    @pytest.mark.runtimes("ours")
    def test_no_file_of_the_image_is_opened(self, case: Case) -> None:
        """The system calls of the container's process after pivot_root, by strace."""
        case.write(case.configure("true"))
        trace = case.place / "trace"
        argv = case.runtime.argv("run", "--bundle", str(case.bundle), case.id)
        subprocess.run(["strace", "-f", "-o", str(trace), *argv], check=True)
        lines = trace.read_text().splitlines()
        start = next(i for i, line in enumerate(lines) if "pivot_root" in line)
        pid = lines[start].split()[0]
        rest = [line for line in lines[start:] if line.startswith(f"{pid} ")]
        end = next(i for i, line in enumerate(rest) if "execve(" in line)
        opened = [line for line in rest[:end] if re.search(r"\bopen(at2?)?\(", line)]
        assert not opened

    @pytest.mark.parametrize("kind", ["link", "fifo", "directory", "huge", "endless", "long"])
    def test_hostile_passwd(self, case: Case, kind: str) -> None:
        passwd = case.rootfs / "etc/passwd"
        passwd.unlink()
        if kind == "link":
            secret = case.place / "secret"
            secret.write_text("x:x:0:0::/from-the-host:/bin/sh\n")
            passwd.symlink_to(secret)
        elif kind == "fifo":
            os.mkfifo(passwd)
        elif kind == "directory":
            passwd.mkdir()
        elif kind == "endless":
            os.mknod(passwd, 0o020666, os.makedev(1, 5))
        elif kind == "long":
            passwd.write_text("a" * (1 << 21))
        else:
            with passwd.open("wb") as file:
                file.truncate(10 << 30)
        result = case.run("sh", "-c", "echo $HOME", env=["PATH=/bin"])
        assert (result.code, result.out) == (0, "/\n")


class TestLinksInTheImage:
    """Invariant 3: no link leads a mount, a node or a file of ours out of the root."""

    @contextmanager
    def canary(self, case: Case) -> Iterator[Path]:
        """A directory of the host that must not change."""
        outside = case.place / "outside"
        outside.mkdir()
        (outside / "sys").mkdir()
        before = os.stat(outside).st_mtime_ns
        yield outside
        assert sorted(os.listdir(outside)) == ["sys"]
        assert os.listdir(outside / "sys") == []
        assert os.stat(outside).st_mtime_ns == before
        assert str(outside) not in Path("/proc/self/mountinfo").read_text()

    def replace(self, case: Case, name: str, target: Path | str) -> None:
        place = case.rootfs / name
        shutil.rmtree(place)
        place.symlink_to(target)

    @pytest.mark.parametrize("name", ["proc", "sys"])
    def test_kernel_trees_need_a_directory(self, case: Case, name: str) -> None:
        """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642."""
        with self.canary(case) as outside:
            self.replace(case, name, outside)
            assert case.run("true").code == 1
            (case.rootfs / name).unlink()
            (case.rootfs / "elsewhere").mkdir()
            (case.rootfs / name).symlink_to("/elsewhere")
            result = case.run("true")
            assert result.code == 1
            assert "ordinary directory" in result.err

    def test_dev_stays_inside(self, case: Case) -> None:
        """CVE-2026-41579: nodes and links were made where /dev led."""
        with self.canary(case) as outside:
            self.replace(case, "dev", outside)
            case.run("true")
            (case.rootfs / "dev").unlink()
            (case.rootfs / "dev").symlink_to("../../../../.." + str(outside))
            case.run("true")

    def test_files_of_dev_in_the_image(self, case: Case) -> None:
        """CVE-2025-31133: /dev/null of the image leads to a file of /proc."""
        spec = case.configure("cat", "/proc/version")
        spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/dev")]
        spec["linux"]["maskedPaths"] = ["/proc/version"]
        before = Path("/proc/sys/kernel/core_pattern").read_text()
        (case.rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
        result = case.run(spec=spec)
        assert result.code == 1
        assert "Linux version" not in result.out
        assert Path("/proc/sys/kernel/core_pattern").read_text() == before

    def test_mount_points_in_a_swapped_directory(self, case: Case) -> None:
        """CVE-2021-30465, CVE-2024-45310: the destination is swapped while mounts are made."""
        with self.canary(case) as outside:
            volume = case.place / "volume"
            (volume / "a").mkdir(parents=True)
            (volume / "b").symlink_to(outside)
            spec = case.configure("true")
            for number in range(6):
                spec["mounts"] += [
                    {"destination": "/volume", "type": "bind", "source": str(volume),
                     "options": ["rbind"]},
                    {"destination": f"/volume/a/sys/{number}", "type": "tmpfs", "source": "tmpfs"},
                ][number > 0 :]  # fmt: skip
            with swapping(volume / "a", volume / "b"):
                for _ in range(30):
                    case.run(spec=spec)

    def test_read_only_and_masked_links(self, case: Case) -> None:
        outside = case.place / "outside"
        outside.mkdir()
        (case.rootfs / "masked").symlink_to(outside)
        spec = case.configure("true")
        links = ["/masked", "/proc/self/cwd", "/proc/self/root/etc", f"/../../../..{outside}"]
        spec["linux"]["maskedPaths"] = links
        spec["linux"]["readonlyPaths"] = links
        case.create(spec=spec)
        (outside / "write").write_text("neither read-only nor covered")
        assert str(outside) not in Path("/proc/self/mountinfo").read_text()


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Exchange two names for as long as the block runs."""
    libc = ctypes.CDLL(None)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            libc.renameat2(-100, bytes(one), -100, bytes(other), 2)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class TestTheWorkingDirectory:
    """CVE-2024-21626: a descriptor of ours as the working directory."""

    def test_of_run(self, case: Case) -> None:
        for number in (*range(3, 20), 100):
            result = case.run(
                "sh", "-c", "pwd; ls ../../../../etc/hostname", cwd=f"/proc/self/fd/{number}"
            )
            assert result.code != 0
            assert result.out == ""

    def test_of_exec(self, case: Case) -> None:
        case.started("sleep", "1000")
        for number in range(3, 14):
            argv = ("exec", "--cwd", f"/proc/self/fd/{number}", case.id, "sh", "-c", "pwd; ls")
            result = case.call(*argv)
            assert result.code == 255, result
            assert result.out == ""

    def test_through_stdin(self, case: Case, place: Path) -> None:
        """The caller's own stdin may be a directory of the host."""
        case.write(case.configure("sh", "-c", "pwd; ls", cwd="/proc/self/fd/0"))
        stdin = os.open(place, os.O_RDONLY)
        out = os.memfd_create("out")
        err = os.memfd_create("err")
        try:
            arguments = ("run", "--bundle", str(case.bundle), case.id)
            assert case.runtime.execute(arguments, "/", [stdin, out, err]) == 1
            assert os.pread(out, 100, 0) == b""
            # the interpreter itself does not start with a directory as its standard input
            words = {"warm": b"outside of container mount namespace root", "ours": b"directory"}
            assert words[case.runtime.name] in os.pread(err, 4096, 0)
        finally:
            for fd in (stdin, out, err):
                os.close(fd)


@pytest.mark.parametrize(
    "user",
    [
        {"uid": 1 << 32, "gid": 0},
        {"uid": -1, "gid": 0},
        {"uid": (1 << 32) - 1, "gid": 0},
        {"uid": "0", "gid": 0},
        {"uid": True, "gid": 0},
        {"uid": 0, "gid": 0, "additionalGids": [1 << 33]},
    ],
)
def test_ids_do_not_wrap(case: Case, user: dict[str, Any]) -> None:
    """CVE-2024-40635: an id beyond the range became root."""
    result = case.run("id", user=user)
    assert (result.code, result.out) == (1, "")
    assert len(result.err.splitlines()) == 1


@pytest.mark.runtimes("ours")
def test_caller_descriptors_do_not_leak(case: Case) -> None:
    """CVE-2016-9962: what the caller left open and inheritable is closed."""
    secret = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        case.write(case.configure("sh", "-c", "ls /proc/1/fd; true"))
        argv = case.runtime.argv("run", "--bundle", str(case.bundle), case.id)
        done = subprocess.run(argv, capture_output=True, pass_fds=[secret], check=True)
        assert done.stdout.split() == [b"0", b"1", b"2"]
    finally:
        os.close(secret)


def test_the_filter_cache_is_not_taken_from_others(case: Case) -> None:
    """A cache that another user may write is not read: its filter could allow all."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    spec = case.configure("mkdir", "/tmp/x")
    spec["linux"]["seccomp"] = profile
    assert case.run(spec=spec).code == 1
    cache = case.runtime.root / "@seccomp"
    (file,) = cache.iterdir()
    allow_all = bytes.fromhex("0600000000 00ff7f".replace(" ", ""))
    file.write_bytes(allow_all)
    file.chmod(0o666)
    assert case.run(spec=spec).code == 1
    os.chown(file, 1000, 1000)
    assert case.run(spec=spec).code == 1
    assert os.stat(cache).st_mode & 0o777 == 0o700


@pytest.mark.version_2
class TestForeignCgroups:
    """A cgroup path that names what is not the container's must harm nobody."""

    def test_the_root_of_all(self, case: Case) -> None:
        for path in ("/", "/.", "/..", "//", "/a/.."):
            spec = case.configure("true")
            spec["linux"]["cgroupsPath"] = path
            assert "root of all cgroups" in case.run(spec=spec).err

    def test_one_with_processes_or_cgroups(self, case: Case) -> None:
        memory = group("memory", f"{case.id}o")
        below = memory / "below"
        below.mkdir(parents=True)
        try:
            spec = case.configure("true")
            spec["linux"]["cgroupsPath"] = f"/{memory.name}"
            assert case.run(spec=spec).code == 1
            assert below.exists()
            with subprocess.Popen(["sleep", "1000"]) as sleeper:
                (below / "cgroup.procs").write_text(str(sleeper.pid))
                assert "not empty" in case.run(spec=spec).err
                assert sleeper.poll() is None
                sleeper.kill()
        finally:
            below.rmdir()
            memory.rmdir()
        assert not tops(memory.name)
