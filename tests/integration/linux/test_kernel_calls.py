"""The wrappers of barque.linux on the real kernel."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque.linux import (
    capabilities,
    cgroup,
    fs,
    inode_flags,
    memfd,
    mount,
    namespaces,
    process,
    tty,
)
from tests.support import rootfs

pytestmark = pytest.mark.root
SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture
def place() -> Iterator[Path]:
    with rootfs.temporary() as directory:
        yield directory


def test_errors_name_call_and_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        mount.umount2("/nonexistent/x")
    assert str(caught.value).startswith("[Errno 2] umount2: ")
    assert caught.value.filename == "/nonexistent/x"
    with pytest.raises(ValueError, match="NUL"):
        mount.umount2("/a\0b")


class TestSpreading:
    def test_ext4_takes_the_hint_and_keeps_it(self, place: Path) -> None:
        kind = subprocess.run(
            ["stat", "--file-system", "--format=%T", place], check=True, capture_output=True
        ).stdout
        directory = place / "trees"
        directory.mkdir()
        for _ in range(2):
            assert inode_flags.spread_subdirectories(directory) == (kind.strip() == b"ext2/ext3")
        (directory / "one").mkdir()
        if kind.strip() == b"ext2/ext3":
            shown = subprocess.run(["lsattr", "-d", directory], check=True, capture_output=True)
            assert b"T" in shown.stdout.split()[0]

    def test_others_do_without(self, place: Path) -> None:
        mount.mount("tmpfs", str(place), "tmpfs", 0, "size=1m")
        try:
            assert not inode_flags.spread_subdirectories(place)
        finally:
            mount.umount2(place)

    def test_a_missing_directory_is_told(self, place: Path) -> None:
        with pytest.raises(FileNotFoundError):
            inode_flags.spread_subdirectories(place / "none")


class TestTrees:
    def test_remove_tree(self, place: Path) -> None:
        deep = place / "tree"
        (deep / "a/b").mkdir(parents=True)
        (deep / "a/file").write_text("x")
        (place / "outside").mkdir()
        (place / "outside/kept").write_text("x")
        (deep / "link").symlink_to(place / "outside")
        (deep / "a/dangling").symlink_to("/nonexistent")
        fs.remove_tree(deep)
        assert not deep.exists()
        assert (place / "outside/kept").exists()
        fs.remove_tree(deep)
        (place / "outside/one").write_text("x")
        fs.remove_tree(place / "outside/one")
        assert os.listdir(place / "outside") == ["kept"]

    def test_deeper_than_paths_may_be(self, place: Path) -> None:
        top = os.open(place, os.O_RDONLY)
        os.mkdir("deep", dir_fd=top)
        current = os.open("deep", os.O_RDONLY, dir_fd=top)
        for _ in range(400):
            os.mkdir("n" * 200, dir_fd=current)
            below = os.open("n" * 200, os.O_RDONLY, dir_fd=current)
            os.close(current)
            current = below
        os.close(current)
        os.close(top)
        fs.remove_tree(place / "deep")
        assert not (place / "deep").exists()

    def test_a_mount_is_not_crossed(self, place: Path) -> None:
        below = place / "tree/below"
        below.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", below], check=True)
        try:
            (below / "kept").write_text("x")
            with pytest.raises(OSError):
                fs.remove_tree(place / "tree")
            assert (below / "kept").exists()
        finally:
            subprocess.run(["umount", below], check=True)
        fs.remove_tree(place / "tree")

    def test_a_bind_mount_of_the_same_filesystem_neither(self, place: Path) -> None:
        (place / "source").mkdir()
        (place / "source/kept").write_text("x")
        below = place / "tree/below"
        below.mkdir(parents=True)
        subprocess.run(["mount", "--bind", place / "source", below], check=True)
        try:
            with pytest.raises(OSError):
                fs.remove_tree(place / "tree")
        finally:
            subprocess.run(["umount", below], check=True)
        assert (place / "source/kept").exists()


class TestResolving:
    def test_in_root(self, place: Path) -> None:
        (place / "etc").mkdir()
        (place / "etc/file").write_text("inside")
        (place / "link").symlink_to("/etc/file")
        (place / "up").symlink_to("../../../etc/file")
        root = os.open(place, os.O_PATH)
        try:
            for name in ("etc/file", "/etc/file", "link", "up", "../../etc/file"):
                fd = fs.open_in_root(root, name, os.O_RDONLY)
                assert fs.read_fd_bounded(fd) == b"inside"
                os.close(fd)
        finally:
            os.close(root)

    def test_beneath_takes_no_link_and_no_mount(self, place: Path) -> None:
        (place / "link").symlink_to("file")
        (place / "file").write_text("x")
        directory = os.open(place, os.O_PATH)
        proc = os.open("/", os.O_PATH)
        try:
            for name in ("link", "../x", "/etc"):
                with pytest.raises(OSError):
                    fs.open_beneath(directory, name, os.O_RDONLY)
            with pytest.raises(OSError) as caught:
                fs.open_beneath(proc, "proc/version", os.O_RDONLY)
            assert caught.value.errno == errno.EXDEV
        finally:
            os.close(directory)
            os.close(proc)

    def test_magic_links(self) -> None:
        root = os.open("/", os.O_PATH)
        try:
            with pytest.raises(OSError):
                fs.open_in_root(root, "/proc/self/cwd", os.O_PATH)
        finally:
            os.close(root)


def test_bounded_reads(place: Path) -> None:
    (place / "file").write_bytes(b"x" * 100)
    assert fs.read_bounded(place / "file", 100) == b"x" * 100
    with pytest.raises(OSError) as caught:
        fs.read_bounded(place / "file", 99)
    assert caught.value.errno == errno.EFBIG


def test_atomic_writes(place: Path) -> None:
    fs.write_atomic(f"{place}/file", b"one", 0o600, durable=True)
    fs.write_atomic(f"{place}/file", b"two")
    assert (place / "file").read_bytes() == b"two"
    assert os.listdir(place) == ["file"]
    with pytest.raises(OSError):
        fs.write_atomic(f"{place}/missing/file", b"x")


def test_large_writes_at_a_place(place: Path) -> None:
    data = os.urandom(3 * fs.WRITE_BYTES + 5)
    fd = os.open(place / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert fs.write_at(fd, data, 7) == 7 + len(data)
        assert fs.write_at(fd, memoryview(b"over"), 0) == 4
        assert os.pread(fd, len(data) + 8, 0) == b"over" + bytes(3) + data
    finally:
        os.close(fd)


def test_detached_mounts(place: Path) -> None:
    flags = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_RDONLY
    detached = mount.new_filesystem("tmpfs", {"size": "4096", "mode": "700"}, flags)
    target = os.open(place, os.O_PATH)
    try:
        mount.move_mount(detached, target)
        line = next(m for m in Path("/proc/mounts").read_text().splitlines() if f" {place} " in m)
        assert {"ro", "nosuid", "mode=700"} <= set(line.split()[3].split(","))
        mount.mount_setattr(detached, attr_clr=mount.MOUNT_ATTR_RDONLY)
        (place / "x").write_text("")
    finally:
        os.close(detached)
        os.close(target)
        mount.umount2(place)


def test_a_refused_option_is_explained() -> None:
    with pytest.raises(OSError) as caught:
        mount.new_filesystem("tmpfs", {"size": "nonsense"})
    assert "size" in str(caught.value)


def test_clone_into_namespaces() -> None:
    pid = namespaces.clone3(namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWNET, exit_signal=17)
    if pid == 0:
        process.set_hostname("inside")
        os._exit(7 if socket.gethostname() == "inside" else 8)
    pidfd = os.pidfd_open(pid)
    assert process.wait_pidfd(pidfd) == 7
    os.close(pidfd)
    assert socket.gethostname() != "inside"


def test_signals_by_pidfd() -> None:
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        pidfd = os.pidfd_open(sleeper.pid)
        assert process.wait_pidfd(pidfd, block=False) is None
        process.pidfd_send_signal(pidfd, 9)
        assert sleeper.wait() == -9
        os.close(pidfd)


def test_sealed_memory() -> None:
    fd = memfd.create("x", executable=True)
    os.write(fd, b"data")
    memfd.seal(fd)
    assert memfd.is_sealed(f"/proc/self/fd/{fd}")
    with pytest.raises(PermissionError):
        os.write(fd, b"more")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)
    assert not memfd.is_sealed()


def test_the_program_again_from_a_sealed_copy() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        "from barque.linux.memfd import *\nreexec_sealed(); forget_library_path()\n"
        "import os; print(is_sealed(), sys.argv[1:], os.environ.get('A'),"
        " 'LD_LIBRARY_PATH' in os.environ, sys.executable)"
    )
    argv = [sys.executable, "-I", "-S", "-c", script, "one", "two words"]
    done = subprocess.run(argv, capture_output=True, text=True, env={"A": "b"}, check=True)
    assert done.stdout == f"True ['one', 'two words'] b False {sys.executable}\n"


# with its library beside it, and (Debian's) within
INTERPRETERS = [path for path in (sys.executable, "/usr/bin/python3.11") if os.path.exists(path)]


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_the_executable_put_away(interpreter: str) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        "import os\nfrom barque.linux import executable, memfd\n"
        "before = os.readlink('/proc/self/exe')\n"
        "assert executable.mappings(before.encode()) and not memfd.is_sealed()\n"
        "print(executable.put_away(), memfd.is_sealed(), os.stat('/proc/self/exe').st_size)\n"
        "assert before not in open('/proc/self/maps').read()\n"
        "assert open('/proc/self/cmdline').read().split('\\0')[-2] == 'last'\n"
        "import json, re\n"  # what runs from pages that were moved goes on
        "print(json.loads('[1.5]'), re.match('(a+)+b', 'aab').group(), flush=True)\n"
        "child = os.fork()\n"
        "look = 'readlink /proc/$$/exe | grep -c memfd'\n"
        "if child == 0: os.execv('/bin/sh', ['sh', '-c', look])\n"
        "os.waitpid(child, 0)\n"
        "try: os.execv('/proc/self/exe', ['x'])\n"
        "except OSError as error: print(error.errno)\n"
    )
    argv = [interpreter, "-I", "-S", "-c", script, "last"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "True True 0\n[1.5] aab\n0\n8\n"


def test_an_ordinary_user_keeps_the_executable() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        "import os, ctypes, json\nfrom barque.linux import executable, memfd\n"
        "before = os.readlink('/proc/self/exe')\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "from barque.linux.process import set_dumpable\nset_dumpable(True)\n"
        "print(executable.put_away(), json.loads('[1.5]'), os.readlink('/proc/self/exe') == before)"
    )
    argv = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "False [1.5] True\n"


def test_capability_sets() -> None:
    effective, permitted, _ = capabilities.capget()
    assert effective & ~permitted == 0
    assert capabilities.mask(["CAP_CHOWN", "CAP_KILL"]) == 0b100001
    with pytest.raises(KeyError):
        capabilities.mask(["CAP_NONSENSE"])
    assert capabilities.bounding() >> len(capabilities.NAMES) == 0
    pid = os.fork()
    if pid == 0:
        capabilities.drop_bounding(capabilities.mask(["CAP_CHOWN", "CAP_SETPCAP"]))
        capabilities.capset(effective=1, permitted=1, inheritable=1)
        capabilities.set_ambient(1)
        os._exit(0 if capabilities.capget() == (1, 1, 1) else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_kernels_name_of_the_working_directory() -> None:
    assert process.kernel_getcwd() == os.getcwdb()


def test_terminals() -> None:
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    try:
        tty.unlock(master)
        peer = tty.open_peer(master)
        tty.set_window_size(master, 30, 90)
        assert tty.window_size(peer) == (30, 90)
        assert os.ttyname(peer).startswith("/dev/pts/")
        with pytest.raises(ValueError, match="window size"):
            tty.set_window_size(master, 1 << 16, 1)
        os.close(peer)
    finally:
        os.close(master)


class TestCgroups:
    def group(self, name: str) -> cgroup.Cgroup:
        return cgroup.Cgroup(cgroup.locate(f"/{name}", name))

    def test_life(self) -> None:
        group = self.group(f"bqk{os.getpid()}")
        group.create()
        try:
            with pytest.raises(OSError):
                cgroup.Cgroup({**group.directories, "x": "/sys/fs/cgroup/cpu"}).create()
            with subprocess.Popen(["sleep", "1000"]) as sleeper:
                group.attach(sleeper.pid)
                assert group.pids() == [sleeper.pid]
                assert not group.frozen()
                group.freeze()
                assert group.frozen()
                group.thaw()
                with pytest.raises(OSError) as caught:
                    self.group(f"bqk{os.getpid()}").create()
                assert caught.value.errno == errno.EBUSY
                group.kill()
                assert sleeper.wait() == -9
        finally:
            group.remove()
            group.remove()
        assert not any(os.path.exists(directory) for directory in group.distinct())

    def test_the_root_is_nobodys(self) -> None:
        for path in ("/", "//", "/..", "/a/../"):
            with pytest.raises(OSError):
                cgroup.locate(path, "x")
        assert cgroup.locate("//a//b", "x")["memory"].endswith("/memory/a/b")
        assert cgroup.locate("/../a", "x")["memory"].endswith("/memory/a")

    def test_one_thread_moves_itself(self) -> None:
        group = self.group(f"bqm{os.getpid()}")
        group.create()
        try:
            entries = group.open_entries()
            pid = os.fork()
            if pid == 0:
                for entry in entries:
                    os.write(entry, cgroup.SELF)
                own = cgroup.own_paths()
                os._exit(0 if own["memory"] == own["cpu"] == f"/bqm{os.getppid()}" else 1)
            assert os.waitpid(pid, 0)[1] == 0
            for entry in entries:
                os.close(entry)
        finally:
            group.remove()
