"""A containerd on roots of its own: ours, or the real one of Debian.

with containerd("ours") as address: ...        # or containerd("real")
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from barque import program
from tests.support import processes
from tests.support.disks import unmount

START_TIMEOUT_S = 30.0
CONFIG = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
"""


def _command(kind: str, root: Path, settings: str = "", address: str = "") -> Sequence[str]:
    address = address or f"{root}/c.sock"
    options = ["--root", f"{root}/root", "--state", f"{root}/state", "--address", address]
    if kind == "ours":
        if settings:
            (root / "config.toml").write_text(f"version = 2\n{settings}")
            options += ["--config", f"{root}/config.toml"]
        return program.command("barque-containerd", *options)
    (root / "config.toml").write_text(CONFIG + settings)
    return ["/usr/bin/containerd", "--config", f"{root}/config.toml", *options]


def _wait(process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"containerd ended: {log.read_text()}"
        ready = subprocess.run(
            ["ctr", "--address", str(address), "--connect-timeout", "1s", "version"],
            capture_output=True,
        )
        if ready.returncode == 0:
            return
        time.sleep(0.02)
    raise AssertionError(f"containerd does not answer: {log.read_text()}")


@contextmanager
def containerd(
    kind: str,
    disk_bytes: int = 0,
    disk: Callable[[Path], AbstractContextManager[Path]] | None = None,
) -> Iterator[str]:
    """`kind` is "ours" or "real". Yields the address; removes everything of it at the end.

    With `disk_bytes` its state is on a tmpfs of that size, with `disk` on a file system of its own.
    """
    root = Path(tempfile.mkdtemp(prefix="bq-ctd-", dir="/tmp"))
    if disk is not None:
        with disk(root / "m"), _running(kind, root / "m") as address:
            yield address
        shutil.rmtree(root)
        return
    if disk_bytes:
        command = ["mount", "-t", "tmpfs", "-o", f"size={disk_bytes}", "tmpfs", str(root)]
        subprocess.run(command, check=True)
    try:
        with _running(kind, root) as address:
            yield address
    finally:
        if disk_bytes:
            unmount(root)
        shutil.rmtree(root)


@contextmanager
def configured(kind: str, settings: str) -> Iterator[tuple[Path, int]]:
    """A server with these lines of TOML: its directory, where `c.sock` and `log` are, and its pid.

    Raises AssertionError, with what it wrote, where it ends at once.
    """
    root = Path(tempfile.mkdtemp(prefix="bq-ctd-", dir="/tmp"))
    try:
        with _process(kind, root, settings) as process:
            yield root, process.pid
    finally:
        shutil.rmtree(root)


@contextmanager
def _running(kind: str, root: Path) -> Iterator[str]:
    with _process(kind, root):
        yield str(root / "c.sock")


@contextmanager
def _process(kind: str, root: Path, settings: str = "") -> Iterator[subprocess.Popen[bytes]]:
    log = root / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(kind, root, settings),
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"]},
        )
    try:
        _wait(process, root / "c.sock", log)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)
        if kind == "ours":
            processes.assert_gone(root)
        else:  # it may have ended while it started a shim, which waits for it then
            processes.kill(root)
        mounts = Path("/proc/self/mountinfo").read_text()
        assert f"{root}/" not in mounts, f"mounts left under {root}"
