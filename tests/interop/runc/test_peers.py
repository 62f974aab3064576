"""Real podman, dockerd and containerd with our runtime in the place of runc."""

import hashlib
import io
import json
import os
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rootfs
from tests.support.containerds import containerd
from tests.support.docker_peer import Peer, busybox_tar, docker_peer
from tests.support.runtimes import PYTHON, SOURCE
from tests.support.subordinate_ids import subordinate_ids

pytestmark = [pytest.mark.root, pytest.mark.peer]
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with rootfs.temporary() as directory:
        directory.chmod(0o755)
        rootfs.build(directory / "rootfs")
        launcher = directory / "barque-runc"
        entry = SOURCE / "barque/__main__.py"
        launcher.write_text(f'#!/bin/sh\nexec {PYTHON} -I -S {entry} barque-runc "$@"\n')
        launcher.chmod(0o755)
        yield directory


def call(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def docker_archive(path: Path, name: str) -> None:
    """An image of one layer, busybox, as `docker save` writes it."""
    layer = busybox_tar()
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    root = {"type": "layers", "diff_ids": [diff_id]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"layer.tar": layer, "config.json": config, "manifest.json": manifest}
    with tarfile.open(path, "w") as archive:
        for member, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


class TestDockerd:
    @pytest.fixture(scope="class")
    def peer(self, place: Path) -> Iterator[Peer]:
        launcher = place / "barque-runc"
        with docker_peer([f"--add-runtime=barque={launcher}", "--default-runtime=barque"]) as peer:
            yield peer

    def docker(self, peer: Peer, *arguments: str) -> tuple[int, str, str]:
        done = peer.docker(*arguments, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_run(self, peer: Peer) -> None:
        script = "echo out; echo err >&2; exit 5"
        assert self.docker(peer, "run", "--rm", "busybox", "sh", "-c", script) == (
            5,
            "out\n",
            "err\n",
        )

    @pytest.mark.parametrize(
        ("program", "code"), [("nosuch", 127), ("/etc", 126), ("/nosuch", 127)]
    )
    def test_what_cannot_be_executed(self, peer: Peer, program: str, code: int) -> None:
        assert self.docker(peer, "run", "--rm", "busybox", program)[0] == code

    def test_user_limits_and_volumes(self, peer: Peer, place: Path) -> None:
        volume = place / "volume"
        volume.mkdir(exist_ok=True)
        script = "id -u; cat /sys/fs/cgroup/memory/memory.limit_in_bytes; touch /v/x; hostname"
        code, out, err = self.docker(
            peer, "run", "--rm", "-u", "1000", "-m", "64m", "--pids-limit", "20", "-h", "name",
            "-v", f"{volume}:/v:ro", "busybox", "sh", "-c", script,
        )  # fmt: skip
        assert (code, out.split()) == (0, ["1000", str(64 << 20), "name"])
        assert "Read-only file system" in err

    def test_read_only_and_seccomp(self, peer: Peer) -> None:
        script = "touch /x; unshare -U true; grep Seccomp: /proc/self/status"
        code, out, err = self.docker(
            peer, "run", "--rm", "--read-only", "busybox", "sh", "-c", script
        )
        assert (code, out.split()) == (0, ["Seccomp:", "2"])
        assert "Read-only file system" in err
        assert "Operation not permitted" in err

    def test_the_life_of_a_container(self, peer: Peer) -> None:
        assert self.docker(peer, "run", "-d", "--name", "life", "busybox", "sleep", "1000")[0] == 0
        assert self.docker(peer, "exec", "life", "sh", "-c", "echo in; exit 3")[:2] == (3, "in\n")
        assert "executable file not found" in "".join(
            self.docker(peer, "exec", "life", "nosuch")[1:]
        )
        assert self.docker(peer, "pause", "life")[0] == 0
        assert "Paused" in self.docker(peer, "ps")[1]
        assert self.docker(peer, "unpause", "life")[0] == 0
        assert "sleep 1000" in self.docker(peer, "top", "life")[1]
        assert self.docker(peer, "update", "-m", "80m", "--memory-swap", "160m", "life")[0] == 0
        assert self.docker(peer, "restart", "-t", "0", "life")[0] == 0
        assert self.docker(peer, "kill", "life")[0] == 0
        assert self.docker(peer, "wait", "life")[1] == "137\n"
        assert self.docker(peer, "start", "life")[0] == 0
        assert self.docker(peer, "rm", "-f", "life")[0] == 0

    def test_terminals(self, peer: Peer) -> None:
        assert self.docker(peer, "run", "--rm", "-t", "busybox", "tty")[:2] == (0, "/dev/pts/0\r\n")
        self.docker(peer, "run", "-d", "--name", "tty", "busybox", "sleep", "1000")
        try:
            code, out, _ = self.docker(peer, "exec", "-t", "tty", "tty")
            assert (code, out) == (0, "/dev/pts/0\r\n")
        finally:
            self.docker(peer, "rm", "-f", "tty")

    def test_working_directories(self, peer: Peer) -> None:
        """`run` makes the one it is given, `exec` does not."""
        assert self.docker(peer, "run", "--rm", "-w", "/n/e/w", "busybox", "pwd")[1] == "/n/e/w\n"
        self.docker(peer, "run", "-d", "--name", "cwd", "busybox", "sleep", "1000")
        try:
            code, out, err = self.docker(peer, "exec", "-w", "/n/e/w", "cwd", "pwd")
            assert code in (126, 127)
            assert "chdir to cwd" in out + err
        finally:
            self.docker(peer, "rm", "-f", "cwd")


class TestDockerdRemapped:
    """Every container in a user namespace."""

    def test_ids_limits_volumes_and_a_terminal(self, place: Path) -> None:
        runtime = f"--add-runtime=barque={place / 'barque-runc'}"
        volume = place / "remapped"
        volume.mkdir(exist_ok=True)
        volume.chmod(0o777)
        with (
            subordinate_ids() as user,
            docker_peer([runtime, "--default-runtime=barque", "--userns-remap", user]) as peer,
        ):
            script = "id -u; cat /proc/self/uid_map; tty; touch /v/x; stat -c %u /v/x"
            done = peer.docker(
                *("run", "--rm", "-t", "-m", "64m", "--pids-limit", "30", "-v", f"{volume}:/v"),
                *("busybox", "sh", "-c", script),
            )
            words = done.stdout.decode().split()
            assert (words[0], words[1]) == ("0", "0")
            assert int(words[2]) == os.stat(volume / "x").st_uid > 0
            assert words[4:] == ["/dev/pts/0", "0"]
            name = f"remapped{os.getpid()}"
            peer.docker("run", "-d", "--name", name, "busybox", "sleep", "1000")
            assert peer.docker("exec", "-u", "5", name, "id", "-u").stdout == b"5\n"
            peer.docker("kill", name)
            peer.docker("rm", "-f", name)


class TestBuildah:
    def buildah(self, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        roots = ("--root", str(place / "bs"), "--runroot", str(place / "br"))
        return call("buildah", *roots, "--storage-driver", "vfs", *arguments)

    def test_run(self, place: Path) -> None:
        """Steps of a build: as another user, with a volume, limits, a terminal; and a failure."""
        volume = place / "build-volume"
        volume.mkdir()
        (volume / "file").write_text("here")
        name = "work"
        made = self.buildah(place, "from", "--name", name, "--memory", "64m", "scratch")
        assert made.returncode == 0, made
        try:
            self.buildah(place, "copy", name, str(place / "rootfs"), "/")
            limits = ("--isolation", "oci", "--network", "none", "--runtime")
            run = ("run", *limits, str(place / "barque-runc"))
            script = "id -u; cat /v/file; exit 4"
            argv = (*run, "--user", "5:6", "-v", f"{volume}:/v:ro", name, "--")
            done = self.buildah(place, *argv, "sh", "-c", script)
            assert (done.stdout.split(), done.returncode) == (["5", "here"], 4), done
            done = self.buildah(place, *run, name, "--", "sh", "-c", "echo made > /made; ls /made")
            assert done.stdout == "/made\n", done
            again = self.buildah(place, *run, name, "--", "cat", "/made")
            assert again.stdout == "made\n", again
        finally:
            self.buildah(place, "rm", name)
            for mount in reversed(rootfs.mounts_below(place)):
                subprocess.run(["umount", mount], check=True)


class TestPodman:
    def podman(self, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        roots = ("--root", str(place / "ps"), "--runroot", str(place / "pr"))
        limits = '["nofile=1024:1024", "nproc=1000:1000"]'
        (place / "containers.conf").write_text(f"[containers]\ndefault_ulimits = {limits}\n")
        conf = f"CONTAINERS_CONF={place / 'containers.conf'}"
        return call(
            "env", conf, "podman", *roots, "--cgroup-manager", "cgroupfs", "--events-backend",
            "file", "--runtime", str(place / "barque-runc"), *arguments,
        )  # fmt: skip

    # podman asks for limits that this machine's root may not raise
    LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "none")

    @pytest.fixture(autouse=True)
    def _clean(self, place: Path) -> Iterator[None]:
        yield
        self.podman(place, "rm", "--all", "--force", "--time", "0")
        for mount in reversed(rootfs.mounts_below(place)):
            subprocess.run(["umount", mount], check=True)

    def test_run(self, place: Path) -> None:
        argv = ("run", "--rm", *self.LIMITS, "--rootfs", str(place / "rootfs"))
        result = self.podman(place, *argv, "sh", "-c", "echo hello; exit 6")
        assert (result.returncode, result.stdout) == (6, "hello\n")
        assert self.podman(place, *argv, "nosuch").returncode == 127

    def test_exec_pause_and_remove(self, place: Path) -> None:
        argv = ("run", "-d", "--name", "c", *self.LIMITS, "--memory", "64m", "--rootfs")
        assert self.podman(place, *argv, str(place / "rootfs"), "sleep", "1000").returncode == 0
        result = self.podman(place, "exec", "-e", "A=b", "c", "sh", "-c", "echo $A; exit 4")
        assert (result.returncode, result.stdout) == (4, "b\n")
        for command in ("pause", "unpause"):
            assert self.podman(place, command, "c").returncode == 0
        assert self.podman(place, "rm", "-f", "-t", "0", "c").returncode == 0

    def test_a_pod_shares_namespaces(self, place: Path) -> None:
        """Joining by path, as every pod does."""
        first = ("run", "-d", "--name", "a", *self.LIMITS, "--ipc", "shareable", "--rootfs")
        assert self.podman(place, *first, str(place / "rootfs"), "sleep", "1000").returncode == 0
        limits = self.LIMITS[:4]
        joined = ("--network", "container:a", "--pid", "container:a", "--ipc", "container:a")
        argv = ("run", "--rm", *limits, *joined, "--rootfs", str(place / "rootfs"))
        result = self.podman(place, *argv, "ps")
        assert "sleep 1000" in result.stdout, result

    def test_a_terminal(self, place: Path) -> None:
        argv = ("run", "--rm", "-t", *self.LIMITS, "--rootfs", str(place / "rootfs"), "tty")
        result = self.podman(place, *argv)
        assert (result.returncode, result.stdout) == (0, "/dev/pts/0\n"), result

    def test_a_user_namespace(self, place: Path) -> None:
        mapped = rootfs.build(place / "mapped")
        subprocess.run(["chown", "-hR", "200000:200000", mapped], check=True)
        maps = ("--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536")
        argv = ("run", "--rm", *maps, *self.LIMITS, "--rootfs", str(mapped))
        result = self.podman(place, *argv, "sh", "-c", "id -u; cat /proc/self/uid_map; touch /x")
        assert result.stdout.split() == ["0", "0", "200000", "65536"], result
        assert os.stat(mapped / "x").st_uid == 200000

    def test_a_pod(self, place: Path) -> None:
        """Its infra container, members that join it, limits, a volume, exec, kill, removal."""
        archive = place / "base.tar"
        subprocess.run(["tar", "-C", place / "rootfs", "-cf", archive, "."], check=True)
        image = "localhost/base:1"
        assert self.podman(place, "import", str(archive), image).returncode == 0
        try:
            infra = ("--infra-image", image, "--infra-command", "sleep 1000")
            created = self.podman(
                place, "pod", "create", "--name", "p", "--network", "none", *infra
            )
            assert created.returncode == 0, created
            script = "hostname; cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls /v; sleep 1000"
            volume = place / "pod-volume"
            volume.mkdir()
            (volume / "file").write_text("")
            limits = ("--memory", "64m", "--pids-limit", "50", "--cpus", "0.5")
            argv = ("run", "-d", "--name", "m", "--pod", "p", *limits, "-v", f"{volume}:/v", image)
            result = self.podman(place, *argv, "sh", "-c", script)
            assert result.returncode == 0, result
            done = self.podman(place, "exec", "m", "hostname")
            assert (done.returncode, done.stdout) == (0, "p\n"), done
            logs = self.podman(place, "logs", "m").stdout.split()
            assert logs == ["p", str(64 << 20), "file"]
            assert self.podman(place, "pod", "kill", "p").returncode == 0
        finally:
            self.podman(place, "pod", "rm", "-f", "-t", "0", "p")
            self.podman(place, "rmi", "--force", image)


class TestContainerd:
    def test_limits_and_mounts(self, place: Path) -> None:
        volume = place / "ctr-volume"
        volume.mkdir()
        (volume / "file").write_text("here")
        name = f"bq{os.getpid()}l"
        with containerd("real") as address:
            ctr = ("ctr", "--address", address)
            run = (*ctr, "run", "--rm", "--runc-binary", str(place / "barque-runc"), "--rootfs")
            limits = ("--memory-limit", str(64 << 20), "--cpus", "0.5")
            mount = ("--mount", f"type=bind,src={volume},dst=/v,options=rbind:ro")
            script = "cat /v/file; touch /v/x; echo; id -u"
            argv = (*run, *limits, *mount, str(place / "rootfs"), name, "/bin/sh", "-c", script)
            done = call(*argv)
            assert done.stdout.split() == ["here", "0"], done
            assert "Read-only file system" in done.stderr

    def test_a_terminal(self, place: Path) -> None:
        with containerd("real") as address:
            run = ("ctr", "--address", address, "run", "--rm", "--tty", "--runc-binary")
            argv = (*run, place / "barque-runc", "--rootfs", place / "rootfs", f"bq{os.getpid()}t")
            done = call("script", "-qec", shlex.join([*map(str, argv), "/bin/tty"]), "/dev/null")
            assert "/dev/pts/0" in done.stdout, done

    def test_a_user_namespace(self, place: Path) -> None:
        """An image's files are changed to the ids that are mapped."""
        archive = place / "busybox.tar"
        image = "localhost/mapped:1"
        docker_archive(archive, image)
        name = f"bq{os.getpid()}u"
        maps = ("--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536")
        script = "id -u; cat /proc/self/uid_map; stat -c %u /bin/busybox; touch /x && echo made"
        with containerd("real") as address:
            Path(address).parent.chmod(0o711)  # the container's root has to reach its files
            ctr = ("ctr", "--address", address)
            done = call(*ctr, "images", "import", "--snapshotter", "native", archive)
            assert done.returncode == 0, done
            run = (*ctr, "run", "--rm", "--snapshotter", "native", "--runc-binary")
            argv = (*run, place / "barque-runc", *maps, image, name, "/bin/sh", "-c", script)
            done = call(*argv)
            assert done.stdout.split() == ["0", "0", "300000", "65536", "0", "made"], done

    def test_ctr(self, place: Path) -> None:
        with containerd("real") as address:
            ctr = ("ctr", "--address", address)
            run = (*ctr, "run", "--runc-binary", str(place / "barque-runc"), "--rootfs")
            name = f"bq{os.getpid()}"
            done = call(
                *run, "--rm", str(place / "rootfs"), name, "/bin/sh", "-c", "echo hi; exit 7"
            )
            assert (done.returncode, done.stdout) == (7, "hi\n"), done
            assert (
                call(*run, "-d", str(place / "rootfs"), name, "/bin/sleep", "1000").returncode == 0
            )
            try:
                task = (*ctr, "task")
                done = call(*task, "exec", "--exec-id", "e", name, "/bin/hostname")
                assert done.returncode == 0, done
                for command in ("pause", "resume"):
                    assert call(*task, command, name).returncode == 0
                assert "RUNNING" in call(*task, "ls").stdout
                assert call(*task, "ps", name).returncode == 0
                assert call(*task, "metrics", name).returncode == 0
            finally:
                call(*ctr, "task", "kill", "-s", "KILL", name)
                call(*ctr, "task", "delete", name)
                call(*ctr, "containers", "delete", name)
