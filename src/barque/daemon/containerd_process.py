"""The process of the managed barque-containerd: found by its socket, or started.

Loaded before all that takes long to load, so that containerd starts while the daemon loads the
rest of itself; nothing here needs asyncio.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import struct
import subprocess
from contextlib import closing, suppress

from barque import program
from barque.daemon.paths import Paths
from barque.linux.lock import EXIT_TAKEN

_UCRED = struct.Struct("iii")  # pid, uid, gid
# RFC 9113, section 3.4: a client's first bytes, with an empty frame of settings
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
ANSWER_LIMIT_S = 1.0


def listener(path: str) -> int:
    """The pid of the process that listens on the socket `path`, 0 when none does. unix(7)."""
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(path)
        except OSError:
            return 0
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid: int = _UCRED.unpack(credentials)[0]
        return pid


def answers(path: str) -> bool:
    """Whether the server on the socket `path` says something. Of one that is being ended the kernel
    takes connections still."""
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(ANSWER_LIMIT_S)
        try:
            probe.connect(path)
            probe.sendall(_PREFACE)
            return bool(probe.recv(1))
        except OSError:
            return False


class ContainerdProcess:
    """The one that serves `paths.containerd_socket`. `pidfd` names it, and is -1 for none."""

    def __init__(
        self, paths: Paths, log_level: str, descriptors: tuple[int, int] | None = None
    ) -> None:
        """`descriptors`: the limit (soft, hard) that containerd and all below it shall have."""
        self._paths = paths
        self._log_level = log_level
        self._descriptors = descriptors
        self.pidfd = -1
        self.child: subprocess.Popen[bytes] | None = None  # None of one that was adopted

    @property
    def address(self) -> str:
        return str(self._paths.containerd_socket)

    def start(self) -> None:
        """Start it, or adopt the one that a former daemon left. Returns before it answers."""
        found = listener(self.address)
        if found:
            with suppress(OSError):  # gone; kernels before 6.9 say EINVAL where it just goes
                self.pidfd = os.pidfd_open(found)
                return
        self.spawn()

    def spawn(self) -> None:
        argv = program.command(
            "barque-containerd",
            *("--root", str(self._paths.containerd_root)),
            *("--state", str(self._paths.containerd_state)),
            *("--address", self.address),
            *("--log-level", self._log_level),
        )
        with self._paths.containerd_log.open("ab") as output:
            self.child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = os.pidfd_open(self.child.pid)
        if self._descriptors is not None:
            resource.prlimit(self.child.pid, resource.RLIMIT_NOFILE, self._descriptors)

    def refused(self) -> bool:
        """Whether the child ended without having served, and no other is about to.

        A daemon that was killed may have started one just before, which holds the lock already
        and does not listen yet.
        """
        return self.child is not None and self.child.poll() not in (None, EXIT_TAKEN)

    def is_gone(self) -> bool:
        """Whether the one that a former daemon left has ended, or what was started gave way to one
        that has: nobody will serve."""
        if self.child is not None:
            return self.child.poll() == EXIT_TAKEN
        return self.pidfd < 0 or bool(select.select([self.pidfd], [], [], 0)[0])

    def adopt(self, pid: int) -> None:
        """Be about the process `pid`, which listens, where the child gave way to it."""
        if self.child is None or self.child.pid == pid:
            return
        self.child.wait()
        self.child = None
        os.close(self.pidfd)
        self.pidfd = -1
        with suppress(OSError):  # as above
            self.pidfd = os.pidfd_open(pid)

    def log_end(self) -> str:
        """The last line that it wrote."""
        lines = self._paths.containerd_log.read_bytes()[-4096:].decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "no output")
