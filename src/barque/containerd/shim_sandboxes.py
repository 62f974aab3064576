"""The sandboxer "shim": a shim of its own holds the sandbox, and the tasks of its containers.

    Create    a shim in a bundle with the sandbox's spec, and CreateSandbox of it
    Start     StartSandbox
    (tasks)   one whose container names the sandbox is created in the same shim
    Stop      StopSandbox: its process ends, the shim stays
    Shutdown  its tasks are taken down, then ShutdownSandbox ends all

Source: containerd, core/sandbox/controller.go and api/runtime/sandbox/v1/sandbox.proto.
"""

from __future__ import annotations

from barque.containerd.pod_sandboxes import present
from barque.containerd.proto import sandbox_pb2 as api
from barque.containerd.proto import sandbox_shim_pb2 as shim_api
from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.containerd.proto.types_pb2 import Metric, Platform
from barque.containerd.shims.sandbox import SandboxShim
from barque.containerd.shims.sandboxes import SandboxShims
from barque.containerd.shims.tasks import Shims
from barque.errors import NotFound


class ShimSandboxes:
    def __init__(self, sandboxes: SandboxShims, tasks: Shims) -> None:
        self._sandboxes, self._tasks = sandboxes, tasks

    async def create(
        self, namespace: str, sandbox: Sandbox, request: api.ControllerCreateRequest
    ) -> None:
        await self._sandboxes.create(
            namespace,
            sandbox.runtime.name,
            sandbox.spec.value,
            present(sandbox.runtime.options),
            shim_api.CreateSandboxRequest(
                sandbox_id=request.sandbox_id,
                rootfs=request.rootfs,
                options=present(request.options),
                netns_path=request.netns_path,
                annotations=request.annotations,
            ),
        )

    async def start(self, namespace: str, id: str) -> api.ControllerStartResponse:
        shim = await self._shim(namespace, id)
        started = await shim.start()
        return api.ControllerStartResponse(
            sandbox_id=id,
            pid=started.pid,
            created_at=started.created_at,
            address=shim.address.endpoint,
            version=shim.address.version,
        )

    async def platform(self, namespace: str, id: str) -> Platform:
        return await (await self._shim(namespace, id)).platform()

    async def stop(self, namespace: str, id: str, timeout_s: int) -> None:
        await (await self._shim(namespace, id)).stop(timeout_s)

    async def wait(self, namespace: str, id: str) -> tuple[int, int]:
        return await (await self._shim(namespace, id)).wait()

    async def status(
        self, namespace: str, id: str, *, verbose: bool
    ) -> api.ControllerStatusResponse:
        shim = await self._shim(namespace, id)
        found = await shim.status(verbose=verbose)
        answer = api.ControllerStatusResponse(
            sandbox_id=id,
            pid=found.pid,
            state=found.state,
            info=found.info,
            created_at=found.created_at,
            address=shim.address.endpoint,
            version=shim.address.version,
        )
        if found.HasField("exited_at"):
            answer.exited_at.CopyFrom(found.exited_at)
        if found.HasField("extra"):
            answer.extra.CopyFrom(found.extra)
        return answer

    async def shutdown(self, namespace: str, id: str) -> None:
        shim = await self._shim(namespace, id)
        await self._tasks.remove_of_sandbox(namespace, id)
        await self._sandboxes.shutdown(shim)

    async def metrics(self, namespace: str, id: str) -> Metric:
        return await (await self._shim(namespace, id)).metrics()

    async def _shim(self, namespace: str, id: str) -> SandboxShim:
        try:
            return await self._sandboxes.get(namespace, id)
        except NotFound:
            raise NotFound(f'sandbox "{id}": not found') from None
