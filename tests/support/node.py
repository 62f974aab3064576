"""A containerd with tasks, driven by `ctr`: ours, which may be crashed, or Debian's.

    with node() as it:
        it.run("one", "sleep", "1000", detach=True)
        it.crash()
        it.start()

Leaving the block ends what runs and fails when a process, mount or cgroup of the node is left.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import cgroups, processes, rootfs
from tests.support.containerds import _command
from tests.support.disks import in_memory, unmount
from tests.support.docker_peer import busybox_tar

OURS = "io.containerd.barque.v2"
RUNC = "io.containerd.runc.v2"
IMAGE = "docker.io/library/busybox:latest"
START_LIMIT_S = 30.0
GONE_LIMIT_S = 30.0
OCI = "application/vnd.oci.image"


class Node:
    """One containerd at `address`, under `root`. `word` is part of every name made for it."""

    def __init__(self, root: Path, kind: str, settings: str = "") -> None:
        """`settings`: what its configuration file says besides."""
        self.root = root
        self.kind = kind
        self.settings = settings
        self.word = "bq" + secrets.token_hex(3)
        self.address = str(root / "c.sock")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")

    def command(self) -> Sequence[str]:
        return _command(self.kind, self.root, self.settings, self.address)

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"]}

    def start(self) -> None:
        """Start containerd and wait until it answers."""
        with (self.root / "log").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
            )
        deadline = time.monotonic() + START_LIMIT_S
        while self.ctr("version", check=False).returncode != 0:
            assert self.process.poll() is None, f"containerd ended: {self.log}"
            assert time.monotonic() < deadline, f"containerd does not answer: {self.log}"
            time.sleep(0.02)

    def crash(self) -> None:
        """End containerd as a crash would."""
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=30)
        self.process = None

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the real `ctr` on this containerd."""
        done = subprocess.run(
            ["ctr", "--address", self.address, "--connect-timeout", "2s", *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        if check:
            assert done.returncode == 0, f"ctr {arguments}: {done.stderr}\n{self.log[-3000:]}"
        return done

    def run(
        self, id: str, *arguments: str, runtime: str = OURS, flags: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """`ctr run` of busybox, in a cgroup of this node's."""
        options = ["--runtime", runtime, "--cgroup", f"/{self.word}/{id}", *flags]
        return self.ctr("run", *options, IMAGE, id, *arguments, check=False)

    @property
    def server_pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def tasks(self) -> dict[str, str]:
        """Every task and its status."""
        lines = self.ctr("task", "ls").stdout.splitlines()[1:]
        return {line.split()[0]: line.split()[2] for line in lines}

    def pids(self) -> dict[str, int]:
        """The first process of every task."""
        lines = self.ctr("task", "ls").stdout.splitlines()[1:]
        return {line.split()[0]: int(line.split()[1]) for line in lines}

    def pid(self, id: str) -> int:
        return self.pids()[id]

    def children(self) -> list[int]:
        """containerd's child processes: of ours, the zygote."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if alive(int(child))]

    def end(self, id: str) -> None:
        """Kill and delete a task, its container, and the snapshot of a client that was killed."""
        self.ctr("task", "rm", "--force", id, check=False)
        self.ctr("container", "rm", id, check=False)
        self.ctr("snapshots", "rm", id, check=False)

    @contextmanager
    def events(self) -> Iterator[list[str]]:
        """The lines of `ctr events` about tasks, as they come; subscribed when it is entered."""
        lines: list[str] = []
        listener = subprocess.Popen(
            ["ctr", "--address", self.address, "events", 'topic~="^/(tasks|namespaces)/"'],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert listener.stdout is not None
        reader = threading.Thread(target=_collect, args=(listener.stdout, lines), daemon=True)
        reader.start()
        try:
            assert wait_until(lambda: self._probe(lines))
            lines.clear()
            yield lines
        finally:
            listener.kill()
            listener.wait()
            reader.join()
            listener.stdout.close()

    def _probe(self, lines: list[str]) -> bool:
        """Whether a subscriber is there: it hears of a new namespace."""
        name = f"probe{secrets.token_hex(4)}"
        self.ctr("namespaces", "create", name)
        self.ctr("namespaces", "rm", name)
        return wait_until(lambda: any(name in line for line in lines), 0.2)

    def import_busybox(self) -> None:
        archive = self.root / "busybox.tar"
        archive.write_bytes(busybox_archive())
        self.ctr("images", "import", str(archive))

    def clean(self) -> None:
        if self.process is None:
            self.start()
        for id in self.ctr("containers", "ls", "-q").stdout.split():
            self.end(id)
        self.stop()


@contextmanager
def node(
    kind: str = "ours",
    base: str = "/tmp",
    settings: str = "",
    made: type[Node] = Node,
    *,
    run_in_memory: bool = False,
) -> Iterator[Node]:
    """`kind` is "ours" or "real"; all its files are below `base`.

    `run_in_memory` puts its state and its socket on a tmpfs, as /run is one on most machines.
    """
    root = Path(tempfile.mkdtemp(prefix="bq-", dir=base))
    it = made(root, kind, settings)
    try:
        if run_in_memory:
            in_memory(root / "state")
            it.address = str(root / "state" / "c.sock")  # what ours has in /run lies beside it
        it.start()
        it.import_busybox()
        yield it
    finally:
        try:
            it.clean()
        finally:
            it.stop()
        if run_in_memory:
            unmount(root / "state")
        processes.assert_gone(root)
        assert rootfs.mounts_below(root) == []
        assert cgroups.remove(it.word) == []
        shutil.rmtree(root)


def _collect(stream: Iterable[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)


def wait_until(condition: Callable[[], bool], limit_s: float = GONE_LIMIT_S) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent(pid: int) -> int:
    """The parent of a process: of a task's first process, its shim."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid")))


def busybox_archive() -> bytes:
    return image_archive(busybox_tar(), IMAGE)


def image_archive(layer: bytes, name: str) -> bytes:
    """An image of one layer as an OCI layout in a tar archive, as `ctr images import` takes it."""
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    blobs: dict[str, bytes] = {}

    def blob(kind: str, data: bytes) -> dict[str, object]:
        hexed = hashlib.sha256(data).hexdigest()
        blobs[hexed] = data
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{hexed}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [blob("layer.v1.tar", layer)],
    }
    described = blob("manifest.v1+json", json.dumps(manifest).encode())
    described["annotations"] = {"io.containerd.image.name": name}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [described]}).encode(),
        **{f"blobs/sha256/{hexed}": data for hexed, data in blobs.items()},
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
