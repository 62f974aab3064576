"""Debian's real containerd as a peer: its own root, state, address, and our shim on its PATH.

with containerd_peer() as peer:
    peer.ctr("run", "--rm", "--rootfs", peer.rootfs, "one", "true")
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barque import program
from tests.support import processes, rootfs

SHIM = "containerd-shim-barque-v2"
RUNTIME = "io.containerd.barque.v2"
RUN = ("--runtime", RUNTIME, "--env", "PATH=/bin")
START_TIMEOUT_S = 30.0
CONFIG = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
"""


class ContainerdPeer:
    """A containerd that can be killed and started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = str(root / "c.sock")
        self.rootfs = str(rootfs.build(root / "rootfs"))
        self._log = (root / "containerd.log").open("ab")
        (root / "config.toml").write_text(CONFIG)
        (root / "bin").mkdir()
        wrapper = root / "bin" / SHIM
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(program.command(SHIM))} "$@"\n')
        wrapper.chmod(0o755)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *("containerd", "--config", str(self.root / "config.toml")),
                *("--address", self.address, "--log-level", "debug"),
                *("--root", str(self.root / "root"), "--state", str(self.root / "state")),
            ],
            env={**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"},
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.ctr("version", check=False).returncode:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return (self.root / "containerd.log").read_text()

    def ctr(
        self, *args: str, check: bool = True, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `ctr` with `text` as its standard input."""
        done = subprocess.run(
            ["ctr", "--address", self.address, *args],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{args}: {done.stderr}\n{self.log()[-4000:]}"
        return done

    def run_detached(self, name: str, *command: str) -> None:
        self.ctr("run", "-d", *RUN, "--rootfs", self.rootfs, name, *command)

    def status(self, name: str) -> str:
        """What `ctr task ls` says of a task; empty when there is none."""
        rows = [line.split() for line in self.ctr("task", "ls").stdout.splitlines()[1:]]
        return next((row[2] for row in rows if row[0] == name), "")

    def close(self) -> None:
        if self.process.poll() is not None:
            self.start()
        for namespace in self.ctr("namespaces", "ls", "-q").stdout.split():
            inside = ("--namespace", namespace, "task")
            for name in self.ctr(*inside, "ls", "-q").stdout.split():
                self.ctr(*inside, "rm", "-f", name, check=False)
        self.process.terminate()
        self.process.wait(START_TIMEOUT_S)
        self._log.close()
        processes.assert_gone(self.root)
        for point in rootfs.mounts_below(self.root):
            subprocess.run(["umount", point], check=False)


@contextmanager
def containerd_peer() -> Iterator[ContainerdPeer]:
    with rootfs.temporary() as root:
        peer = ContainerdPeer(root)
        try:
            yield peer
        finally:
            peer.close()
