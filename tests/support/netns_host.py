"""A machine of its own for a test: a forked child in new network and mount namespaces.

    @isolated
    def test_something() -> None: ...     # may make links, rules, sysctls: all die with it

Inside, `Neighbour` is another machine on a wire, and `run` a command that must succeed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

from barque.linux.mount import MS_PRIVATE, MS_REC, mount
from barque.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, unshare

P = ParamSpec("P")


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test in a forked child with its own network and mounts; its failure is ours."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            _child(test, write, *args, **kwargs)
        os.close(write)
        with os.fdopen(read) as stream:
            failure = stream.read()
        _, status = os.waitpid(pid, 0)
        assert not failure, failure
        assert status == 0, f"child ended with status {status}"

    return wrapper


def _child(test: Callable[P, None], write: int, *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        unshare(CLONE_NEWNET | CLONE_NEWNS)
        mount(None, "/", flags=MS_REC | MS_PRIVATE)
        mount("sysfs", "/sys", "sysfs")
        run("ip", "link", "set", "lo", "up")
        test(*args, **kwargs)
    except BaseException:
        os.write(write, traceback.format_exc().encode())
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def run(*argv: str, stdin: str | None = None, netns: str | Path | None = None) -> str:
    """Run a command, in the namespace `netns`; its output. Fails when it fails."""
    done = attempt(*argv, stdin=stdin, netns=netns)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def attempt(
    *argv: str, stdin: str | None = None, netns: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    prefix = [f"--net={netns}"] if netns else []
    command = ["nsenter", *prefix, *argv] if netns else list(argv)
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=30, check=False
    )


@contextmanager
def temporary_root() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="bq-", dir="/tmp"))
    try:
        yield root
    finally:
        _end_programs(root)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{root}/"):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(root, ignore_errors=True)


def _end_programs(root: Path) -> None:
    """A test that failed left containers attached: what outlives daemons would live on."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            ours = b"barque-dns" in line or b"barque-proxy" in line
            if ours and str(root).encode() in line:
                os.kill(int(pid), signal.SIGKILL)


class Neighbour:
    """Another machine: a namespace on a wire to this one. Its processes die with `close`."""

    def __init__(self, name: str, subnet: str) -> None:
        """`subnet` is like 192.0.2: we are .1, the neighbour .2."""
        self.address, self.ours, self._link = f"{subnet}.2", f"{subnet}.1", name
        self._holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        self.netns = f"/proc/{self._holder.pid}/ns/net"
        self._wait_for_own_namespace()
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "up0", "netns",
            str(self._holder.pid))  # fmt: skip
        run("ip", "addr", "add", f"{self.ours}/24", "dev", name)
        run("ip", "link", "set", name, "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "up0")
        self.run("ip", "link", "set", "up0", "up")
        self.run("ip", "link", "set", "lo", "up")

    def _wait_for_own_namespace(self) -> None:
        for _ in range(500):
            with contextlib.suppress(OSError):
                if os.readlink(self.netns) != os.readlink("/proc/self/ns/net"):
                    return
            time.sleep(0.01)
        raise AssertionError("unshare did not start")

    def run(self, *argv: str) -> str:
        return run(*argv, netns=self.netns)

    def add_ipv6(self, subnet: str) -> tuple[str, str]:
        """Addresses of its own wire for both, `subnet` like 2001:db8:1: (neighbour's, ours)."""
        theirs, ours = f"{subnet}::2", f"{subnet}::1"
        run("ip", "addr", "add", f"{ours}/64", "dev", self._link, "nodad")
        self.run("ip", "addr", "add", f"{theirs}/64", "dev", "up0", "nodad")
        return theirs, ours

    def close(self) -> None:
        attempt("ip", "link", "del", self._link)  # else the kernel does, some time later
        self._holder.kill()
        self._holder.wait()


ECHO = """
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
server = socket.socket(family, kind)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[2], int(sys.argv[3])))
if kind == socket.SOCK_STREAM:
    server.listen(16)
print("ready", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        peer, address = server.accept()
        peer.sendall(f"{sys.argv[4]} {address[0]}".encode())
        peer.close()
    else:
        _, address = server.recvfrom(64)
        server.sendto(f"{sys.argv[4]} {address[0]}".encode(), address)
"""

ASK = """
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
client = socket.socket(family, kind)
client.settimeout(float(sys.argv[4]))
try:
    client.connect((sys.argv[2], int(sys.argv[3])))
    client.send(b"?")
    print(client.recv(64).decode())
except OSError as error:
    print("failed", error)
"""


@contextmanager
def server(
    word: str, port: int, *, netns: str | Path | None = None, protocol: str = "tcp",
    address: str = "0.0.0.0",
) -> Iterator[None]:  # fmt: skip
    """A server that answers `<word> <address of the client as it sees it>`."""
    prefix: Sequence[str] = ["nsenter", f"--net={netns}"] if netns else []
    argv = [*prefix, sys.executable, "-S", "-c", ECHO, protocol, address, str(port), word]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(
    address: str, port: int, *, netns: str | Path | None = None, protocol: str = "tcp",
    timeout_s: float = 20.0,
) -> str:  # fmt: skip
    """What a server there answers, or `failed ...`."""
    argv = (sys.executable, "-S", "-c", ASK, protocol, address, str(port), str(timeout_s))
    return run(*argv, netns=netns).strip()
