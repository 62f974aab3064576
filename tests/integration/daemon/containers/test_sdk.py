"""The docker SDK of PyPI and Debian's older docker CLI on our socket."""

from __future__ import annotations

from collections.abc import Iterator

import docker  # type: ignore[import-untyped]
import pytest
from docker.models.containers import Container  # type: ignore[import-untyped]

from tests.support.barque import Stack

pytestmark = [pytest.mark.root, pytest.mark.peer]
OLD_CLI = "/usr/bin/docker"


@pytest.fixture
def client(barque: Stack) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=barque.host)
    yield made
    made.close()


@pytest.fixture
def running(client: docker.DockerClient) -> Iterator[Container]:
    made = client.containers.run(
        "busybox", "sleep 1000", detach=True, mem_limit="64m", labels={"a": "b"}, name="by-sdk",
        environment={"X": "1"}, ports={"80/tcp": None},
    )  # fmt: skip
    yield made
    made.remove(force=True)


def test_run_and_logs(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", "echo hi", remove=True) == b"hi\n"
    script = "for i in 1 2 3; do echo $i; sleep 0.05; done"
    made = client.containers.run("busybox", ["sh", "-c", script], detach=True)
    try:
        assert b"".join(made.logs(stream=True, follow=True)) == b"1\n2\n3\n"
        assert made.wait()["StatusCode"] == 0
    finally:
        made.remove()
    with pytest.raises(docker.errors.ContainerError):
        client.containers.run("busybox", "false", remove=True)
    with pytest.raises(docker.errors.NotFound, match="No such container: nope"):
        client.containers.get("nope")


def test_a_running_container(client: docker.DockerClient, running: Container) -> None:
    assert [item.name for item in client.containers.list()] == ["by-sdk"]
    assert client.containers.list(filters={"label": ["a=b"], "status": "running"})
    assert client.containers.list(filters={"label": "a=c"}) == []
    assert running.exec_run("echo ex").output == b"ex\n"
    both = running.exec_run(["sh", "-c", "echo o; echo e >&2; exit 3"], demux=True)
    assert (both.exit_code, both.output) == (3, (b"o\n", b"e\n"))
    assert running.stats(stream=False)["memory_stats"]["limit"] == 64 << 20
    assert running.top()["Titles"][1] == "PID"
    running.pause()
    running.reload()
    assert running.status == "paused"
    running.unpause()
    running.update(mem_limit="32m", memswap_limit="64m")
    running.rename("renamed")
    running.reload()
    assert running.attrs["HostConfig"]["Memory"] == 32 << 20
    assert running.ports["80/tcp"][0]["HostPort"]
    running.stop(timeout=0)
    running.reload()
    assert running.status == "exited"
    running.restart()


def test_the_older_cli(barque: Stack) -> None:
    def old(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        done = barque._run([OLD_CLI, *arguments], False, stdin, 60)
        return done.returncode, done.stdout, done.stderr

    assert old("run", "--rm", "-i", "busybox", "cat", stdin=b"in") == (0, b"in", b"")
    assert old("run", "-d", "--name", "older", "busybox", "sleep", "1000")[0] == 0
    try:
        script = "echo o; echo e >&2; exit 4"
        assert old("exec", "older", "sh", "-c", script) == (4, b"o\n", b"e\n")
        assert b"older" in old("ps")[1]
        assert b"sleep 1000" in old("top", "older")[1]
        assert b"older" in old("stats", "--no-stream", "older")[1]
        assert old("restart", "-t", "0", "older")[0] == 0
        assert old("inspect", "-f", "{{.State.Status}}", "older")[1] == b"running\n"
    finally:
        old("rm", "-f", "older")
    assert old("run", "--rm", "busybox", "nosuch")[0] == 127
