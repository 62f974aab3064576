"""OCI runtimes under test: ours as a command, ours warm, and the references runc and crun."""

import array
import errno
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2] / "src"
DRIVER = Path(__file__).with_name("warm_driver.py")
PYTHON = sys.executable
PATIENCE_S = 20.0
# crun refuses cgroups in hybrid mode; without the version 2 mount it sees version 1 alone
WITHOUT_UNIFIED = 'if mountpoint -q "$0"; then umount "$0"; fi; exec "$@"'
CGROUPS = "/sys/fs/cgroup"
BESIDE_VERSION_1 = f"{CGROUPS}/unified"
UNIFIED = BESIDE_VERSION_1 if os.path.isdir(BESIDE_VERSION_1) else CGROUPS
ONLY_UNIFIED = 'umount -R "$0" && mount -t cgroup2 none "$0" && exec "$@"'


@dataclass
class Result:
    code: int
    out: str
    err: str

    def check(self) -> "Result":
        assert self.code == 0, self
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Runtime:
    """One runtime with its own root directory."""

    name = "ours"

    def __init__(self, root: Path) -> None:
        self.root = root

    def argv(self, *arguments: str) -> list[str]:
        entry = str(SOURCE / "barque/__main__.py")
        start = [PYTHON, "-I", "-S", entry, "barque-runc"]
        return [*start, "--root", str(self.root), *arguments]

    def call(
        self, *arguments: str, cwd: Path | str = "/", stdin: bytes = b"", fds: Sequence[int] = ()
    ) -> Result:
        """Run one command to its end; what it writes goes through files, as a container may
        hold its descriptors on."""
        base = self.root.parent / f"io-{time.monotonic_ns()}"
        (base.with_suffix(".in")).write_bytes(stdin)
        with (
            open(base.with_suffix(".in"), "rb") as fin,
            open(base.with_suffix(".out"), "wb") as fout,
            open(base.with_suffix(".err"), "wb") as ferr,
        ):
            code = self.execute(
                arguments, str(cwd), [fin.fileno(), fout.fileno(), ferr.fileno(), *fds]
            )
        self.last_output = base.with_suffix(".out")
        self.last_errors = base.with_suffix(".err")
        return Result(code, self.output(), self.errors())

    def output(self) -> str:
        """What the last call, and the container it made, wrote until now."""
        return self.last_output.read_text(errors="replace")

    def errors(self) -> str:
        return self.last_errors.read_text(errors="replace")

    def execute(self, arguments: Sequence[str], cwd: str, fds: list[int]) -> int:
        argv = self.argv(*arguments)
        extra = fds[3:]
        if extra:  # they must be 3, 4, ... in the child, where this process has others
            moves = " ".join(f"{n}<&{fd} {fd}<&-" for n, fd in enumerate(extra, start=3))
            argv = ["bash", "-c", f'exec "$@" {moves}', "bash", *argv]
        process = subprocess.Popen(
            argv, cwd=cwd, stdin=fds[0], stdout=fds[1], stderr=fds[2], pass_fds=extra
        )
        return process.wait(PATIENCE_S * 3)

    def close(self) -> None:
        """Nothing to close."""

    def pid(self, container: str) -> int:
        pid: int = self.call("state", container).check().json["pid"]
        return pid

    def status(self, container: str) -> str:
        status: str = self.call("state", container).check().json["status"]
        return status

    def wait_stopped(self, container: str) -> None:
        pid = self.pid(container)
        if pid:
            wait_gone(pid)
        deadline = time.monotonic() + PATIENCE_S
        while self.status(container) != "stopped":
            assert time.monotonic() < deadline, "the container does not stop"
            time.sleep(0.01)


class Warm(Runtime):
    """Ours, called in a forked child of a warm, sealed process."""

    name = "warm"
    driver = DRIVER

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        self.process = subprocess.Popen(
            [PYTHON, "-I", "-S", str(self.driver), str(SOURCE), str(number)], pass_fds=[number]
        )
        theirs.close()

    def request(self, arguments: Sequence[str], cwd: str) -> dict[str, Any]:
        return {"argv": ["--root", str(self.root), *arguments], "cwd": cwd}

    def execute(self, arguments: Sequence[str], cwd: str, fds: list[int]) -> int:
        request = self.request(arguments, cwd)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self.socket.sendmsg([json.dumps(request).encode()], rights)
        self.socket.settimeout(PATIENCE_S * 3)
        return int(self.socket.recv(64))

    def close(self) -> None:
        self.socket.close()
        self.process.wait(PATIENCE_S)


class Faulty(Warm):
    """Ours, warm; the command after `fault` is set fails or dies at one of its kernel calls."""

    name = "faulty"
    driver = DRIVER.with_name("fault_driver.py")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fault: dict[str, Any] | None = None
        self.at_once = False
        self.log = root.parent / "calls"

    def request(self, arguments: Sequence[str], cwd: str) -> dict[str, Any]:
        fault, self.fault = self.fault, None
        more = {} if fault is None else {"fault": {**fault, "log": str(self.log)}}
        return {**super().request(arguments, cwd), **more, "at_once": self.at_once}

    def break_at(self, at: int, *, kill: bool = False) -> None:
        """Break the next command at its `at`-th kernel call; -1 breaks none and counts."""
        self.fault = {"at": at, "kill": kill}

    def calls(self) -> list[str]:
        """What the last command that was to break has called."""
        return self.log.read_text().split("\n")


class Runc(Runtime):
    name = "runc"

    def argv(self, *arguments: str) -> list[str]:
        return ["runc", "--root", str(self.root), *arguments]


class Crun(Runtime):
    name = "crun"

    def argv(self, *arguments: str) -> list[str]:
        inner = ["crun", "--root", str(self.root), *arguments]
        return ["unshare", "-m", "sh", "-c", WITHOUT_UNIFIED, BESIDE_VERSION_1, *inner]


class UnifiedOnly(Runtime):
    """Ours as a command, where cgroups are of version 2 alone (and without the controllers that
    this machine uses in version 1)."""

    name = "unified"

    def argv(self, *arguments: str) -> list[str]:
        inner = super().argv(*arguments)
        return ["unshare", "-m", "sh", "-c", ONLY_UNIFIED, CGROUPS, *inner]


RUNTIMES: dict[str, type[Runtime]] = {
    kind.name: kind for kind in (Runtime, Warm, Faulty, Runc, Crun, UnifiedOnly)
}


@dataclass
class Residue:
    """What the machine has of mounts and cgroups whose name contains a container's."""

    containers: list[str] = field(default_factory=list)

    def check(self) -> None:
        mounts = Path("/proc/self/mountinfo").read_text()
        for container in self.containers:
            assert container not in mounts
            left = [str(path) for path in cgroups_of(container)]
            assert not left, left


def cgroups_of(container: str) -> list[Path]:
    found: list[Path] = []
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [Path(directory, name) for name in names if name == container]
    return found


def wait_gone(pid: int) -> None:
    """Wait until a process has ended (a zombie has)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError as error:
        if error.errno != errno.EINVAL:  # kernels before 6.9, of one that just goes
            raise
        return
    try:
        assert select.select([pidfd], [], [], PATIENCE_S)[0], f"process {pid} does not end"
    finally:
        os.close(pidfd)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; what never does fails."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)
