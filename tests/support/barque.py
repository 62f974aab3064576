"""Our own stack on roots of its own: daemon, containerd and zygote, started, crashed, removed.

    with stack() as barque:
        barque.cli("run", "--rm", "busybox", "true")          # our command
        barque.docker("ps")                                     # the real docker CLI
        barque.kill("barqued")

Leaving the block removes what the test made and fails when anything of it is left on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from barque import program
from barque.network.firewall.rules import table_name
from barque.network.wiring import alias_of
from tests.support import cgroups
from tests.support.disks import in_memory
from tests.support.docker_peer import busybox_tar, real_docker_cli, wait_for
from tests.support.runtimes import wait_gone
from tests.support.subnets import Subnet

NO_BRIDGE = "--bridge=none"
SYSTEMD = "native.cgroupdriver=systemd"
STOP_LIMIT_S = 30.0
POLL_S = 0.02


def _fact(pid: int, key: str) -> str:
    """A line of /proc/PID/status; "" when the process is no more."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return line.partition(":")[2].strip()
    return ""


@dataclass
class Stack:
    """One running Barque, all of whose names contain `word`."""

    root: Path
    word: str
    flags: Sequence[str]
    daemon: subprocess.Popen[bytes] | None = None
    answer_s: float = 0.0  # from the start of the daemon to its first answer
    ready_s: float = 0.0  # and to its first list of containers
    _subnet: Subnet = field(default_factory=Subnet)

    @property
    def subnet(self) -> int:
        """N of its own default network 10.213.N.0/24; 10.214.N.0/24 is free for its tests."""
        return self._subnet.number

    @property
    def socket(self) -> Path:
        return self.root / "r" / "barque.sock"

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def bridge(self) -> str:
        return f"bq{self.word}"

    @property
    def cgroup(self) -> str:
        """The parent of its containers' groups, at the top of each hierarchy."""
        return f"bq{self.word}"

    @property
    def cgroup_parent(self) -> str:
        return f"{self.cgroup}.slice" if SYSTEMD in self.flags else f"/{self.cgroup}"

    @property
    def log(self) -> Path:
        return self.root / "barqued.log"

    def argv(self) -> list[str]:
        return program.command(
            "barqued",
            *("--data-root", str(self.root / "d"), "--exec-root", str(self.root / "r")),
            *(() if NO_BRIDGE in self.flags else self._default_network()),
            *("--default-address-pool", self._subnet.pool),
            *("--config-file", str(self.root / "daemon.json")),
            *("--cgroup-parent", self.cgroup_parent),
            *(() if SYSTEMD in self.flags else ("--exec-opt", "native.cgroupdriver=cgroupfs")),
            *self.flags,
        )

    def _default_network(self) -> tuple[str, ...]:
        return ("--bridge", self.bridge, "--bip", f"10.213.{self.subnet}.1/24")

    def start(self) -> None:
        """Start the daemon and wait until it lists its containers."""
        assert self.daemon is None
        before = time.perf_counter()
        with self.log.open("ab") as output:
            self.daemon = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
            )
        wait_for(self.socket, "/_ping", self.daemon, self.log)
        self.answer_s = time.perf_counter() - before
        wait_for(self.socket, "/containers/json", self.daemon, self.log)
        self.ready_s = time.perf_counter() - before

    def answers(self) -> bool:
        done = subprocess.run(
            ["curl", "-sf", "--unix-socket", str(self.socket), "http://d/_ping"],
            capture_output=True,
            check=False,
        )
        return done.stdout == b"OK"

    def stop(self) -> None:
        """An orderly end of the daemon; its containers go on."""
        assert self.daemon is not None
        self.daemon.terminate()
        self.daemon.wait(STOP_LIMIT_S)
        self.daemon = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def pids(self, what: str) -> list[int]:
        """Our processes of this stack whose command line contains `what`."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ")
                if str(self.root) in line and what in line and int(pid) != os.getpid():
                    found.append(int(pid))
        return found

    def shims(self) -> list[int]:
        """One process for each: a worker is its keeper's child, and has the same name. One that is
        not needed yet has a worker of another name."""
        names = {pid: _fact(pid, "Name") for pid in self.pids("zygote")}
        parents = {pid: int(_fact(pid, "PPid") or 0) for pid in names}
        spare = {parents[pid] for pid, name in names.items() if name == "barque-spare"}
        named = {pid for pid, name in names.items() if name == "barque-shim"} - spare
        return [pid for pid in named if parents[pid] not in named]

    def kill(self, program: str) -> None:
        """kill -9 of every process of this stack with this name: barqued, barque-shim, ...

        Each has ended afterwards: a busy machine takes a while for that.
        """
        for pid in self.pids(""):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == program[:15]:
                    os.kill(pid, signal.SIGKILL)
                    wait_gone(pid)
        if self.daemon is not None and program == "barqued":
            self.daemon.wait(STOP_LIMIT_S)
            self.daemon = None

    def reboot(self) -> None:
        """As after a power cut: all but the data root is gone, and the daemon starts."""
        for pid in [*self.pids(""), *cgroups.processes(self.cgroup)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.daemon is not None:
            self.daemon.wait(STOP_LIMIT_S)
            self.daemon = None
        _unmount_below(self.root)
        shutil.rmtree(self.root / "r")
        for name in self._links():
            subprocess.run(["ip", "link", "delete", name], check=True)
        table = table_name(str(self.root / "d"))
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)
        cgroups.remove(self.cgroup, depth=100)
        self.start()

    def _run(
        self, argv: Sequence[str], check: bool, stdin: bytes, timeout_s: float
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {
            **os.environ,
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.root / "config"),
        }
        done = subprocess.run(
            argv, env=environment, input=stdin, capture_output=True, timeout=timeout_s, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{argv} exited with {done.returncode}: {done.stderr.decode()}\n"
                f"daemon: {self.log.read_text()[-2000:]}"
            )
        return done

    def cli(
        self, *arguments: str, check: bool = True, stdin: bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Our command against this stack."""
        return self._run(program.command("barque", *arguments), check, stdin, timeout_s)

    def docker(
        self, *arguments: str, check: bool = True, stdin: bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """The real docker CLI against this stack."""
        return self._run([real_docker_cli(), *arguments], check, stdin, timeout_s)

    def add_busybox(self) -> None:
        settings = ("-c", 'CMD ["sh"]', "-c", "ENV PATH=/bin")
        self.docker("import", *settings, "-", "busybox", stdin=busybox_tar())

    # the end

    def release(self) -> None:
        """Let another stack have the subnet."""
        self._subnet.release()

    def destroy(self) -> None:
        """Remove every container and stop every process; raises AssertionError for what is left."""
        if self.daemon is None or self.daemon.poll() is not None:
            self.daemon = None
            self.start()
        ids = self.docker("ps", "-aq", check=False).stdout.split()
        refused = ""
        if ids:
            removed = self.docker("rm", "-f", "-v", *(i.decode() for i in ids), check=False)
            refused = removed.stderr.decode().strip()
        networks = self.docker("network", "ls", "-q", "-f", "type=custom", check=False)
        if networks.returncode == 0 and networks.stdout.split():
            self.docker("network", "rm", *networks.stdout.decode().split(), check=False)
        self.stop()
        self.wait_gone()
        left = self.leftovers()
        for pid in self.pids(str(self.root)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left on the machine: {left} {refused}"

    def wait_gone(self) -> None:
        """Until its processes have ended, or have had the time to."""
        deadline = time.monotonic() + STOP_LIMIT_S
        while self.pids(str(self.root)) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def leftover_sandboxes(self) -> list[str]:
        """Network namespaces, stdio sockets and bundles of containers that do not run."""
        run = self.root / "r"
        bundles = run / "containerd" / "io.containerd.runtime.v2.task" / "moby"
        deadline = time.monotonic() + STOP_LIMIT_S
        while list(bundles.glob(".*")) and time.monotonic() < deadline:
            time.sleep(0.02)  # a bundle that has gone is removed in the background
        return sorted(
            str(path)
            for path in (*(run / "io").glob("*"), *(run / "shm").glob("*"), *bundles.glob("*"))
        )

    def _links(self) -> list[str]:
        """Its bridges: the default one has its word, those of user networks its mark."""
        mark = alias_of(str(self.root / "d"))
        shown = subprocess.run(
            ["ip", "-json", "link", "show", "type", "bridge"],
            capture_output=True,
            check=True,
        )
        links = [link for link in json.loads(shown.stdout or b"[]") if link]
        return [
            link["ifname"]
            for link in links
            if self.word in link["ifname"] or link.get("ifalias") == mark
        ]

    def leftovers(self) -> list[str]:
        """Processes, mounts, links, rule sets and cgroups that carry this stack's names."""
        left = [f"process {p} {name_of(p)}" for p in self.pids(str(self.root))]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        own = {f"{self.root}/d", f"{self.root}/r"}  # of the roots that are put in memory
        left += [f"mount {m}" for m in mounts if f" {self.root}/" in m and m.split()[4] not in own]
        left += [f"link {name}" for name in self._links()]
        rules = subprocess.run(
            ["nft", "list", "tables"], capture_output=True, text=True, check=True
        )
        left += [f"rules {line}" for line in rules.stdout.splitlines() if self.word in line]
        left += [f"cgroup {path}" for path in cgroups.remove(self.cgroup)]
        return left


def name_of(pid: int) -> str:
    """What a process is called, its state and its parent: the beginning of /proc/PID/stat."""
    try:
        return " ".join(Path(f"/proc/{pid}/stat").read_text().split()[1:4])
    except OSError:
        return "gone"


def _unmount_below(root: Path) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        point = line.split()[4]
        if point.startswith(f"{root}/"):
            subprocess.run(["umount", "-l", point], check=False)


def _remove(root: Path) -> None:
    _unmount_below(root)
    shutil.rmtree(root, ignore_errors=True)


@contextmanager
def stack(
    *flags: str,
    busybox: bool = True,
    data_size: str = "",
    run_in_memory: bool = False,
    disk: Callable[[Path], AbstractContextManager[Path]] | None = None,
    prefix: str = "bq-",
) -> Iterator[Stack]:
    """A running stack, with the image `busybox` unless not wanted.

    `data_size` puts its data root on a tmpfs of that size, `disk` on a file system of its own;
    `run_in_memory` its exec root on a tmpfs, as /run is one on most machines. `prefix` is what the
    directory of all roots begins with.
    """
    assert sys.executable
    word = secrets.token_hex(4)
    root = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    root.chmod(0o711)  # containers may be other users on the machine
    made = Stack(root, word, flags)
    (root / "daemon.json").write_text("{}")
    if data_size:
        in_memory(root / "d", f"size={data_size}")
    if run_in_memory:
        in_memory(root / "r")
    own_disk = contextlib.ExitStack()
    try:
        if disk is not None:
            own_disk.enter_context(disk(root / "d"))
        made.start()
        if busybox:
            made.add_busybox()
        yield made
        made.destroy()
    except BaseException:
        with contextlib.suppress(Exception):
            made.destroy()
        raise
    finally:
        for pid in made.pids(str(root)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        own_disk.close()
        _remove(root)
        made.release()
