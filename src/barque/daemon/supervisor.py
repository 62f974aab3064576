"""The managed barque-containerd: started, adopted or restarted, never taken down by our own death.

It runs in its own session, so a daemon that is killed leaves it and every container as they are;
the next daemon finds it by its socket, which also tells its pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from barque import errors, program
from barque.daemon.paths import Paths

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.005
_UCRED = struct.Struct("iii")  # pid, uid, gid
RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
log = logging.getLogger(__name__)


def _listener(path: Path) -> int:
    """The pid of the process that listens on the socket `path`, 0 when none does. unix(7)."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return 0
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid: int = _UCRED.unpack(credentials)[0]
        return pid


class Supervisor:
    """Keeps one barque-containerd alive on `paths.containerd_socket`."""

    def __init__(
        self, paths: Paths, log_level: str, descriptors: tuple[int, int] | None = None
    ) -> None:
        """`descriptors`: the limit (soft, hard) that containerd and all below it shall have."""
        self._paths = paths
        self._descriptors = descriptors
        self._log_level = log_level
        self._pidfd = -1
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self.on_restart: Callable[[], None] | None = None  # containerd is back after a death

    @property
    def address(self) -> str:
        return str(self._paths.containerd_socket)

    def start(self) -> None:
        """Start it, or adopt the one that a former daemon left. Returns before it answers."""
        found = _listener(self._paths.containerd_socket)
        if found:
            with contextlib.suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(found)
                return
        self._spawn()

    def _spawn(self) -> None:
        argv = program.command(
            "barque-containerd",
            *("--root", str(self._paths.containerd_root)),
            *("--state", str(self._paths.containerd_state)),
            *("--address", self.address),
            *("--log-level", self._log_level),
        )
        with self._paths.containerd_log.open("ab") as output:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        self._pidfd = os.pidfd_open(self._child.pid)
        if self._descriptors is not None:
            resource.prlimit(self._child.pid, resource.RLIMIT_NOFILE, self._descriptors)

    async def ready(self) -> None:
        """Return once it answers on its socket. Raises Unavailable with the end of its log."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not _listener(self._paths.containerd_socket):
            if self._child is not None and self._child.poll() is not None:
                raise errors.Unavailable(f"barque-containerd ended at start: {self._log_end()}")
            if asyncio.get_running_loop().time() > deadline:
                raise errors.Unavailable(f"barque-containerd does not answer: {self._log_end()}")
            await asyncio.sleep(POLL_S)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._keep())

    def _log_end(self) -> str:
        lines = self._paths.containerd_log.read_bytes()[-4096:].decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "no output")

    async def _dead(self) -> None:
        """Return when the process that the pidfd names has ended."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._pidfd, _settle, ended)
        try:
            await ended
        finally:
            loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        if self._child is not None:
            self._child.wait()

    async def _keep(self) -> None:
        failures = 0
        while True:
            if self._pidfd >= 0:
                await self._dead()
            if self._stopping:
                return
            log.error("barque-containerd ended: starting it again")
            await asyncio.sleep(RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)])
            if self._stopping:
                return
            try:
                self._spawn()
                await self.ready()
                failures = 0
            except (errors.Unavailable, OSError) as error:
                failures += 1
                log.error("barque-containerd does not start: %s", error)
                continue
            if self.on_restart is not None:
                self.on_restart()

    async def stop(self) -> None:
        """End it, as at an orderly shutdown; containers and their shims go on."""
        self._stopping = True
        if self._pidfd < 0:
            return
        if self._watch is None:  # the daemon did not come so far; one that was adopted stays
            if self._child is not None:
                self._child.terminate()
                await asyncio.to_thread(self._child.wait)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        try:
            await asyncio.wait_for(self._watch, STOP_TIMEOUT_S)
        except TimeoutError:
            log.error("barque-containerd does not end within %s s: left", STOP_TIMEOUT_S)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
