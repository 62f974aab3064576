"""The daemon of another machine, through a real sshd, with either command line at either end."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from barque import program
from tests.support.barque import Stack
from tests.support.docker_peer import real_docker_cli

pytestmark = [pytest.mark.root, pytest.mark.peer]
SSHD = "/usr/sbin/sshd"
SETTINGS = """
ListenAddress 127.0.0.1
HostKey {root}/host_key
AuthorizedKeysFile {root}/client_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
SetEnv PATH={root}/bin:/usr/bin:/bin
"""


@dataclass
class Machine:
    """Another machine with an sshd, a `barque` or a `docker`, and a daemon."""

    root: Path
    port: int
    far_socket: Path

    @property
    def url(self) -> str:
        return f"ssh://root@127.0.0.1:{self.port}"

    def offer(self, name: str, argv: list[str]) -> None:
        """The far machine's only command line."""
        shutil.rmtree(self.root / "bin", ignore_errors=True)
        (self.root / "bin").mkdir()
        script = self.root / "bin" / name
        quoted = " ".join(f"'{word}'" for word in argv)
        script.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        script.chmod(0o755)

    def run(
        self, argv: list[str], *words: str, host: str = "", stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        path = f"{self.root}/near:{os.environ['PATH']}"
        return subprocess.run(
            [*argv, "-H", host or self.url, *words],
            env={**os.environ, "PATH": path, "DOCKER_CONFIG": str(self.root / "config")},
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _key(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)],
        check=True,
        capture_output=True,
    )


def _wait_for(port: int, sshd: "subprocess.Popen[bytes]") -> None:
    while sshd.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise AssertionError("sshd has ended")


@pytest.fixture(scope="module")
def machine(barque: Stack) -> Iterator[Machine]:
    root = Path(tempfile.mkdtemp(prefix="bq-ssh-", dir="/tmp"))
    root.chmod(0o755)
    for name in ("host_key", "client_key"):
        _key(root / name)
    near = root / "near"
    near.mkdir()
    options = (
        "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    (near / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh {options} -i {root}/client_key "$@"\n')
    (near / "ssh").chmod(0o755)
    (root / "sshd_config").write_text(SETTINGS.format(root=root))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = _free_port()
    argv = [SSHD, "-D", "-e", "-f", str(root / "sshd_config"), "-p", str(port)]
    with open(root / "sshd.log", "wb") as log, subprocess.Popen(argv, stderr=log) as sshd:
        try:
            _wait_for(port, sshd)
            yield Machine(root, port, barque.socket)
        finally:
            sshd.terminate()
    shutil.rmtree(root)


@pytest.fixture(params=["barque", "docker"])
def far(request: pytest.FixtureRequest, machine: Machine) -> Machine:
    """The machine, with one of the two command lines at its end."""
    argv = program.command("barque") if request.param == "barque" else [real_docker_cli()]
    # The far command finds its daemon by its environment, as on any machine.
    environment = ["/usr/bin/env", f"DOCKER_HOST=unix://{machine.far_socket}"]
    machine.offer(request.param, [*environment, *argv])
    return machine


def test_a_container_on_the_other_machine(far: Machine) -> None:
    word = secrets.token_hex(8)
    done = far.run(
        program.command("barque"), "run", "-i", "--rm", "busybox", "cat", stdin=word.encode()
    )
    assert (done.returncode, done.stdout) == (0, word.encode()), done.stderr
    done = far.run(
        program.command("barque"), "run", "--rm", "busybox", "sh", "-c", "echo no >&2; exit 7"
    )
    assert (done.returncode, done.stderr) == (7, b"no\n")


def test_a_large_stream_both_ways(far: Machine) -> None:
    data = os.urandom(3 << 20)
    done = far.run(program.command("barque"), "run", "-i", "--rm", "busybox", "cat", stdin=data)
    assert done.stdout == data


def test_a_socket_by_its_path(machine: Machine) -> None:
    machine.offer("barque", program.command("barque"))
    host = f"{machine.url}{machine.far_socket}"
    done = machine.run(program.command("barque"), "ps", host=host)
    assert done.returncode == 0, done.stderr


def test_the_real_command_reaches_our_far_end(machine: Machine) -> None:
    """Docker's own runs `docker system dial-stdio` there: a machine whose docker is ours."""
    machine.offer(
        "docker",
        ["/usr/bin/env", f"DOCKER_HOST=unix://{machine.far_socket}", *program.command("barque")],
    )
    done = machine.run([real_docker_cli()], "run", "--rm", "busybox", "echo", "there")
    assert (done.returncode, done.stdout) == (0, b"there\n"), done.stderr


def test_nobody_there(machine: Machine) -> None:
    machine.offer(
        "barque", ["/usr/bin/env", "DOCKER_HOST=unix:///nobody", *program.command("barque")]
    )
    done = machine.run(program.command("barque"), "ps")
    assert done.returncode == 1
    assert b"Cannot connect to the Docker daemon at unix:///nobody" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "host",
    [
        "ssh://-oProxyCommand=x",
        "ssh://-l@host",
        "ssh://",
        "ssh://host:port",
        "ssh://u:p@host",
        "ssh://host/a;b",
    ],
)
def test_a_host_that_ssh_would_misread(machine: Machine, host: str) -> None:
    done = machine.run(program.command("barque"), "ps", host=host)
    assert done.returncode == 1
    assert done.stderr.startswith(b"unable to parse docker host"), done.stderr
