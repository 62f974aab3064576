"""The docker SDK, aiodocker and testcontainers on our socket, and a WebSocket client."""

import asyncio
import base64
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import aiodocker
import aiohttp
import docker  # type: ignore[import-untyped]
import pytest

from tests.support.barque import Stack
from tests.support.engine_api import ask, connect

pytestmark = [pytest.mark.root, pytest.mark.peer]
LIMIT_S = 30


@pytest.fixture
def client(barque: Stack) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=barque.host, timeout=LIMIT_S)
    yield made
    for container in made.containers.list(all=True):
        container.remove(force=True, v=True)
    made.close()


def tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_docker_sdk(client: docker.DockerClient) -> None:
    assert client.ping()
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"], detach=True, name="one"
    )
    code, output = container.exec_run(["sh", "-c", "echo $0 in; exit 3"], demux=True)
    assert (code, output) == (3, (b"sh in\n", None))
    assert container.put_archive("/tmp", tar_of("f", b"content"))
    stream, facts = container.get_archive("/tmp/f")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        member = tar.extractfile("f")
        assert member is not None
        assert member.read() == b"content"
    assert (facts["name"], facts["size"]) == ("f", 7)
    assert {"Path": "/tmp/f", "Kind": 1} in container.diff()
    assert container.logs(stdout=True, stderr=False) == b"out\n"
    assert container.top()["Processes"][0][-1] == "sleep 1000"
    once = container.stats(stream=False)
    assert once["pids_stats"]["current"] == 1
    following = container.stats(decode=True)
    assert next(following)["id"] == container.id
    container.rename("two")
    container.update(mem_limit="64m", memswap_limit="128m")
    container.reload()
    assert container.name == "two"
    assert container.attrs["HostConfig"]["Memory"] == 64 << 20
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.kill("KILL")
    assert container.wait(timeout=LIMIT_S)["StatusCode"] == 137
    assert client.df()["ContainerUsage"]["TotalSize"] > 0
    pruned = client.containers.prune()
    assert pruned["ContainersDeleted"] == [container.id]
    assert client.info()["ContainersRunning"] == 0


def test_docker_sdk_streams(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", "cat", stdin_open=True, tty=False)
    socket = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    raw = socket._sock
    raw.sendall(b"hello\n")
    raw.shutdown(1)
    data = b""
    while piece := raw.recv(4096):
        data += piece
    socket.close()
    assert data == b"\x01\0\0\0\0\0\0\x06hello\n"
    assert container.wait(timeout=LIMIT_S)["StatusCode"] == 0


def test_docker_sdk_networks_volumes_events_health(
    barque: Stack, client: docker.DockerClient
) -> None:
    events = client.events(decode=True, filters={"type": ["container", "network", "volume"]})
    volume = client.volumes.create("kept", labels={"a": "b"})
    pool = docker.types.IPAMPool(subnet=f"10.214.{barque.subnet}.0/24")
    network = client.networks.create(
        "net-of-sdk", ipam=docker.types.IPAMConfig(pool_configs=[pool])
    )
    check = {"test": ["CMD", "true"], "interval": 50_000_000, "timeout": 5_000_000_000}
    container = client.containers.run(
        *("busybox", "sleep 1000"),
        detach=True,
        network="net-of-sdk",
        volumes={"kept": {"bind": "/v", "mode": "rw"}},
        healthcheck=check,
    )
    seen = []
    for event in events:
        seen.append((event["Type"], event["Action"]))
        if event["Action"] == "health_status: healthy":
            break
    events.close()
    for wanted in (
        *(("volume", "create"), ("network", "create"), ("container", "create")),
        *(("network", "connect"), ("container", "start")),
    ):
        assert wanted in seen
    container.reload()
    assert container.attrs["State"]["Health"]["Status"] == "healthy"
    assert [mount["Name"] for mount in container.attrs["Mounts"]] == ["kept"]
    container.remove(force=True)
    network.remove()
    volume.remove()


def test_aiodocker(barque: Stack) -> None:
    async def use() -> None:
        async with aiodocker.Docker(url=barque.host) as client:
            subscriber = client.events.subscribe()  # type: ignore[no-untyped-call]
            async with asyncio.timeout(LIMIT_S):
                while client.events.json_stream is None:  # it asks in a task of its own
                    await asyncio.sleep(0.01)
            config: dict[str, Any] = {
                "Image": "busybox",
                "Cmd": ["sh", "-c", "echo hi; read x; echo got $x"],
            }
            config |= {"OpenStdin": True, "StdinOnce": True}
            container = await client.containers.create(config, name="aio")
            try:
                async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
                    await container.start()
                    first = await stream.read_out()
                    assert first is not None
                    assert (first.stream, first.data) == (1, b"hi\n")
                    await stream.write_in(b"you\n")
                    second = await stream.read_out()
                    assert second is not None
                    assert second.data == b"got you\n"
                assert (await container.wait())["StatusCode"] == 0
                assert "".join(await container.log(stdout=True)) == "hi\ngot you\n"
                await container.put_archive("/tmp", tar_of("f", b"1"))  # type: ignore[no-untyped-call]
                assert (await container.get_archive("/tmp/f")).getnames() == ["f"]
                actions = []
                while "die" not in actions:
                    event: Any = await asyncio.wait_for(subscriber.get(), LIMIT_S)
                    assert event is not None
                    actions.append(event["Action"])
                assert [a for a in actions if a != "connect"][:3] == ["create", "attach", "start"]
            finally:
                await container.delete(force=True)

    asyncio.run(use())


def test_output_waits_for_the_head_to_be_read(barque: Stack, client: docker.DockerClient) -> None:
    """Docker's SDK reads the head through a buffer, and drops what else comes into that."""
    container = client.containers.run("busybox", "sleep 1000", detach=True)
    made = client.api.exec_create(container.id, ["echo", "said"])["Id"]
    lines = ("Host: d", "Content-Type: application/json", "Content-Length: 2", "", "{}")
    request = "\r\n".join((f"POST /v1.41/exec/{made}/start HTTP/1.1", *lines))
    with connect(barque.socket) as stream:
        stream.sendall(request.encode())
        deadline = time.monotonic() + LIMIT_S
        while client.api.exec_inspect(made)["ExitCode"] is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stream.recv(4096).endswith(b"\r\n\r\n")
        assert stream.recv(4096) == b"\1\0\0\0\0\0\0\5said\n"


@pytest.mark.parametrize("tty", [False, True])
def test_attach_by_websocket(barque: Stack, tty: bool) -> None:
    """A browser's way: the bytes of both streams as they are; a close of the client is its end."""

    async def use() -> bytes:
        connector = aiohttp.UnixConnector(str(barque.socket))
        target = "http://d/containers/ws/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(target) as socket,
        ):
            await asyncio.to_thread(barque.docker, "start", "ws")
            await socket.ping()
            await socket.send_bytes(b"some ")
            await socket.send_str("text\n")
            data = b""
            async with asyncio.timeout(LIMIT_S):
                while b"end" not in data or b"bad" not in data:
                    message = await socket.receive()
                    assert message.type == aiohttp.WSMsgType.BINARY
                    data += message.data
            return data

    terminal = ["-t"] if tty else []
    script = "read x; echo got $x; echo bad >&2; echo end"
    barque.docker("create", "-i", *terminal, "--name", "ws", "busybox", "sh", "-c", script)
    try:
        data = asyncio.run(use())
        assert b"got some text" in data
        assert b"bad" in data
        assert b"\0" not in data
    finally:
        barque.docker("rm", "-f", "ws")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upgrade": "websocket", "Connection": "Upgrade"},
        {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "short"},
        {
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "8",
            "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        },
    ],
)
def test_what_is_no_handshake_is_refused(barque: Stack, headers: dict[str, str]) -> None:
    barque.docker("create", "--name", "wsx", "busybox", "true")
    try:
        answer = ask(barque.socket, "GET", "/containers/wsx/attach/ws?stream=1", headers=headers)
        assert answer.status == 400
    finally:
        barque.docker("rm", "wsx")


def test_testcontainers(barque: Stack) -> None:
    """In a process of its own: it reads its environment when it is imported."""
    script = """
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs
made = DockerContainer("busybox").with_command("sh -c 'echo ready; httpd -f -p 80 -h /etc'")
made = made.with_exposed_ports(80).with_env("A", "b")
with made as running:
    wait_for_logs(running, "ready", timeout=20)
    assert running.exec("sh -c 'echo $A'").output == b"b\\n"
    print(running.get_exposed_port(80))
"""
    environment = {
        **os.environ,
        "DOCKER_HOST": barque.host,
        "TESTCONTAINERS_RYUK_DISABLED": "true",
        "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 0
    assert barque.docker("ps", "-aq").stdout == b""
