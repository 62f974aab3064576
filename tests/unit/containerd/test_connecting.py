"""How the client of a containerd comes by its connection, with a server made of a socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barque.containerd.client.channel import _Connecting
from barque.containerd.http2 import frames


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(frames.settings({}))
    await writer.drain()
    await reader.read()
    writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a server does that was killed and whose socket was still listening."""
    writer.close()


def test_a_server_that_dies_as_it_is_met_is_waited_for(tmp_path: Path) -> None:
    async def check() -> None:
        path = str(tmp_path / "s")
        met = 0

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal met
            met += 1
            await (hang_up if met in (2, 3) else greet)(reader, writer)

        async with await asyncio.start_unix_server(meet, path):
            connecting = _Connecting(path)
            first = await connecting.connect()
            first.close()
            while first.usable:
                await asyncio.sleep(0)
            second = await connecting.connect()
            assert second.usable
            assert met == 4
            second.close()

    asyncio.run(check())


def test_one_that_has_never_answered_is_not(tmp_path: Path) -> None:
    async def check() -> None:
        path = str(tmp_path / "s")
        async with await asyncio.start_unix_server(hang_up, path):
            with pytest.raises(ConnectionResetError):
                await _Connecting(path).connect()

    asyncio.run(check())
