"""The daemon's end of the resolver: which container is called what, told to a process of its own.

The resolver answers while no daemon runs; a daemon that starts finds it by its socket and settles
what has changed meanwhile. When the resolver dies it is started again with all it must know.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.outliving import started
from barque.network.dns.server import VERSION

log = logging.getLogger(__name__)

ANSWER_BYTES = 16 << 20
ANSWER_TIMEOUT_S = 30.0
RESTART_DELAY_S = 1.0
REAP_TIMEOUT_S = 2.0

Document = Mapping[str, Any]  # a `put` without its verb: see barque.network.dns.server


class Names:
    """Used from the event loop. `directory` gets the control socket and the resolver's log."""

    def __init__(self, directory: Path, argv: Sequence[str]) -> None:
        self._socket = directory / "dns.sock"
        self._log = directory / "dns.log"
        self._argv = list(argv)
        self._known: dict[str, Document] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._answers: deque[asyncio.Future[dict[str, Any]]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._closing = False

    def __contains__(self, sandbox: str) -> bool:
        return sandbox in self._known

    async def settle(self, documents: Iterable[Document]) -> None:
        """At the daemon's start: exactly these sandboxes have names, whatever was before."""
        self._known = {document["sandbox"]: document for document in documents}
        async with self._connecting:
            if not await self._connect_to_present():
                if not self._known:
                    return
                self._process = started(self._argv, self._socket, self._log)
                await self._connect()
            answer = await self._request({"op": "hello"})
            for stale in set(answer["sandboxes"]) - set(self._known):
                await self._request({"op": "drop", "sandbox": stale})
            await self._put_all()

    async def _put_all(self) -> None:
        for document in list(self._known.values()):
            try:
                await self._request({"op": "put", **document})
            except errors.BarqueError as error:
                log.warning("no names for sandbox %s: %s", document["sandbox"], error)

    async def put(self, document: Document) -> None:
        """Give a sandbox its names and its resolver. Returns when it answers."""
        sandbox = document["sandbox"]
        self._known[sandbox] = document
        try:
            await self._connected()
            await self._request({"op": "put", **document})
        except errors.Unavailable:  # it died: its successor is told everything
            await self._connected()
            await self._request({"op": "put", **document})

    async def drop(self, sandbox: str) -> None:
        """Take them away. Safe to call for a sandbox that never had any."""
        if self._known.pop(sandbox, None) is not None and self._writer is not None:
            with contextlib.suppress(errors.Unavailable):
                await self._request({"op": "drop", "sandbox": sandbox})

    async def close(self) -> None:
        """Leave the resolver alone; it ends when it serves nobody."""
        self._closing = True
        if self._writer is not None:
            self._writer.close()
        for task in (self._reading, self._restarting):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._process is not None and not self._known:
            await asyncio.to_thread(_reap, self._process)

    # -- the connection

    async def _connected(self) -> None:
        async with self._connecting:
            if self._writer is not None:
                return
            if not await self._connect_to_present():
                self._process = started(self._argv, self._socket, self._log)
                await self._connect()
            await self._put_all()

    async def _connect_to_present(self) -> bool:
        """Take up a resolver that is there and speaks our version."""
        if self._writer is not None:
            return True
        try:
            await self._connect()
            answer = await self._request({"op": "hello"})
        except (OSError, errors.Unavailable):  # none, or one that was just killed
            return False
        if answer["version"] == VERSION:
            return True
        await self._request({"op": "leave"})
        assert self._reading is not None
        await self._reading
        return False

    async def _connect(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=ANSWER_BYTES)
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader, writer))

    async def _request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Unavailable when the resolver dies meanwhile, BarqueError with its own words."""
        if self._writer is None:
            raise errors.Unavailable("the name server of containers is not there")
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers.append(future)
        self._writer.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await future
        if "error" in answer:
            raise errors.BarqueError(f"name server of containers: {answer['error']}")
        return answer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = json.loads(line)
                future = self._answers.popleft()
                if not future.done():
                    future.set_result(answer)
        except (OSError, ValueError):
            pass
        finally:
            writer.close()
            if self._writer is writer:
                self._writer = None
            while self._answers:
                future = self._answers.popleft()
                if not future.done():
                    words = "the name server of containers went away"
                    future.set_exception(errors.Unavailable(words))
        if not self._closing:
            self._restarting = asyncio.create_task(self._again())

    async def _again(self) -> None:
        """The resolver died: start another for those who need it."""
        if self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(_reap, process)
        while self._known and not self._closing:
            try:
                await self._connected()
                return
            except (OSError, errors.BarqueError) as error:
                log.warning("the name server of containers does not start: %s", error)
                await asyncio.sleep(RESTART_DELAY_S)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Take the exit status of a resolver that is about to end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(REAP_TIMEOUT_S)
