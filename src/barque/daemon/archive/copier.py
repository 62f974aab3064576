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
from barque.daemon.http.messages import Source
from barque.daemon.images.archive import compression
from barque.daemon.readiness import readable, writable

PIPE_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20
# What a request says (`tree.assemble`, `main.put`) unless its maker says otherwise.
DEFAULTS: Mapping[str, Any] = {
    "pid": 0,
    "write": False,
    "read_only": False,
    "mounts": [],
    "directory": "",
    "layers": [],
    "work": "",
    "keep_kinds": False,
    "owner": None,
    "whole": False,
}


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
            await copier._send(json.dumps({**DEFAULTS, **request}).encode() + b"\n")
        return copier

    async def feed(self, archive: Source) -> None:
        """The archive to unpack, compressed or not. One that is refused midway is read no further.

        A plain one goes from the socket to the program without a copy, where the socket is plain.
        """
        with suppress(BrokenPipeError):
            head, chunks = await compression.peek(aiter(archive))
            if compression.kind_of(head):
                async for chunk in compression.plain(chunks):
                    await self._send(chunk)
            else:
                await self._send(await anext(chunks, b""))
                await archive.pour(self._send, self._write)
        self.end_input()

    def end_input(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    async def answer(self) -> dict[str, Any]:
        """Its line. Raises the kind of failure it tells of."""
        line, self._rest = self._rest, b""
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
                await writable(self._write)

    async def _receive(self) -> bytes:
        while True:
            try:
                return os.read(self._read, PIPE_BYTES)
            except BlockingIOError:
                await readable(self._read)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # a limit of the user's pipes: smaller ones do
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write
