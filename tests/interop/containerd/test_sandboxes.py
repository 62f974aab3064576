"""A pod: a sandbox and containers that share its namespaces and its shim."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from barque.containerd.client import Containerd
from barque.containerd.client.channel import Channel
from barque.containerd.client.mounts import Mount
from barque.containerd.client.tasks import RuntimeOptions, Stdio
from barque.containerd.proto import containers_pb2
from barque.containerd.proto import sandbox_pb2 as api
from barque.containerd.proto.events_pb2 import SubscribeRequest
from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.containerd.proto.types_pb2 import Envelope
from barque.containerd.proto.types_pb2 import Mount as MountMessage
from barque.errors import AlreadyExists, BarqueError, InvalidArgument, NotFound, Unsupported
from tests.support import rootfs
from tests.support.node import OURS, Node, alive, node, parent

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
STORE, CONTROLLER = (
    "containerd.services.sandbox.v1.Store",
    "containerd.services.sandbox.v1.Controller",
)
NAMESPACE = "pods"


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        rootfs.build(made.root / "rootfs")
        yield made


class Pods:
    def __init__(self, it: Node, channel: Channel, containerd: Containerd) -> None:
        self.it, self.channel, self.containerd = it, channel, containerd

    async def store(self, method: str, **values: Any) -> Any:
        return await self._ask(STORE, f"Store{method}", method, values)

    async def controller(self, method: str, **values: Any) -> Any:
        return await self._ask(CONTROLLER, f"Controller{method}", method, values)

    async def _ask(self, service: str, prefix: str, method: str, values: dict[str, Any]) -> Any:
        request: Message = getattr(api, f"{prefix}Request")(**values)
        answer: type[Message] = getattr(api, f"{prefix}Response")
        return await self.channel.unary(service, method, request, answer)

    def record(self, id: str, *arguments: str, **more: Any) -> Sandbox:
        spec = rootfs.config(*(arguments or ("sleep", "1000")))
        spec["linux"]["cgroupsPath"] = f"/{self.it.word}/{id}"
        value = AnyMessage(type_url="types.containerd.io/spec", value=json.dumps(spec).encode())
        made = Sandbox(sandbox_id=id, spec=value, **more)
        made.runtime.name = OURS
        return made

    async def made(self, id: str, *arguments: str) -> int:
        await self.store("Create", sandbox=self.record(id, *arguments))
        mount = MountMessage(
            type="bind", source=str(self.it.root / "rootfs"), options=["rbind", "rw"]
        )
        await self.controller("Create", sandbox_id=id, rootfs=[mount])
        answer = await self.controller("Start", sandbox_id=id)
        pid: int = answer.pid
        return pid

    async def gone(self, id: str) -> None:
        await self.controller("Shutdown", sandbox_id=id)
        await self.store("Delete", sandbox_id=id)


@asynccontextmanager
async def pods(it: Node) -> AsyncIterator[Pods]:
    containerd = await Containerd.connect(it.address, NAMESPACE)
    channel = Channel(it.address, NAMESPACE)
    try:
        yield Pods(it, channel, containerd)
    finally:
        channel.close()
        containerd.close()


def run(it: Node, check: Callable[[Pods], Awaitable[None]]) -> None:
    async def main() -> None:
        async with pods(it) as client:
            await check(client)

    asyncio.run(main())


def test_a_pod_from_create_to_shutdown(it: Node) -> None:
    async def check(client: Pods) -> None:
        pid = await client.made("pod")
        assert alive(pid)
        status = await client.controller("Status", sandbox_id="pod", verbose=True)
        assert (status.state, status.pid, status.info["task"]) == ("SANDBOX_READY", pid, "running")
        assert status.address.startswith("unix://")
        assert status.created_at.seconds > 1_700_000_000
        platform = await client.controller("Platform", sandbox_id="pod")
        assert platform.platform.os == "linux"
        metrics = await client.controller("Metrics", sandbox_id="pod")
        assert metrics.metrics.data.type_url.endswith("Metrics")
        waiting = asyncio.create_task(client.controller("Wait", sandbox_id="pod"))
        await client.controller("Stop", sandbox_id="pod", timeout_secs=1)
        assert (await waiting).exit_status == 137  # the first of a pid namespace hears no SIGTERM
        status = await client.controller("Status", sandbox_id="pod")
        assert (status.state, status.exited_at.seconds > 0) == ("SANDBOX_NOTREADY", True)
        await client.controller("Stop", sandbox_id="pod")
        await client.gone("pod")
        await client.controller("Shutdown", sandbox_id="pod")
        with pytest.raises(NotFound, match='sandbox "pod"'):
            await client.controller("Status", sandbox_id="pod")

    run(it, check)


def test_what_is_told(it: Node) -> None:
    async def check(client: Pods) -> None:
        request = SubscribeRequest(filters=['topic~="^/sandboxes/"'])
        service = "containerd.services.events.v1.Events"
        async with client.channel.replies(service, "Subscribe", request, Envelope) as events:
            await events.accepted()
            await client.made("told")
            await client.gone("told")
            topics = [event.topic for _ in range(3) if (event := await events.receive())]
        assert topics == ["/sandboxes/create", "/sandboxes/start", "/sandboxes/exit"]

    run(it, check)


def test_containers_of_a_pod_share_its_shim_and_namespaces(it: Node) -> None:
    async def check(client: Pods) -> None:
        pid = await client.made("shared")
        found = []
        for name in ("web", "side"):
            spec = rootfs.config("sleep", "1000")
            spec["linux"]["cgroupsPath"] = f"/{it.word}/{name}"
            for namespace in spec["linux"]["namespaces"]:
                if namespace["type"] in ("ipc", "uts"):
                    namespace["path"] = f"/proc/{pid}/ns/{namespace['type']}"
            record = containers_pb2.Container(id=name, sandbox="shared")
            record.runtime.name = OURS
            record.spec.value = json.dumps(spec).encode()
            await client.channel.unary(
                "containerd.services.containers.v1.Containers",
                "Create",
                containers_pb2.CreateContainerRequest(container=record),
                containers_pb2.CreateContainerResponse,
            )
            mount = Mount("bind", str(it.root / "rootfs"), ("rbind", "rw"))
            options = RuntimeOptions(root=f"{it.root}/runtime")
            found.append(await client.containerd.tasks.create(name, [mount], Stdio(), options))
            await client.containerd.tasks.start(name)
        assert {parent(one) for one in found} == {parent(pid)}
        for one in found:
            assert os.readlink(f"/proc/{one}/ns/ipc") == os.readlink(f"/proc/{pid}/ns/ipc")
        await client.controller("Shutdown", sandbox_id="shared")
        assert all(map(alive, found))  # they are tasks of their own
        for name in ("web", "side"):
            await client.containerd.tasks.kill(name, 9)
            await client.containerd.tasks.wait(name)
            await client.containerd.tasks.delete(name)
            await client.containerd.containers.delete(name)
        await client.store("Delete", sandbox_id="shared")

    run(it, check)


def test_a_sandbox_outlives_the_server(it: Node) -> None:
    async def make(client: Pods) -> None:
        pids.append(await client.made("kept"))

    async def look(client: Pods) -> None:
        status = await client.controller("Status", sandbox_id="kept")
        assert (status.pid, status.state) == (pids[0], "SANDBOX_READY")
        assert [one.sandbox_id for one in (await client.store("List")).list] == ["kept"]
        await client.gone("kept")

    pids: list[int] = []
    run(it, make)
    it.crash()
    it.start()
    run(it, look)


def test_records(it: Node) -> None:
    async def check(client: Pods) -> None:
        made = client.record("one", labels={"a": "1", "b": "2"})
        answer = await client.store("Create", sandbox=made)
        assert answer.sandbox.created_at == answer.sandbox.updated_at
        with pytest.raises(AlreadyExists):
            await client.store("Create", sandbox=made)
        changed = Sandbox(sandbox_id="one", labels={"a": "3", "b": "4"})
        changed.extensions["x"].value = b"y"
        answer = await client.store("Update", sandbox=changed, fields=["labels.a", "extensions.x"])
        assert dict(answer.sandbox.labels) == {"a": "3", "b": "2"}
        assert answer.sandbox.extensions["x"].value == b"y"
        assert answer.sandbox.spec == made.spec
        for fields in (["sandbox_id"], ["spec.x"]):
            with pytest.raises(InvalidArgument):
                await client.store("Update", sandbox=changed, fields=fields)
        for words, count in (("labels.a==3", 1), ("labels.a==1", 0), ("id==one", 1)):
            assert len((await client.store("List", filters=[words])).list) == count
        await client.store("Delete", sandbox_id="one")
        with pytest.raises(NotFound):
            await client.store("Get", sandbox_id="one")

    run(it, check)


def test_what_is_refused(it: Node) -> None:
    async def check(client: Pods) -> None:
        bare = Sandbox(sandbox_id="bare")
        for sandbox, kind in (
            (Sandbox(sandbox_id="../x"), InvalidArgument),
            (bare, InvalidArgument),
        ):
            with pytest.raises(kind):
                await client.controller("Create", sandbox_id=sandbox.sandbox_id, sandbox=sandbox)
        with pytest.raises(NotFound, match="controller 'shim'"):
            await client.controller("Create", sandbox_id="x", sandboxer="shim")
        with pytest.raises(NotFound, match='sandbox "x"'):
            await client.controller("Create", sandbox_id="x")
        broken = client.record("broken", "no-such-program")
        with pytest.raises(BarqueError, match="no-such-program"):
            await client.controller("Create", sandbox_id="broken", sandbox=broken)
        await client.made("one")
        with pytest.raises(Unsupported, match="updating the running sandbox"):
            await client.controller("Update", sandbox_id="one")
        with pytest.raises(AlreadyExists):
            await client.controller("Create", sandbox_id="one")
        await client.gone("one")

    run(it, check)
    tasks = Path(it.root / "state/io.containerd.runtime.v2.task" / NAMESPACE)
    assert [path.name for path in tasks.iterdir() if not path.name.startswith(".")] == []
