"""The docker SDK on our daemon and on Debian's dockerd: the same answers."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from typing import Any

import docker  # type: ignore[import-untyped]
import pytest

from barque.api.frames import FrameReader
from tests.support.engine_api import connect

pytestmark = [pytest.mark.root, pytest.mark.peer]
LIMIT_S = 60


@pytest.fixture(scope="module")
def client(engine: Any) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=engine.host, timeout=LIMIT_S)
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(client: docker.DockerClient) -> Iterator[str]:
    container = client.containers.run("busybox", "sleep 1000", detach=True, network_mode="none")
    yield container.id
    container.remove(force=True)


def output(client: docker.DockerClient, container: str, argv: list[str], *tty: bool) -> bytes:
    """Of an exec that is made and started with (a) terminal, as it comes on the connection."""
    made_with, started_with = tty
    made = client.api.exec_create(container, argv, tty=made_with)
    stream = client.api.exec_start(made, tty=started_with, socket=True)
    data = b""
    while piece := stream._sock.recv(4096):
        data += piece
    stream.close()
    return data


def by_stream(data: bytes) -> dict[int, bytes]:
    reader, found = FrameReader(), dict[int, bytes]()
    for stream, piece in reader.feed(data):
        found[stream] = found.get(stream, b"") + piece
    return found


@pytest.mark.parametrize("made_with", [False, True])
def test_the_form_of_an_execs_output_is_what_its_start_asks_for(
    client: docker.DockerClient, running: str, made_with: bool
) -> None:
    """Docker's clients know at the start only what they ask for there."""
    speaks = ["sh", "-c", "printf out; printf err >&2"]
    expected = {1: b"outerr"} if made_with else {1: b"out", 2: b"err"}
    assert by_stream(output(client, running, speaks, made_with, False)) == expected
    assert output(client, running, ["printf", "out"], made_with, True) == b"out"


@pytest.mark.parametrize("made_with", [False, True])
def test_a_refusal_has_that_form_too(
    client: docker.DockerClient, running: str, made_with: bool
) -> None:
    nothing = ["/no/such/program"]
    framed = by_stream(output(client, running, nothing, made_with, False))
    assert nothing[0].encode() in framed[1]
    assert output(client, running, nothing, made_with, True)[:4] not in {b"\1\0\0\0", b""}


def test_a_load_that_fails_says_so_in_its_progress(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ImageLoadError):
        client.images.load(b"no archive")


def test_a_commit_while_the_container_ends(client: docker.DockerClient) -> None:
    """It cannot be paused any more, and need not be."""
    for _ in range(4):
        container = client.containers.create("busybox", "true", network_mode="none")
        container.start()
        try:
            image = container.commit(f"ended{uuid.uuid4().hex[:8]}")
            client.images.remove(image.id, force=True)
        finally:
            container.remove(force=True)


@pytest.fixture
def network(client: docker.DockerClient) -> Iterator[Any]:
    """Of a name as docker-compose makes it in a directory whose name begins so."""
    made = client.networks.create(f"_{uuid.uuid4().hex} of a project")
    yield made
    made.remove()


def test_aliases_have_the_short_id_for_older_clients(engine: Any, network: Any) -> None:
    """docker-compose 1 looks for it there."""
    client = docker.DockerClient(base_url=engine.host, version="1.41", timeout=LIMIT_S)
    container = client.containers.run(
        "busybox", "sleep 1000", detach=True, network=network.name, mac_address="02:42:ac:99:00:08"
    )
    try:
        container.reload()
        found = container.attrs["NetworkSettings"]["Networks"][network.name]
        assert found["Aliases"] == [container.id[:12]]
        assert found["MacAddress"] == "02:42:ac:99:00:08"
    finally:
        container.remove(force=True)
        client.close()


def test_the_body_of_an_attach_is_no_input(engine: Any, client: docker.DockerClient) -> None:
    """dockerode sends its options there."""
    container = client.containers.create("busybox", "cat", stdin_open=True, network_mode="none")
    target = f"/v1.41/containers/{container.id}/attach?stream=1&stdin=1&stdout=1"
    head = f"POST {target} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    body = b'{"stream":true}'
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        with connect(engine.socket) as stream:
            stream.sendall(head.encode() + body)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += stream.recv(1)
            container.start()
            stream.sendall(b"input")
            stream.shutdown(socket.SHUT_WR)
            data = b""
            while piece := stream.recv(4096):
                data += piece
        assert by_stream(data) == {1: b"input"}
    finally:
        container.remove(force=True)
