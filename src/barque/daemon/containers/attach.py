"""Attaching a client's connection to a container's streams.

    client <== Duplex ==> Attachment <== stdio socket ==> shim

An attachment that comes before the container starts is pending: `start` connects all pending ones
between the task's Create and its Start, when the process is there but has not run, so that no
byte is lost. It ends when the process has ended and all its output was delivered, when the client
has gone, or with the detach keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from barque.daemon.containers.container import Container
from barque.daemon.containers.detach import DetachParser
from barque.daemon.containers.stdio import Stdio, Wanted
from barque.daemon.http.messages import Duplex

MAX_PENDING = 1000


class Attachment:
    """One client's place; `ready` has its connection once there is a process."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.ready: asyncio.Future[Stdio | None] = asyncio.get_running_loop().create_future()

    async def connect(self, socket: str) -> None:
        """Raises Unavailable; the client is then let go."""
        try:
            stdio = await Stdio.connect(socket, self.wanted)
        except BaseException:
            self.abandon()
            raise
        if self.ready.done():  # the client went meanwhile
            stdio.close()
        else:
            self.ready.set_result(stdio)

    def abandon(self) -> None:
        """There will be no process: the start failed or the container is gone."""
        if not self.ready.done():
            self.ready.set_result(None)


async def connect_pending(container: Container, socket: str) -> None:
    """Give every pending attachment its connection. One that fails harms no other."""
    container.task_ready = True
    pending, container.attachments = container.attachments, set()
    await asyncio.gather(*(item.connect(socket) for item in pending), return_exceptions=True)


def abandon_pending(container: Container) -> None:
    container.task_ready = False
    pending, container.attachments = container.attachments, set()
    for item in pending:
        item.abandon()


async def attach(
    container: Container,
    socket: str,
    duplex: Duplex,
    wanted: Wanted,
    keys: bytes | None,
    history: AsyncIterator[bytes] | None = None,
) -> bool:
    """Serve one client to the end; True when it detached by the keys.

    `history` is what was logged before, already in the form the client reads. Returns when the
    streams are finished; the connection is closed then.
    """
    if len(container.attachments) >= MAX_PENDING:
        duplex.close()
        return False
    attachment = Attachment(wanted)
    if container.task_ready:
        await attachment.connect(socket)
    else:
        container.attachments.add(attachment)
    try:
        if history is not None:
            async for chunk in history:
                await duplex.write(chunk)
        stdio = await attachment.ready
        if stdio is None:
            return False
        return await relay(duplex, stdio, wanted, keys)
    except ConnectionError:
        return False
    finally:
        container.attachments.discard(attachment)
        attachment.abandon()
        duplex.close()


async def relay(duplex: Duplex, stdio: Stdio, wanted: Wanted, keys: bytes | None) -> bool:
    """Copy both ways until the output ends or the client leaves; True when it detached."""
    upstream = asyncio.ensure_future(_upstream(duplex, stdio, wanted.stdin, keys))
    downstream = asyncio.ensure_future(_downstream(duplex, stdio))
    try:
        done, _ = await asyncio.wait({upstream, downstream}, return_when=asyncio.FIRST_COMPLETED)
        if upstream in done and not upstream.result():
            await downstream  # the client half-closed: its output goes on
        return upstream.done() and not upstream.cancelled() and upstream.result()
    finally:
        for task in (upstream, downstream):
            task.cancel()
        await asyncio.gather(upstream, downstream, return_exceptions=True)
        stdio.close()


async def _downstream(duplex: Duplex, stdio: Stdio) -> None:
    with suppress(ConnectionError):
        while data := await stdio.read():
            await duplex.write(data)


async def _upstream(
    duplex: Duplex,
    stdio: Stdio,
    stdin: bool,
    keys: bytes | None,
) -> bool:
    """True when the detach keys were typed. Input the process does not take is dropped."""
    parser = DetachParser(keys) if keys else None
    with suppress(ConnectionError):
        data = await duplex.read()
        while data:
            if parser is not None:
                data, detached = parser.feed(data)
                if detached:
                    if stdin and data:
                        await stdio.write(data)
                    return True
            if stdin and data:
                await stdio.write(data)
            data = await duplex.read()
    if stdin:
        with suppress(ConnectionError):
            stdio.write_eof()
    return False


async def replay(duplex: Duplex, history: AsyncIterator[bytes] | None) -> None:
    """Only what was logged, then the end."""
    with suppress(ConnectionError):
        if history is not None:
            async for chunk in history:
                await duplex.write(chunk)
    duplex.close()
