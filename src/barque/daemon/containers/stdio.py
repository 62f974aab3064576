"""A client of a shim's stdio socket: docs/boundaries.md, section 4."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

import msgspec

from barque import errors

CONNECT_TIMEOUT_S = 10.0
CHUNK_BYTES = 256 << 10


class Answer(msgspec.Struct):
    """The shim's line."""

    ok: bool = False
    tty: bool = False
    error: str = ""


_answer = msgspec.json.Decoder(Answer)


class Wanted(NamedTuple):
    """Which streams a client takes part in."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    lossy: bool = False


class Stdio:
    """One connection: frames (or a terminal's raw bytes) to read, stdin to write."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.terminal = False

    @classmethod
    async def connect(cls, path: str, wanted: Wanted) -> Stdio:
        """Raises Unavailable when nobody serves the streams at `path`."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(path, limit=CHUNK_BYTES)
                stdio = cls(reader, writer)
                try:
                    await stdio._greet(wanted)
                except BaseException:
                    stdio.close()
                    raise
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise errors.Unavailable(f"streams of the process at {path}: {error}") from error
        return stdio

    async def _greet(self, wanted: Wanted) -> None:
        self._writer.write(json.dumps(wanted._asdict()).encode() + b"\n")
        answer = _answer.decode(await self._reader.readuntil(b"\n"))
        if answer.error:
            raise errors.Unavailable(answer.error)
        self.terminal = answer.tty

    async def read(self) -> bytes:
        """What the process wrote, b"" once it has ended and all was read."""
        try:
            return await self._reader.read(CHUNK_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """To stdin; returns when there is room. Raises ConnectionError once nobody reads it."""
        self._writer.write(data)
        await self._writer.drain()

    def write_eof(self) -> None:
        """Our stdin has ended."""
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()
