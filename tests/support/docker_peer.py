"""Debian's real dockerd as a peer: its own roots, socket and namespaces, gone after use.

    with docker_peer() as peer:
        peer.docker("run", "--rm", "busybox", "true")      # the real CLI of `peer.cli`
        Client(peer.host)

Several peers may run at once: all names come from one random word. As a program
(`python -m tests.support.docker_peer`) it starts one, prints its address and waits for the end of
its standard input.
"""

from __future__ import annotations

import http.client
import io
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import cgroups, processes
from tests.support.disks import in_memory

START_LIMIT_S = 180.0
STOP_LIMIT_S = 30.0
APPLETS = [
    "sh",
    "ls",
    "cat",
    "echo",
    "true",
    "false",
    "sleep",
    "printf",
    "env",
    "id",
    "pwd",
    "hostname",
    "head",
    "tail",
    "wc",
    "grep",
    "sed",
    "seq",
    "stty",
    "tty",
    "kill",
    "ps",
    "date",
    "dd",
    "yes",
    "mkdir",
    "rm",
    "touch",
    "test",
    "nc",
    "httpd",
    "wget",
    "ip",
    "stat",
    "mount",
    "sort",
    "tr",
    "trap",
    "expr",
]


@dataclass(frozen=True)
class Peer:
    """A running dockerd."""

    host: str
    socket: Path
    root: Path
    netns: str
    pid: int
    cli: str
    answer_s: float = 0.0  # from the start of the process to its first answer
    ready_s: float = 0.0  # and to its first list of containers

    def docker(
        self, *arguments: str, check: bool = True, stdin: bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the real docker CLI against this daemon."""
        return subprocess.run(
            [self.cli, *arguments],
            env={
                **os.environ,
                "DOCKER_HOST": self.host,
                "DOCKER_CONFIG": str(self.root / "config"),
            },
            input=stdin,
            capture_output=True,
            check=check,
            timeout=timeout_s,
        )


def real_docker_cli() -> str:
    """The newest real docker CLI of the machine; a missing one is a failure of the set-up."""
    for path in ("/usr/local/bin/docker", "/usr/bin/docker"):
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError("no docker CLI: install docker.io")


def busybox_tar() -> bytes:
    """A root file system of the static busybox and its applets, as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "var"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            archive.addfile(entry)
        archive.add("/bin/busybox", "bin/busybox")
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
        for path, text in (
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"),
            ("etc/group", "root:x:0:\nuser:x:1000:\n"),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@contextmanager
def docker_peer(
    arguments: Sequence[str] = (),
    *,
    image: bool = True,
    own_mounts: bool = True,
    run_in_memory: bool = False,
) -> Iterator[Peer]:
    """Start dockerd with `arguments` added; with `image`, `busybox:latest` is in it.

    Without `own_mounts` it is in the machine's mount namespace: any containerd sees its mounts.
    `run_in_memory` puts its exec root on a tmpfs, as /run is one on most machines.
    """
    word = "bq" + secrets.token_hex(3)
    with ExitStack() as undo:
        root = Path(tempfile.mkdtemp(prefix=f"{word}-", dir="/tmp"))
        undo.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o711)  # containers may be other users on the machine
        undo.callback(cgroups.remove, word, depth=100)
        if run_in_memory:
            in_memory(root / "exec")
            undo.callback(subprocess.run, ["umount", "-l", f"{root}/exec"], check=True)
        if not own_mounts:  # dockerd mounts its root on itself, and leaves it so when it fails
            undo.callback(
                subprocess.run, ["umount", "-l", f"{root}/data"], capture_output=True, check=False
            )
        subprocess.run(["ip", "netns", "add", word], check=True)
        undo.callback(subprocess.run, ["ip", "netns", "delete", word], check=False)
        subprocess.run(["ip", "-n", word, "link", "set", "lo", "up"], check=True)
        log = undo.enter_context(open(root / "log", "wb"))
        before = time.perf_counter()
        daemon = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{word}"),
                *(("unshare", "--mount", "--propagation", "slave") if own_mounts else ()),
                *("dockerd", f"--data-root={root}/data"),
                f"--exec-root={root}/exec",
                f"--pidfile={root}/pid",
                f"--host=unix://{root}/sock",
                f"--cgroup-parent=/{word}",
                "--bip=172.31.7.1/24",
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        undo.callback(_stop, daemon, root)
        wait_for(root / "sock", "/_ping", daemon, root / "log")
        answer_s = time.perf_counter() - before
        wait_for(root / "sock", "/containers/json", daemon, root / "log")
        ready_s = time.perf_counter() - before
        socket_path, cli = root / "sock", real_docker_cli()
        peer = Peer(
            f"unix://{socket_path}", socket_path, root, word, daemon.pid, cli, answer_s, ready_s
        )
        undo.callback(_remove_containers, peer)
        if image:
            peer.docker(
                *("import", "-c", 'CMD ["sh"]', "-c", "ENV PATH=/bin", "-", "busybox:latest"),
                stdin=busybox_tar(),
            )
        yield peer


def wait_for(path: Path, target: str, daemon: subprocess.Popen[bytes], log: Path) -> None:
    """Until the daemon on this socket answers `target`; raises RuntimeError with its log."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            if _answers(path, target):
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.005)
    raise RuntimeError(f"no answer: {log.read_text(errors='replace')[-3000:]}")


def _answers(path: Path, target: str) -> bool:
    connection = http.client.HTTPConnection("localhost", timeout=START_LIMIT_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(START_LIMIT_S)
        connection.sock.connect(str(path))
        connection.request("GET", target)
        return connection.getresponse().status == 200
    finally:
        connection.close()


def _remove_containers(peer: Peer) -> None:
    ids = peer.docker("ps", "-aq", check=False).stdout.decode().split()
    if ids:
        peer.docker("rm", "-f", *ids, check=False)


def _stop(daemon: subprocess.Popen[bytes], root: Path) -> None:
    """End dockerd as an administrator does, then its containerd and shims, if any are left."""
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    processes.kill(root)


def main() -> int:
    """Run one until the standard input ends, or until we are told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with docker_peer(sys.argv[1:]) as peer:
        print(peer.host, peer.netns, peer.pid, flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
