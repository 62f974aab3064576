"""One live shim of a sandbox: the Sandbox service behind its connection.

Source: containerd, api/runtime/sandbox/v1/sandbox.proto.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from barque.containerd.proto import sandbox_shim_pb2 as api
from barque.containerd.proto.types_pb2 import Metric, Platform
from barque.containerd.shims.bundle import Bundle
from barque.containerd.shims.client import STATE_TIMEOUT_S, ShimClient
from barque.containerd.shims.launch import Address
from barque.containerd.shims.links import Link
from barque.containerd.shims.log import ShimLog
from barque.errors import BarqueError, Timeout

SERVICE = api.DESCRIPTOR.services_by_name["Sandbox"].full_name


class SandboxShim(ShimClient):
    """The client of a shim that holds a sandbox, and will hold its containers' tasks."""

    holds: ClassVar[str] = "sandbox"

    def __init__(
        self,
        bundle: Bundle,
        runtime: str,
        connection: Link,
        address: Address,
        log: ShimLog | None,
    ) -> None:
        super().__init__(bundle, runtime, connection, address, log, SERVICE)

    async def recall(self) -> None:
        self.pid = (await self.status()).pid

    async def probe(self) -> None:
        await self._ask("PingSandbox", api.PingRequest(sandbox_id=self.id), api.PingResponse)

    def farewell(self) -> tuple[str, bytes]:
        request = api.ShutdownSandboxRequest(sandbox_id=self.id)
        return "ShutdownSandbox", request.SerializeToString()

    async def create(self, request: api.CreateSandboxRequest) -> None:
        """Its namespaces are there when this returns. Nothing runs in them."""
        await self._call("CreateSandbox", request, api.CreateSandboxResponse)

    async def start(self) -> api.StartSandboxResponse:
        request = api.StartSandboxRequest(sandbox_id=self.id)
        answer = await self._call("StartSandbox", request, api.StartSandboxResponse)
        self.pid = answer.pid
        return answer

    async def platform(self) -> Platform:
        request = api.PlatformRequest(sandbox_id=self.id)
        answer = await self._call("Platform", request, api.PlatformResponse, again=True)
        return answer.platform

    async def stop(self, timeout_s: int) -> None:
        """Returns when its process has ended; the shim stays. 0: as long as the shim thinks fit."""
        request = api.StopSandboxRequest(sandbox_id=self.id, timeout_secs=timeout_s)
        await self._call("StopSandbox", request, api.StopSandboxResponse, again=True)

    async def wait(self) -> tuple[int, int]:
        """Exit status and time (ns) of the sandbox's process, as soon as it has ended."""
        request = api.WaitSandboxRequest(sandbox_id=self.id)
        return await self._waited("WaitSandbox", request, api.WaitSandboxResponse)

    async def status(self, *, verbose: bool = False) -> api.SandboxStatusResponse:
        """Raises Timeout when the shim hangs."""
        request = api.SandboxStatusRequest(sandbox_id=self.id, verbose=verbose)
        try:
            async with asyncio.timeout(STATE_TIMEOUT_S):
                return await self._call(
                    "SandboxStatus", request, api.SandboxStatusResponse, again=True
                )
        except TimeoutError as error:
            raise Timeout(f"{self._name} does not tell its state") from error

    async def metrics(self) -> Metric:
        request = api.SandboxMetricsRequest(sandbox_id=self.id)
        answer = await self._call("SandboxMetrics", request, api.SandboxMetricsResponse, again=True)
        return answer.metrics

    async def shutdown(self) -> None:
        """Sandbox, containers and shim end. Raises ConnectionLost when the shim has died over it:
        nobody is told of that death."""
        self.leaving = True
        try:
            request = api.ShutdownSandboxRequest(sandbox_id=self.id)
            await self._ask("ShutdownSandbox", request, api.ShutdownSandboxResponse)
        except BarqueError:
            self.leaving = self.connection.lost.done()
            raise
