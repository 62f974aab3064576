"""The client as a library, on our daemon and on the real one."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress

import pytest

import barque
from tests.support.barque import stack
from tests.support.docker_peer import docker_peer

pytestmark = [pytest.mark.root, pytest.mark.peer]
SLEEP = {"Image": "busybox", "Cmd": ["sleep", "1000"], "StopSignal": "SIGKILL"}


@pytest.fixture(scope="module", params=["ours", "docker"])
def host(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "ours":
        with stack() as engine:
            yield engine.host
    else:
        with docker_peer() as peer:
            yield peer.host


@pytest.fixture
def client(host: str) -> Iterator[barque.Client]:
    with barque.Client(host) as client:
        yield client


@pytest.fixture
def sleeper(client: barque.Client) -> Iterator[str]:
    name = f"bq-{secrets.token_hex(6)}"
    client.containers.create(SLEEP, name=name)
    client.containers.start(name)
    yield name
    with suppress(barque.errors.NotFound):
        client.containers.remove(name, force=True)


def test_a_program_and_its_result(client: barque.Client) -> None:
    data = os.urandom(300_000)
    result = client.containers.run(
        {"Image": "busybox", "Cmd": ["sh", "-c", "cat; echo no >&2; exit 3"]}, stdin=data
    )
    assert (result.exit_code, result.stdout, result.stderr) == (3, data, b"no\n")


def test_an_exec_and_its_result(client: barque.Client, sleeper: str) -> None:
    command = ["sh", "-c", "cat; echo $A >&2; exit 4"]
    result = client.execs.run(sleeper, command, stdin=b"in", options={"Env": ["A=b"]})
    assert (result.exit_code, result.stdout, result.stderr) == (4, b"in", b"b\n")
    assert client.execs.run(sleeper, ["tty"], options={"Tty": True}).stdout == b"/dev/pts/0\r\n"


def test_a_life(client: barque.Client, sleeper: str) -> None:
    containers = client.containers
    assert containers.inspect(sleeper)["State"]["Running"]
    containers.pause(sleeper)
    assert containers.inspect(sleeper)["State"]["Paused"]
    containers.unpause(sleeper)
    containers.restart(sleeper, timeout_s=1)
    containers.kill(sleeper, "SIGKILL")
    assert containers.wait(sleeper)["StatusCode"] == 137
    containers.start(sleeper)
    containers.stop(sleeper, timeout_s=1)
    containers.rename(sleeper, f"{sleeper}-b")
    containers.remove(f"{sleeper}-b")
    with pytest.raises(barque.errors.NotFound, match=sleeper):
        containers.inspect(sleeper)


def test_errors_are_kinds(client: barque.Client, sleeper: str) -> None:
    with pytest.raises(barque.errors.Conflict):
        client.containers.create(SLEEP, name=sleeper)
    with pytest.raises(barque.errors.NotFound):
        client.containers.create({"Image": "no-such-image"})
    with pytest.raises(barque.errors.Unavailable):
        barque.Client("unix:///nobody").system.info()


def test_output_is_parted(client: barque.Client) -> None:
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "echo a; echo b >&2"]}
    made = client.containers.create(body)["Id"]
    client.containers.start(made)
    client.containers.wait(made)
    assert sorted(client.containers.output(made)) == [(1, b"a\n"), (2, b"b\n")]
    assert list(client.containers.output(made, stderr=False)) == [(1, b"a\n")]
    assert len(list(client.containers.output(made, tail=1))) == 1
    client.containers.remove(made)


def test_a_conversation(client: barque.Client) -> None:
    body = {"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True}
    made = client.containers.create({**body, "AttachStdin": True, "AttachStdout": True})["Id"]
    with client.containers.converse(made, stdin=True) as attached:
        client.containers.start(made)
        attached.write(b"one\n")
        output = iter(attached)
        assert next(output) == (1, b"one\n")
        attached.close_input()
        assert list(output) == []
    assert client.containers.wait(made)["StatusCode"] == 0
    client.containers.remove(made)


def test_many_at_once(host: str) -> None:
    async def one(client: barque.AsyncClient, number: int) -> bytes:
        command = ["echo", str(number)]
        result = await client.containers.run({"Image": "busybox", "Cmd": command})
        return result.stdout

    async def go() -> list[bytes]:
        async with barque.AsyncClient(host) as client:
            return await asyncio.gather(*(one(client, number) for number in range(4)))

    assert asyncio.run(go()) == [f"{number}\n".encode() for number in range(4)]


def test_a_stream_that_is_left_and_one_that_is_cancelled(host: str, sleeper: str) -> None:
    async def go() -> None:
        async with barque.AsyncClient(host) as client:
            events = client.system.watch(since="0")
            async for event in events:
                assert event["Type"]
                break
            await events.aclose()  # type: ignore[attr-defined]
            waiting = asyncio.create_task(client.containers.wait(sleeper))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await client.containers.inspect(sleeper))["State"]["Running"]
            pieces = [piece async for piece in client.containers.output(sleeper)]
            assert pieces == []

    asyncio.run(asyncio.wait_for(go(), 60))


def test_networks_and_volumes(client: barque.Client) -> None:
    name = f"bq-{secrets.token_hex(6)}"
    client.volumes.create({"Name": name})
    assert client.volumes.inspect(name)["Driver"] == "local"
    client.volumes.remove(name)
    made = client.networks.create({"Name": name})["Id"]
    assert client.networks.inspect(name)["Id"] == made
    client.networks.remove(name)
    assert "busybox:latest" in [tag for one in client.images.list() for tag in one["RepoTags"]]
