"""The daemon's end of `barque-archive`: starts it, and moves bytes between it and a request."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from barque import errors, program
from barque.daemon.archive.main import KINDS

PIPE_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20


class Copier:
    """One running program. `answer` gives its line; then `chunks`, or `feed` before it."""

    def __init__(self, process: asyncio.subprocess.Process, read: int, write: int) -> None:
        self._process = process
        self._read = read
        self._write = write
        self._rest = b""

    @classmethod
    async def start(cls, request: Mapping[str, Any]) -> Copier:
        in_read, in_write = _pipe()
        out_read, out_write = _pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *program.command("barque-archive"), stdin=in_read, stdout=out_write
            )
        except BaseException:
            os.close(in_write)
            os.close(out_read)
            raise
        finally:
            os.close(in_read)
            os.close(out_write)
        os.set_blocking(in_write, False)
        os.set_blocking(out_read, False)
        copier = cls(process, out_read, in_write)
        with suppress(BrokenPipeError):
            await copier._send(json.dumps(dict(request)).encode() + b"\n")
        return copier

    async def feed(self, chunks: AsyncIterator[bytes]) -> None:
        """The archive to unpack. One that the program refuses midway is read no further."""
        with suppress(BrokenPipeError):
            async for chunk in chunks:
                await self._send(chunk)
        self.end_input()

    def end_input(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    async def answer(self) -> dict[str, Any]:
        """Its line. Raises the kind of failure it tells of."""
        line = b""
        while b"\n" not in line:
            data = await self._receive()
            if not data or len(line) > MAX_LINE_BYTES:
                raise errors.BarqueError("the copying program ended without an answer")
            line += data
        line, _, self._rest = line.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise KINDS.get(found["error"], errors.BarqueError)(found["text"])
        stat: dict[str, Any] = found["stat"]
        return stat

    async def chunks(self) -> AsyncIterator[bytes]:
        """The archive it writes. Raises BarqueError when it breaks off."""
        if self._rest:
            yield self._rest
        while data := await self._receive():
            yield data
        if await self._process.wait() != 0:
            raise errors.BarqueError("the archive broke off")

    async def close(self) -> None:
        """The program ends, if it has not, and nothing of it is left."""
        self.end_input()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._write, view) :]
            except BlockingIOError:
                await _ready(self._write, writing=True)

    async def _receive(self) -> bytes:
        while True:
            try:
                return os.read(self._read, PIPE_BYTES)
            except BlockingIOError:
                await _ready(self._read, writing=False)


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


def _pipe() -> tuple[int, int]:
    read, write = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # a limit of the user's pipes: smaller ones do
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write
