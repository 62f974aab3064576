"""The supervisor half of our containerd inside the test: shims, exchange, the shims' event socket.

    async with supervisor(root) as it:
        shim = await it.create("one", spec("sleep", "100"), runtime=RUNC)

Everything is under `root`; leaving the block kills the tasks that are left and ends the zygote.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from barque import program
from barque.containerd.event_service import EventService
from barque.containerd.events import Envelope, Exchange
from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.runc_options_pb2 import Options
from barque.containerd.proto.types_pb2 import Mount
from barque.containerd.shims.launch import OURS, Launcher
from barque.containerd.shims.shim import Shim
from barque.containerd.shims.tasks import Shims
from barque.containerd.shims.zygote import Zygote
from barque.containerd.ttrpc import Server
from barque.errors import BarqueError
from tests.support import rootfs

RUNC = "io.containerd.runc.v2"
NAMESPACE = "test"
EVENT_TIMEOUT_S = 30.0

__all__ = ["NAMESPACE", "OURS", "RUNC", "Supervisor", "spec", "supervisor"]


def spec(*arguments: str, cgroup: str, **process: Any) -> dict[str, Any]:
    """A config.json whose rootfs is the bundle's own, in a cgroup of the test."""
    config = rootfs.config(*arguments, **process)
    config["linux"]["cgroupsPath"] = cgroup
    return config


class Supervisor:
    """What a test drives. `told` holds every event so far, in order."""

    def __init__(self, root: Path, runtime_binary: str) -> None:
        self.root = root
        self.runtime_binary = runtime_binary
        self.exchange = Exchange()
        self.address = str(root / "c.sock")
        self.zygote = Zygote(
            str(root / "zygote.sock"), program.command("containerd-shim-barque-v2", "zygote")
        )
        launcher = Launcher(self.zygote, self.address, "/bin/false", debug=True)
        self.shims = Shims(root / "tasks", launcher, self.exchange)
        self.told: list[Envelope] = []
        self._news = asyncio.Condition()
        self._server = Server(EventService(self.exchange).ttrpc_methods())
        self._listener: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._listener = asyncio.create_task(self._listen())
        await asyncio.sleep(0)
        await self._server.listen(f"{self.address}.ttrpc")
        await self.shims.load()

    async def close(self) -> None:
        """As when containerd ends: the shims go on."""
        await self._server.close()
        await self.shims.close()
        if self._listener is not None:
            self._listener.cancel()

    async def _listen(self) -> None:
        with self.exchange.subscribe() as subscription:
            async for envelope in subscription:
                async with self._news:
                    self.told.append(envelope)
                    self._news.notify_all()

    async def event(self, topic: str, accept: Callable[[Envelope], bool] = bool) -> Envelope:
        """The first event of `topic`, waited for."""

        def found() -> Envelope | None:
            return next((e for e in self.told if e.topic == topic and accept(e)), None)

        async with self._news:
            async with asyncio.timeout(EVENT_TIMEOUT_S):
                await self._news.wait_for(found)
        envelope = found()
        assert envelope is not None
        return envelope

    async def create(self, id: str, config: dict[str, Any], runtime: str, **request: Any) -> Shim:
        options = AnyMessage()
        root = f"{self.root}/runtime"
        options.Pack(Options(binary_name=self.runtime_binary, root=root))
        options.type_url = "containerd.runc.v1.Options"
        mount = Mount(type="bind", source=f"{self.root}/rootfs", options=["rbind", "rw"])
        return await self.shims.create(
            NAMESPACE,
            runtime,
            json.dumps(config).encode(),
            options,
            task.CreateTaskRequest(id=id, rootfs=[mount], options=options, **request),
        )

    async def end(self, shim: Shim) -> int:
        """Kill, wait, delete; the exit status."""
        with suppress(BarqueError):
            await shim.kill("", signal.SIGKILL, everyone=True)
        status, _ = await shim.wait("")
        await self.shims.delete(shim)
        return status


@asynccontextmanager
async def supervisor(root: Path, runtime_binary: str = "runc") -> AsyncIterator[Supervisor]:
    if not (root / "rootfs").exists():
        rootfs.build(root / "rootfs")
    it = Supervisor(root, runtime_binary)
    await it.open()
    try:
        yield it
    finally:
        for shim in await it.shims.in_namespace(NAMESPACE):
            with suppress(BarqueError):
                await it.end(shim)
        await it.close()
        await it.zygote.close()
