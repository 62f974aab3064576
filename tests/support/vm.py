"""A virtual machine on Debian's own kernel: pure cgroup version 2, AppArmor or SELinux, this
machine's files.

It is emulated (`qemu -accel tcg`), so it works wherever the tests do. Its root is this machine's,
read-only under a layer of memory: what a command changes there is gone with the machine, but for
the directory `share`, which is /run/vm inside. `tools/kernel.sh` makes what is booted.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

PROJECT = Path(__file__).resolve().parents[2]
PIECES = PROJECT / "tests/vm"
BOOTED = PROJECT / "build/cache/vm"
INSIDE = "/run/vm"
MEMORY_MB = 2048
BOOT_LIMIT_S = 300.0  # beside a busy host
KERNEL_WORDS = (
    *("console=ttyS0", "panic=-1", "quiet", "loglevel=4", "mitigations=off"),
    "no_timer_check",  # an emulated timer on a busy machine may be late: the kernel would give up
    *("cgroup_no_v1=all", "swapaccount=1"),
)
SECURITY_WORDS = {
    "apparmor": ("apparmor=1", "security=apparmor"),
    "selinux": ("selinux=1", "security=selinux", "enforcing=1"),
}


class Failed(AssertionError):
    """A command ended with another exit code than 0; the text has what it wrote."""


class Machine:
    """One boot. A context manager: qemu has ended afterwards, whatever has happened."""

    def __init__(
        self,
        *,
        systemd: bool = False,
        security: str = "apparmor",
        disks: tuple[Path, ...] = (),
    ) -> None:
        self.words = (*KERNEL_WORDS, *SECURITY_WORDS[security])
        if systemd:
            self.words += ("barque.init=systemd",)
        self.disks = disks
        self.number = 0
        self.share = Path(tempfile.mkdtemp(prefix="bq-vm-", dir="/tmp"))
        self.share.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None
        self.port: socket.socket | None = None

    def __enter__(self) -> Machine:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        for name in ("second", "agent", "agent.service", "vm.target"):
            shutil.copy(PIECES / name, self.share / name)
        (self.share / "modules").write_text(f"{BOOTED / 'lib/modules'}\n")
        address = self.share / "port"
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            listener.bind(str(address))
            listener.listen()
            listener.settimeout(BOOT_LIMIT_S)
            self.process = subprocess.Popen(self.argv(address), stdin=subprocess.DEVNULL)
            self.port, _ = listener.accept()
        self.port.settimeout(BOOT_LIMIT_S)
        try:
            assert self._line() == "ready", self.console()
        except TimeoutError:
            raise Failed(f"the machine does not start:\n{self.console()}") from None

    def argv(self, address: Path) -> list[str]:
        share = f"local,path={self.share},mount_tag=share,security_model=none"
        root = "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"
        argv = [
            *("setpriv", "--pdeathsig", "KILL"),  # it ends with the tests, however they end
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
            *("-m", str(MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-kernel", str(BOOTED / "vmlinuz")),
            *(
                "-initrd",
                str(BOOTED / "initramfs"),
                "-append",
                " ".join((*self.words, f"project={PROJECT}")),
            ),
            *("-virtfs", root, "-virtfs", share),
            *("-serial", f"file:{self.share}/console"),
            *("-chardev", f"socket,id=port,path={address}", "-serial", "chardev:port"),
        ]
        for disk in self.disks:
            argv += ["-drive", f"file={disk},format=raw,if=virtio,cache=writethrough"]
        return argv

    def call(self, command: str, limit_s: int = 60) -> tuple[int, str]:
        """Run a shell's command; its exit code and all it wrote. After the limit it is killed."""
        assert self.port is not None
        self.number += 1
        self.port.settimeout(limit_s * 2 + 30)
        self.port.sendall(f"{self.number} {limit_s} {command}\n".encode())
        number, code = self._line().split()
        assert int(number) == self.number
        output = (self.share / f"{number}.out").read_text(errors="replace")
        return int(code), output

    def check(self, command: str, limit_s: int = 60) -> str:
        """As `call`, and it must end with 0."""
        code, output = self.call(command, limit_s)
        if code:
            raise Failed(f"{command}: exit code {code}\n{output}")
        return output

    def script(self, text: str, limit_s: int = 60) -> str:
        """As `check`, for several lines."""
        name = f"script{self.number + 1}"
        (self.share / name).write_text(text)
        return self.check(f"sh -e {INSIDE}/{shlex.quote(name)}", limit_s)

    def console(self) -> str:
        try:
            return (self.share / "console").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _line(self) -> str:
        assert self.port is not None
        text = b""
        while not text.endswith(b"\n"):
            piece = self.port.recv(1)
            if not piece:
                raise Failed(f"the machine is gone:\n{self.console()}")
            text += piece
        return text.decode().strip()

    def cut_power(self) -> None:
        """End qemu at once: what is not on a disk is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.cut_power()
        if self.port is not None:
            self.port.close()
        shutil.rmtree(self.share, ignore_errors=True)


def wait_until(machine: Machine, command: str, limit_s: float) -> None:
    """Repeat a command until it ends with 0."""
    deadline = time.monotonic() + limit_s
    while machine.call(command)[0]:
        assert time.monotonic() < deadline, f"{command}: not before {limit_s} s"
        time.sleep(0.5)
