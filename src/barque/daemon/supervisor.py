"""The managed barque-containerd: started, adopted or restarted, never taken down by our own death.

It runs in its own session, so a daemon that is killed leaves it and every container as they are;
the next daemon finds it by its socket, which also tells its pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

from barque import errors
from barque.daemon.containerd_process import ContainerdProcess, answers, listener

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.005
AGAIN_S = 0.1
RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
log = logging.getLogger(__name__)


class Supervisor:
    """Keeps the one barque-containerd of `process` alive, which was started before."""

    def __init__(self, process: ContainerdProcess) -> None:
        self._process = process
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self.on_restart: Callable[[], None] | None = None  # containerd is back after a death

    async def ready(self) -> None:
        """Return once it answers on its socket. Raises Unavailable with the end of its log.

        One that was found and ends meanwhile is replaced.
        """
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not (pid := await self._serves()):
            if self._process.refused():
                raise errors.Unavailable(
                    f"barque-containerd ended at start: {self._process.log_end()}"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise errors.Unavailable(
                    f"barque-containerd does not answer: {self._process.log_end()}"
                )
            if self._process.is_gone():
                await asyncio.sleep(AGAIN_S)  # another may be about to serve
                if not await self._serves():
                    self._process.spawn()
            await asyncio.sleep(POLL_S)
        await asyncio.to_thread(self._process.adopt, pid)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._keep())

    async def _serves(self) -> int:
        """Its pid where it does, else 0. One that was started here is believed when it listens."""
        if self._process.child is not None:
            return listener(self._process.address)
        alive = await asyncio.to_thread(answers, self._process.address)
        return listener(self._process.address) if alive else 0

    async def _dead(self) -> None:
        """Return when the process that the pidfd names has ended."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._process.pidfd, _settle, ended)
        try:
            await ended
        finally:
            loop.remove_reader(self._process.pidfd)
        os.close(self._process.pidfd)
        self._process.pidfd = -1
        if self._process.child is not None:
            self._process.child.wait()

    async def _keep(self) -> None:
        failures = 0
        while True:
            if self._process.pidfd >= 0:
                await self._dead()
            if self._stopping:
                return
            log.error("barque-containerd ended: starting it again")
            await asyncio.sleep(RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)])
            if self._stopping:
                return
            try:
                self._process.spawn()
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
        if self._process.pidfd < 0:
            return
        if self._watch is None:  # the daemon did not come so far; one that was adopted stays
            if self._process.child is not None:
                self._process.child.terminate()
                await asyncio.to_thread(self._process.child.wait)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process.pidfd, signal.SIGTERM)
        try:
            await asyncio.wait_for(self._watch, STOP_TIMEOUT_S)
        except TimeoutError:
            log.error("barque-containerd does not end within %s s: left", STOP_TIMEOUT_S)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
