"""The keeper of the zygote: the one warm process that our shims are forked from.

The zygote's contract is docs/boundaries.md section 3. It is a convenience only: shims do not depend
on it, so when it is dead the next request starts another.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from barque.errors import BarqueError, Unavailable

START_TIMEOUT_S = 60.0  # for a zygote that hangs; one that fails ends, and is not waited for
REQUEST_TIMEOUT_S = 60.0
END_TIMEOUT_S = 1.0
LIFE_EXPECTED_S = 1.0  # one that lives shorter is not started again by itself
ANSWER_BYTES_MAX = 1 << 17
ATTEMPTS = 3
# A unix socket is reset when its other end closes without having read: nothing was done then.
UNREAD = (ConnectionRefusedError, ConnectionResetError, BrokenPipeError, FileNotFoundError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the shim binary would have done: exit code, output. `taken`: the descriptor that went
    with the request is the shim's now."""

    code: int
    stdout: str
    stderr: str
    taken: bool = False


class Zygote:
    """Owns the zygote process of one containerd and its socket at `path`."""

    def __init__(
        self, path: str, argv: Sequence[str], descriptors: tuple[int, int] | None = None
    ) -> None:
        """`descriptors`: the limit that it and all that it forks have, where it is not ours."""
        self._descriptors = descriptors
        self._path = path
        self._argv = (*argv, path)
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._revival: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the zygote that runs; None before the first start and after a death."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Have a zygote that answers. Raises Unavailable when it does not start."""
        await self._running()

    async def _running(self) -> asyncio.subprocess.Process:
        async with self._starting:
            process = self._process
            if process is None or process.returncode is not None:
                process = self._process = await self._spawn()
                self._revival = asyncio.create_task(self._revive(process))
            return process

    async def _revive(self, process: asyncio.subprocess.Process) -> None:
        """Start another when `process` dies by itself, so that the next request finds it warm."""
        started = time.monotonic()
        await process.wait()
        lived_s = time.monotonic() - started
        if self._process is process and lived_s > LIFE_EXPECTED_S:
            log.warning("zygote died, starting another")
            with suppress(Unavailable):
                await self._running()

    async def _spawn(self) -> asyncio.subprocess.Process:
        if os.path.lexists(self._path):
            os.unlink(self._path)
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
            start_new_session=True,
            cwd="/",
        )
        assert process.stdout is not None
        if self._descriptors is not None:  # it forks nothing before it is ready
            with suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, self._descriptors)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                ready = await process.stdout.readline()
        except TimeoutError:
            ready = b""
        if not ready:
            await self._end(process)
            raise Unavailable(f"zygote did not start (exit code {process.returncode})")
        log.info("zygote started pid=%d", process.pid)
        return process

    async def request(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        stdin: bytes = b"",
        connection: int = -1,
    ) -> Answer:
        """Do what the shim binary would do with these. Starts a zygote when there is none.

        `connection`: a descriptor that a new shim serves like one that it has accepted.

        Raises Unavailable when no zygote can be had, BarqueError when one does not answer in time
        or died over the request, so that nobody knows what it has done.
        """
        request = {"argv": list(argv), "env": dict(env), "cwd": cwd}
        if stdin:
            request["stdin"] = stdin.decode("latin-1")
        packet = json.dumps(request).encode()
        refused: OSError | None = None
        for _ in range(ATTEMPTS):
            process = await self._running()
            try:
                return await self._ask(packet, [connection] if connection >= 0 else [])
            except UNREAD as error:
                log.warning("zygote is gone: %s", error)
                refused = error
                await self._forget(process)
            except TimeoutError as error:
                await self._forget(process)
                raise BarqueError("zygote did not answer a request in time") from error
            except OSError as error:  # no memory, no descriptors
                raise Unavailable(f"zygote does not answer: {error}") from error
        raise Unavailable(f"zygote does not answer: {refused}") from refused

    async def _ask(self, packet: bytes, descriptors: list[int]) -> Answer:
        loop = asyncio.get_running_loop()
        zygote = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        with zygote:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await loop.sock_connect(zygote, self._path)
                socket.send_fds(zygote, [packet], descriptors)  # the first packet always fits
                data = await loop.sock_recv(zygote, ANSWER_BYTES_MAX)
        if not data:
            raise BarqueError("zygote died while it carried out a request")
        answer = json.loads(data)
        taken = answer.get("taken", False)
        return Answer(answer["code"], answer["stdout"], answer["stderr"], taken)

    async def _forget(self, process: asyncio.subprocess.Process) -> None:
        """End `process`, unless another has its place already."""
        async with self._starting:
            if self._process is process:
                self._process = None
                await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Closing its standard input is the order to leave; a deaf one is killed."""
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def close(self) -> None:
        """End the zygote; the shims forked from it go on."""
        if self._process is not None:
            await self._forget(self._process)
        if self._revival is not None:
            await self._revival
        if os.path.lexists(self._path):
            os.unlink(self._path)
