"""Any shim of version 2 or 3, over ttrpc or gRPC: a task of one that is made from the protocol."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from barque.containerd.proto import introspection_pb2 as introspection
from barque.containerd.proto.introspection_types_pb2 import RuntimeInfo, RuntimeRequest
from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported
from tests.support import rootfs, shim_double
from tests.support.node import OURS, Node, alive, node, parent
from tests.support.pods import Pods, run
from tests.support.shim import eventually

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
KINDS = ("plain", "json2", "json3", "grpc")
RUNTIMES = "io.containerd.runtime.v2"


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        rootfs.build(made.root / "rootfs")
        for kind in KINDS:
            shim_double.install(made.root, kind)
        yield made


@pytest.fixture(params=KINDS)
def runtime(request: pytest.FixtureRequest, it: Node) -> str:
    return str(it.root / f"containerd-shim-{request.param}-v1")


def test_a_task(it: Node, runtime: str) -> None:
    async def start(client: Pods) -> None:
        client.runtime = runtime
        pids.append(await client.container("one", "", rootfs.config("sleep", "1000")))
        assert alive(pids[0])

    async def end(client: Pods) -> None:
        tasks = client.containerd.tasks
        found = await tasks.get("one")
        assert (found.pid, found.status) == (pids[0], "running")
        await tasks.kill("one", signal.SIGKILL)
        assert (await tasks.wait("one")).code == 137
        assert (await tasks.delete("one")).code == 137
        with pytest.raises(NotFound):
            await tasks.get("one")
        await client.containerd.containers.delete("one")

    pids: list[int] = []
    run(it, start)
    it.crash()
    it.start()
    run(it, end)


def test_a_shim_that_dies(it: Node, runtime: str) -> None:
    async def check(client: Pods) -> None:
        client.runtime = runtime
        pid = await client.container("lost", "", rootfs.config("sleep", "1000"))
        async with client.told("^/tasks/exit") as following:
            os.kill(parent(pid), signal.SIGKILL)
            assert (await following()).topic == "/tasks/exit"
        with pytest.raises(NotFound):
            await client.containerd.tasks.get("lost")
        await client.containerd.containers.delete("lost")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid), "its process ends")

    run(it, check)


async def ask(
    client: Pods, options: Message | None, type: str = RUNTIMES, id: str = "task"
) -> AnyMessage:
    request = introspection.PluginInfoRequest(type=type, id=id)
    if options is not None:
        request.options.type_url = options.DESCRIPTOR.full_name
        request.options.value = options.SerializeToString()
    answer = await client.channel.unary(
        "containerd.services.introspection.v1.Introspection",
        "PluginInfo",
        request,
        introspection.PluginInfoResponse,
    )
    assert (answer.plugin.type, answer.plugin.id) == (request.type, request.id)
    return answer.extra


def test_what_a_shim_says_of_itself(it: Node) -> None:
    async def check(client: Pods) -> None:
        extra = await ask(client, RuntimeRequest(runtime_path=OURS))
        assert extra.type_url == "containerd.types.RuntimeInfo"
        assert RuntimeInfo.FromString(extra.value).name == OURS
        double = RuntimeRequest(runtime_path=str(it.root / "containerd-shim-plain-v1"))
        double.options.type_url = "test.Options"
        told = RuntimeInfo.FromString((await ask(client, double)).value)
        assert (told.name, "test.Options" in told.annotations["given"]) == ("the double", True)
        assert not (await ask(client, None)).type_url
        with pytest.raises(NotFound, match="containerd-shim-none-v1"):
            await ask(client, RuntimeRequest(runtime_path="io.containerd.none.v1"))
        with pytest.raises(InvalidArgument, match="invalid runtime name"):
            await ask(client, RuntimeRequest())
        with pytest.raises(BarqueError, match="failed to run /bin/false -info"):
            await ask(client, RuntimeRequest(runtime_path="/bin/false"))
        with pytest.raises(Unsupported, match="unknown request type"):
            await ask(client, RuntimeInfo())
        with pytest.raises(Unsupported, match="has nothing more to tell"):
            await ask(client, RuntimeInfo(), type="io.containerd.gc.v1", id="scheduler")

    run(it, check)
