"""The command beside the real docker CLI, both on one real dockerd."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_peer import Peer, busybox_tar, docker_peer, real_docker_cli

ENTRY = Path(__file__).resolve().parents[3] / "src" / "barque" / "__main__.py"
PODMAN_WAIT_S = 60
PODMAN_IMAGE = "localhost/busybox"
# podman asks for limits that a machine's root may not be able to raise, where nothing is asked for
PODMAN_RUN = ("--network", "none", "--ulimit", "nofile=100:200", "--ulimit", "nproc=1000:1000")
MOMENTS = 100  # ages are told by the second for a minute
BARQUE = (sys.executable, "-I", "-S", str(ENTRY), "barque")


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    with docker_peer() as running:
        yield running


class Commands:
    """Both programs with one environment."""

    def __init__(self, host: str, directory: Path, docker: str) -> None:
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("DOCKER")},
            "DOCKER_HOST": host,
            "DOCKER_CONFIG": str(directory),
        }
        self.docker = (docker,)

    def run(
        self, program: tuple[str, ...], words: tuple[str, ...], stdin: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            [*program, *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    def ours(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        return self.run(BARQUE, words, stdin)

    def theirs(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Docker's, its name replaced by ours where it tells it."""
        code, out, err = self.run(self.docker, words, stdin)
        return code, renamed(out), renamed(err)

    def same(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Run both; they must do the same. Returns what they did."""
        ours, theirs = self.ours(*words, stdin=stdin), self.theirs(*words, stdin=stdin)
        if ours != theirs and b" ago" in theirs[1]:
            ours, theirs = self._in_one_moment(words, stdin)
        assert ours == theirs
        return ours

    def _in_one_moment(
        self, words: tuple[str, ...], stdin: bytes
    ) -> tuple[tuple[int, bytes, bytes], tuple[int, bytes, bytes]]:
        """Both, while an age that they print stays the same: the peer says so before and after."""
        for _ in range(MOMENTS):
            before = self.theirs(*words, stdin=stdin)
            ours, after = self.ours(*words, stdin=stdin), self.theirs(*words, stdin=stdin)
            if before == after:
                break
        return ours, after


def renamed(text: bytes) -> bytes:
    """The places where the CLI prints the program's name."""
    for before in (b"docker: ", b"'docker ", b"  docker ", b": docker "):
        text = text.replace(before, before.replace(b"docker", b"barque"))
    return text


@pytest.fixture(scope="session")
def podman() -> Iterator[Commands]:
    root = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    roots = ("--root", f"{root}/root", "--runroot", f"{root}/run", "--tmpdir", f"{root}/tmp")
    kinds = ("--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs")
    podman = ("podman", *roots, *kinds, "--events-backend", "file")
    socket = root / "p.sock"
    with (root / "log").open("wb") as log:
        service = subprocess.Popen(
            [*podman, "system", "service", "--time=0", f"unix://{socket}"], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + PODMAN_WAIT_S
        while not socket.exists():
            assert time.monotonic() < deadline, (root / "log").read_text()
            time.sleep(0.02)
        commands = Commands(f"unix://{socket}", root / "config", real_docker_cli())
        code, _, error = commands.ours("import", "-", PODMAN_IMAGE, stdin=busybox_tar())
        assert code == 0, error
        yield commands
    finally:
        subprocess.run([*podman, "rm", "--all", "--force", "--time", "0"], capture_output=True)
        service.terminate()
        service.wait(PODMAN_WAIT_S)
        _remove(root)


def _remove(root: Path) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{root}/"):
            subprocess.run(["umount", line.split()[4]], check=True)
    shutil.rmtree(root)


@pytest.fixture
def commands(peer: Peer, tmp_path: Path) -> Commands:
    return Commands(peer.host, tmp_path, peer.cli)


@pytest.fixture
def name(commands: Commands) -> Iterator[str]:
    """A name for a container; the container is gone afterwards."""
    word = f"t{secrets.token_hex(4)}"
    yield word
    commands.theirs("rm", "-f", "-v", word)
