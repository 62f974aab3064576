"""A client of the sandbox API: records, sandboxes that run, containers in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

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
from tests.support import rootfs
from tests.support.node import OURS, Node

STORE, CONTROLLER = (
    "containerd.services.sandbox.v1.Store",
    "containerd.services.sandbox.v1.Controller",
)
EVENTS = "containerd.services.events.v1.Events"
NAMESPACE = "pods"


class Pods:
    """A client of one server's sandboxes, all of one sandboxer and runtime."""

    def __init__(self, it: Node, channel: Channel, containerd: Containerd, sandboxer: str) -> None:
        self.it, self.channel, self.containerd = it, channel, containerd
        self.sandboxer, self.runtime = sandboxer, OURS

    async def store(self, method: str, **values: Any) -> Any:
        return await self._ask(STORE, f"Store{method}", method, values)

    async def controller(self, method: str, **values: Any) -> Any:
        values = {"sandboxer": self.sandboxer, **values}
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
        made.runtime.name = self.runtime
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

    async def container(self, name: str, sandbox: str, spec: dict[str, Any]) -> int:
        """A container's record that names the sandbox, and its task, started; its pid."""
        spec["linux"]["cgroupsPath"] = f"/{self.it.word}/{name}"
        record = containers_pb2.Container(id=name, sandbox=sandbox)
        record.runtime.name = self.runtime
        record.spec.value = json.dumps(spec).encode()
        await self.channel.unary(
            "containerd.services.containers.v1.Containers",
            "Create",
            containers_pb2.CreateContainerRequest(container=record),
            containers_pb2.CreateContainerResponse,
        )
        mount = Mount("bind", str(self.it.root / "rootfs"), ("rbind", "rw"))
        options = RuntimeOptions(root=f"{self.it.root}/runtime")
        pid = await self.containerd.tasks.create(name, [mount], Stdio(), options)
        await self.containerd.tasks.start(name)
        return pid

    @asynccontextmanager
    async def told(self, pattern: str) -> AsyncIterator[Callable[[], Awaitable[Envelope]]]:
        """Each next event whose topic matches: the subscription is there when this is entered."""
        request = SubscribeRequest(filters=[f'topic~="{pattern}"'])
        async with self.channel.replies(EVENTS, "Subscribe", request, Envelope) as events:
            await events.accepted()

            async def following() -> Envelope:
                async with asyncio.timeout(20):
                    event = await events.receive()
                assert event is not None
                return event

            yield following

    async def gone(self, id: str) -> None:
        await self.controller("Shutdown", sandbox_id=id)
        await self.store("Delete", sandbox_id=id)


@asynccontextmanager
async def pods(it: Node, sandboxer: str = "") -> AsyncIterator[Pods]:
    containerd = await Containerd.connect(it.address, NAMESPACE)
    channel = Channel(it.address, NAMESPACE)
    try:
        yield Pods(it, channel, containerd, sandboxer)
    finally:
        channel.close()
        containerd.close()


def run(it: Node, check: Callable[[Pods], Awaitable[object]], sandboxer: str = "") -> None:
    async def main() -> None:
        async with pods(it, sandboxer) as client:
            await check(client)

    asyncio.run(main())
