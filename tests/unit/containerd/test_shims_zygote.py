"""The keeper of the zygote, against a small program that speaks its protocol."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from barque.containerd.shims.zygote import LIFE_EXPECTED_S, Zygote
from barque.errors import BarqueError, Unavailable

FAKE = """
import json, os, select, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
while True:
    if 0 in select.select([server, 0], [], [])[0]:
        break
    peer, _ = server.accept()
    request = json.loads(peer.recv(65536))
    if request["argv"] == ["die"]:
        os._exit(1)
    text = f'{os.getpid()} {request["argv"]} {request["env"]["A"]} {request["cwd"]}'
    peer.send(json.dumps({"code": 0, "stdout": text, "stderr": ""}).encode())
    peer.close()
"""
Check = Callable[[Zygote], Awaitable[None]]


def keep(tmp_path: Path, program: str, check: Check) -> None:
    (tmp_path / "fake.py").write_text(program)

    async def run() -> None:
        zygote = Zygote(str(tmp_path / "z"), [sys.executable, "-S", str(tmp_path / "fake.py")])
        try:
            await check(zygote)
        finally:
            await zygote.close()
        assert not (tmp_path / "z").exists()
        assert zygote.pid is None

    asyncio.run(run())


async def ask(zygote: Zygote, *argv: str) -> str:
    return (await zygote.request(argv, {"A": "b"}, "/tmp")).stdout


def test_requests_start_one_zygote(tmp_path: Path) -> None:
    async def check(zygote: Zygote) -> None:
        answers = await asyncio.gather(*(ask(zygote, "x", str(n)) for n in range(5)))
        assert zygote.pid is not None
        assert answers == [f"{zygote.pid} ['x', '{n}'] b /tmp" for n in range(5)]

    keep(tmp_path, FAKE, check)


def test_a_dead_zygote_is_replaced(tmp_path: Path) -> None:
    async def check(zygote: Zygote) -> None:
        await ask(zygote)
        first = zygote.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert not (await ask(zygote)).startswith(f"{first} ")

    keep(tmp_path, FAKE, check)


def test_a_dead_zygote_is_replaced_before_it_is_asked_for(tmp_path: Path) -> None:
    async def check(zygote: Zygote) -> None:
        await zygote.start()
        first = zygote.pid
        assert first is not None
        await asyncio.sleep(LIFE_EXPECTED_S + 0.1)
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(30):
            while zygote.pid in (None, first):
                await asyncio.sleep(0.01)

    keep(tmp_path, FAKE, check)


def test_many_requests_at_once_over_a_death(tmp_path: Path) -> None:
    async def check(zygote: Zygote) -> None:
        await zygote.start()
        first = zygote.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        answers = await asyncio.gather(*(ask(zygote, "x") for _ in range(20)))
        assert {int(answer.split()[0]) for answer in answers} == {zygote.pid}

    keep(tmp_path, FAKE, check)


def test_a_deaf_zygote_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barque.containerd.shims.zygote.REQUEST_TIMEOUT_S", 0.3)

    async def check(zygote: Zygote) -> None:
        await zygote.start()
        first = zygote.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(BarqueError, match="did not answer a request in time"):
            await ask(zygote)
        assert not (await ask(zygote)).startswith(f"{first} ")

    keep(tmp_path, FAKE, check)


def test_a_zygote_that_dies_over_a_request_fails_it_and_is_replaced(tmp_path: Path) -> None:
    async def check(zygote: Zygote) -> None:
        with pytest.raises(BarqueError, match="zygote"):
            await ask(zygote, "die")
        assert await ask(zygote, "again")

    keep(tmp_path, FAKE, check)


def test_a_zygote_that_does_not_start(tmp_path: Path) -> None:
    async def check(zygote: Zygote) -> None:
        with pytest.raises(Unavailable, match=r"zygote did not start \(exit code 4\)"):
            await ask(zygote)

    keep(tmp_path, "raise SystemExit(4)", check)


def test_a_zygote_ends_with_its_keeper(tmp_path: Path) -> None:
    async def check(zygote: Zygote) -> None:
        await zygote.start()
        process = zygote._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()  # what the end of containerd does
        async with asyncio.timeout(30):
            assert await process.wait() == 0

    keep(tmp_path, FAKE, check)


def test_a_left_over_socket_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "z").touch()

    async def check(zygote: Zygote) -> None:
        assert await ask(zygote, "x")

    keep(tmp_path, FAKE, check)
