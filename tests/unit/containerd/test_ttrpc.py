"""Both ends of ttrpc over a real unix socket."""

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from barque.containerd.ttrpc import Connection, ConnectionLost, Handler, Server, connect
from barque.errors import BarqueError, NotFound, Unavailable, Unsupported
from barque.shim import ttrpc


async def echo(payload: bytes) -> bytes:
    return payload


async def missing(payload: bytes) -> bytes:
    raise NotFound("task x not found")


async def bug(payload: bytes) -> bytes:
    raise RuntimeError("boom")


METHODS: dict[tuple[str, str], Handler] = {
    ("s", "echo"): echo,
    ("s", "missing"): missing,
    ("s", "bug"): bug,
}


def served(tmp_path: Path, check: Callable[[Connection, Server], Awaitable[None]]) -> None:
    async def run() -> None:
        server = Server(METHODS)
        path = str(tmp_path / "s")
        await server.listen(path)
        connection = await connect(f"unix://{path}", "peer")
        try:
            await check(connection, server)
        finally:
            connection.close()
            await server.close()

    asyncio.run(run())


def test_calls_under_way_at_once_get_their_own_answers(tmp_path: Path) -> None:
    async def check(connection: Connection, server: Server) -> None:
        payloads = [bytes([n]) * 20_000 for n in range(50)]
        calls = [connection.call("s", "echo", payload) for payload in payloads]
        assert await asyncio.gather(*calls) == payloads

    served(tmp_path, check)


def test_statuses_come_back_as_kinds_of_errors(tmp_path: Path) -> None:
    async def check(connection: Connection, server: Server) -> None:
        with pytest.raises(NotFound, match="task x not found"):
            await connection.call("s", "missing", b"")
        with pytest.raises(Unsupported, match="/s/none is not implemented"):
            await connection.call("s", "none", b"")
        with pytest.raises(BarqueError, match="boom"):
            await connection.call("s", "bug", b"")
        assert await connection.call("s", "echo", b"still there") == b"still there"

    served(tmp_path, check)


def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async def check(connection: Connection, server: Server) -> None:
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600

    served(tmp_path, check)


def test_a_cancelled_call_leaves_the_connection_usable(tmp_path: Path) -> None:
    async def check(connection: Connection, server: Server) -> None:
        call = asyncio.create_task(connection.call("s", "echo", b"x"))
        await asyncio.sleep(0)
        call.cancel()
        assert await connection.call("s", "echo", b"y") == b"y"

    served(tmp_path, check)


def test_calls_fail_when_the_far_end_goes(tmp_path: Path) -> None:
    async def run() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        connection = await connect(str(tmp_path / "s"), "peer")
        far, _ = listener.accept()
        call = asyncio.create_task(connection.call("s", "echo", b""))
        await asyncio.sleep(0.01)
        far.close()
        listener.close()
        with pytest.raises(ConnectionLost, match="connection to peer is lost"):
            await call
        with pytest.raises(ConnectionLost, match="closed"):
            await connection.call("s", "echo", b"")
        await connection.lost

    asyncio.run(run())


def test_garbage_from_the_far_end_ends_the_connection(tmp_path: Path) -> None:
    async def run() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        connection = await connect(str(tmp_path / "s"), "peer")
        far, _ = listener.accept()
        call = asyncio.create_task(connection.call("s", "echo", b""))
        await asyncio.sleep(0.01)
        far.sendall(ttrpc.HEADER.pack(ttrpc.DATA_LENGTH_MAX + 1, 1, ttrpc.RESPONSE, 0))
        with pytest.raises(ConnectionLost):
            await call
        far.close()
        listener.close()

    asyncio.run(run())


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="shim of task x does not answer"):
        asyncio.run(connect(f"unix://{tmp_path}/none", "shim of task x"))


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / "s"))

    async def check(connection: Connection, server: Server) -> None:
        assert await connection.call("s", "echo", b"x") == b"x"

    served(tmp_path, check)
