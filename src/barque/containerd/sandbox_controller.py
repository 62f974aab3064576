"""gRPC sandbox Controller: sandboxes that run, each by the sandboxer that its caller names.

Source: containerd, core/sandbox/controller.go and api/services/sandbox/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from barque.containerd.events import Events, Message
from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import check_identifier, namespace_of
from barque.containerd.proto import event_types_pb2 as happened
from barque.containerd.proto import sandbox_pb2 as api
from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.containerd.proto.types_pb2 import Metric, Platform
from barque.containerd.sandboxes import Sandboxes
from barque.errors import InvalidArgument, NotFound, Unsupported

DEFAULT_SANDBOXER = "podsandbox"


class Sandboxer(Protocol):
    """One way to have sandboxes. Every method but `create` raises NotFound for one it has not."""

    async def create(
        self, namespace: str, sandbox: Sandbox, request: api.ControllerCreateRequest
    ) -> None:
        """Have its namespaces. `sandbox`: its record. Raises AlreadyExists; leaves nothing then."""

    async def start(self, namespace: str, id: str) -> api.ControllerStartResponse:
        """Run its process."""

    async def platform(self, namespace: str, id: str) -> Platform:
        """What its containers run on."""

    async def stop(self, namespace: str, id: str, timeout_s: int) -> None:
        """Returns when its process has ended, by itself or by force. 0: a time that is usual."""

    async def wait(self, namespace: str, id: str) -> tuple[int, int]:
        """Exit status and time (ns) of its process, as soon as it has ended."""

    async def status(
        self, namespace: str, id: str, *, verbose: bool
    ) -> api.ControllerStatusResponse:
        """How it is now."""

    async def shutdown(self, namespace: str, id: str) -> None:
        """Stop and remove it. Its exit has been told when this returns."""

    async def metrics(self, namespace: str, id: str) -> Metric:
        """What it uses."""


class Controller:
    def __init__(
        self, sandboxers: Mapping[str, Sandboxer], sandboxes: Sandboxes, events: Events
    ) -> None:
        self._sandboxers, self._sandboxes, self._events = sandboxers, sandboxes, events

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Controller"],
            {
                "Create": self.create,
                "Start": self.start,
                "Platform": self.platform,
                "Stop": self.stop,
                "Wait": self.wait,
                "Status": self.status,
                "Shutdown": self.shutdown,
                "Metrics": self.metrics,
                "Update": self.update,
            },
        )

    async def create(
        self, call: Call, request: api.ControllerCreateRequest
    ) -> api.ControllerCreateResponse:
        sandboxer, namespace = self._sandboxer(request), namespace_of(call)
        id = check_identifier(request.sandbox_id)
        sandbox = request.sandbox
        if not sandbox.sandbox_id:
            sandbox = self._sandboxes.find(namespace, id)
        if not sandbox.runtime.name:
            raise InvalidArgument(f"sandbox {id} has no runtime: invalid argument")
        await sandboxer.create(namespace, sandbox, request)
        self._tell(namespace, "create", happened.SandboxCreate(sandbox_id=id))
        return api.ControllerCreateResponse(sandbox_id=id)

    async def start(
        self, call: Call, request: api.ControllerStartRequest
    ) -> api.ControllerStartResponse:
        namespace, id = namespace_of(call), request.sandbox_id
        answer = await self._sandboxer(request).start(namespace, id)
        self._tell(namespace, "start", happened.SandboxStart(sandbox_id=id))
        return answer

    async def platform(
        self, call: Call, request: api.ControllerPlatformRequest
    ) -> api.ControllerPlatformResponse:
        found = await self._sandboxer(request).platform(namespace_of(call), request.sandbox_id)
        return api.ControllerPlatformResponse(platform=found)

    async def stop(
        self, call: Call, request: api.ControllerStopRequest
    ) -> api.ControllerStopResponse:
        sandboxer = self._sandboxer(request)
        await sandboxer.stop(namespace_of(call), request.sandbox_id, request.timeout_secs)
        return api.ControllerStopResponse()

    async def wait(
        self, call: Call, request: api.ControllerWaitRequest
    ) -> api.ControllerWaitResponse:
        sandboxer = self._sandboxer(request)
        status, at_ns = await sandboxer.wait(namespace_of(call), request.sandbox_id)
        answer = api.ControllerWaitResponse(exit_status=status)
        answer.exited_at.FromNanoseconds(at_ns)
        return answer

    async def status(
        self, call: Call, request: api.ControllerStatusRequest
    ) -> api.ControllerStatusResponse:
        return await self._sandboxer(request).status(
            namespace_of(call), request.sandbox_id, verbose=request.verbose
        )

    async def shutdown(
        self, call: Call, request: api.ControllerShutdownRequest
    ) -> api.ControllerShutdownResponse:
        """One that is gone is done."""
        sandboxer = self._sandboxer(request)
        try:
            await sandboxer.shutdown(namespace_of(call), request.sandbox_id)
        except NotFound:
            pass
        return api.ControllerShutdownResponse()

    async def metrics(
        self, call: Call, request: api.ControllerMetricsRequest
    ) -> api.ControllerMetricsResponse:
        found = await self._sandboxer(request).metrics(namespace_of(call), request.sandbox_id)
        return api.ControllerMetricsResponse(metrics=found)

    async def update(
        self, call: Call, request: api.ControllerUpdateRequest
    ) -> api.ControllerUpdateResponse:
        sandboxer = self._sandboxer(request)
        await sandboxer.platform(namespace_of(call), request.sandbox_id)
        raise Unsupported(f"updating the running sandbox {request.sandbox_id} is not supported")

    def _sandboxer(self, request: Any) -> Sandboxer:
        name = request.sandboxer or DEFAULT_SANDBOXER
        if name not in self._sandboxers:
            raise NotFound(f"sandbox controller {name!r}: not found")
        return self._sandboxers[name]

    def _tell(self, namespace: str, what: str, event: Message) -> None:
        self._events.publish(namespace, f"/sandboxes/{what}", event)
