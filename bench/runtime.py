"""The runtime beside Debian's runc and crun: the same bundle, in turns.

crun refuses hybrid cgroups, so every command runs in a mount namespace without the version 2 mount.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from barque.linux.namespaces import CLONE_NEWNS, setns
from bench.measure import Figure, interleaved
from tests.support import rootfs
from tests.support.disks import in_memory, unmount
from tests.support.runtimes import UNIFIED, Runc, Runtime, Warm

ROUNDS = 30
MEMORY_ROUNDS = 3
KIB = 1024


class PlainCrun(Runtime):
    """crun without the mount namespace that tests wrap around it."""

    name = "crun"

    def argv(self, *arguments: str) -> list[str]:
        return ["crun", "--root", str(self.root), *arguments]


@contextmanager
def without_unified() -> Iterator[int]:
    """A descriptor of a mount namespace in which cgroups are of version 1 alone."""
    script = f"mountpoint -q {UNIFIED} && umount {UNIFIED}; echo ready; exec sleep 1000"
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    namespace = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY)
    try:
        yield namespace
    finally:
        os.close(namespace)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()


class Contender:
    """One way to run a container of the bundle from beginning to end."""

    def __init__(self, runtime: Runtime, bundle: Path, namespace: int) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.namespace = namespace
        self.id = f"bench-{os.getpid()}-{runtime.name}"

    def run(self) -> None:
        """The command `run`."""
        argv = self.runtime.argv("run", "--bundle", str(self.bundle), self.id)
        subprocess.run(argv, check=True, preexec_fn=self.enter)

    def enter(self) -> None:
        setns(self.namespace, CLONE_NEWNS)

    def peak_kib(self) -> int:
        pid = os.fork()
        if pid == 0:
            self.enter()
            argv = self.runtime.argv("run", "--bundle", str(self.bundle), self.id)
            os.execvp(argv[0], argv)
        return os.wait4(pid, 0)[2].ru_maxrss

    def steps(self) -> None:
        """create, start, the end of the process, delete, as the shim calls them."""
        pid_file = self.bundle / "pid"
        self.step("create", "--bundle", str(self.bundle), "--pid-file", str(pid_file))
        pidfd = os.pidfd_open(int(pid_file.read_text()))
        self.step("start")
        select.select([pidfd], [], [])
        os.close(pidfd)
        self.step("delete")

    def step(self, *arguments: str) -> None:
        assert self.runtime.execute((*arguments, self.id), "/", [0, 1, 2]) == 0


def figures() -> Iterator[Figure]:
    with ExitStack() as undo:
        place = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp")))
        bundle = rootfs.write_bundle(place / "bundle", rootfs.config("true"))
        in_memory(place / "run")  # as /run is on most machines
        undo.callback(unmount, place / "run")
        namespace = undo.enter_context(without_unified())
        made = {}
        for kind in (Runtime, Warm, Runc, PlainCrun):
            runtime = kind(place / "run" / kind.name)
            undo.callback(runtime.close)
            made[kind.name] = Contender(runtime, bundle, namespace)
        yield from compare(made)


def compare(made: dict[str, Contender]) -> Iterator[Figure]:
    times = interleaved(
        {
            "ours": made["ours"].run,
            "warm": made["warm"].steps,
            "runc": made["runc"].run,
            "crun": made["crun"].run,
        },
        ROUNDS,
    )
    yield Figure("run as a command, runc's", times["ours"], times["runc"], "ms", 1.0)
    yield Figure("create, start, delete warm, crun's run", times["warm"], times["crun"], "ms", 1.0)
    peaks = {
        name: min(made[name].peak_kib() for _ in range(MEMORY_ROUNDS)) / KIB
        for name in ("ours", "runc")
    }
    yield Figure("peak memory of run, runc's", peaks["ours"], peaks["runc"], "MiB", 1.0)
