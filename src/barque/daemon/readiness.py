"""Waiting on the loop for a descriptor that is not a transport's: of a pipe, or a copy of one."""

from __future__ import annotations

import asyncio


async def readable(fd: int) -> None:
    await _ready(fd, writing=False)


async def writable(fd: int) -> None:
    await _ready(fd, writing=True)


async def _ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    )

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    add(fd, ready)
    try:
        await future
    finally:
        remove(fd)
