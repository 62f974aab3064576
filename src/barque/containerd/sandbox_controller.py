"""gRPC sandbox Controller: a pod's first task, which holds its namespaces, by the pod's name.

    Create    the task of the sandbox's spec, in a shim that the pod's containers will share
    Start     its process runs (a pause program, mostly); containers join its namespaces by its pid
    Stop      it is asked to end, then killed
    Shutdown  nothing of it is left; the pod's containers are tasks of their own

Source: containerd, core/sandbox/controller.go and api/services/sandbox/v1. This is the sandboxer
"podsandbox", the one that containerd's CRI uses for runtimes of containers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.events import Events, Message
from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import check_identifier, namespace_of
from barque.containerd.proto import event_types_pb2 as happened
from barque.containerd.proto import sandbox_pb2 as api
from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.containerd.proto.task_types_pb2 import Status
from barque.containerd.proto.types_pb2 import Metric, Platform
from barque.containerd.sandboxes import Sandboxes
from barque.containerd.shims.shim import Shim
from barque.containerd.shims.supervisor import Shims
from barque.errors import BarqueError, Conflict, InvalidArgument, NotFound, Unsupported
from barque.oci import document
from barque.oci.image import host_platform

SANDBOXERS = ("", "podsandbox")
GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
READY, NOT_READY = "SANDBOX_READY", "SANDBOX_NOTREADY"
STOP_TIMEOUT_S = 10.0
KILLED_WITHIN_S = 30.0


class Controller:
    def __init__(self, shims: Shims, sandboxes: Sandboxes, events: Events, machine: str) -> None:
        """`machine`: as uname(2) has it."""
        self._shims, self._sandboxes, self._events = shims, sandboxes, events
        self._platform = host_platform(machine)

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
        check_sandboxer(request.sandboxer)
        namespace, id = namespace_of(call), check_identifier(request.sandbox_id)
        sandbox = request.sandbox
        if not sandbox.sandbox_id:
            sandbox = self._sandboxes.find(namespace, id)
        spec = spec_of(sandbox, id, request.annotations, request.netns_path)
        options = _present(request.options) or _present(sandbox.runtime.options)
        if not sandbox.runtime.name:
            raise InvalidArgument(f"sandbox {id} has no runtime: invalid argument")
        await self._shims.create(
            namespace,
            sandbox.runtime.name,
            spec,
            options,
            task.CreateTaskRequest(id=id, rootfs=request.rootfs, options=options),
        )
        self._tell(namespace, "create", happened.SandboxCreate(sandbox_id=id))
        return api.ControllerCreateResponse(sandbox_id=id)

    async def start(
        self, call: Call, request: api.ControllerStartRequest
    ) -> api.ControllerStartResponse:
        shim = await self._shim(call, request)
        pid = await shim.start("")
        self._tell(shim.namespace, "start", happened.SandboxStart(sandbox_id=shim.id))
        answer = api.ControllerStartResponse(
            sandbox_id=shim.id, pid=pid, address=shim.address.url, version=shim.address.version
        )
        answer.created_at.FromNanoseconds(_created_ns(shim))
        return answer

    async def platform(
        self, call: Call, request: api.ControllerPlatformRequest
    ) -> api.ControllerPlatformResponse:
        await self._shim(call, request)
        found = self._platform
        return api.ControllerPlatformResponse(
            platform=Platform(os=found.os, architecture=found.architecture, variant=found.variant)
        )

    async def stop(
        self, call: Call, request: api.ControllerStopRequest
    ) -> api.ControllerStopResponse:
        """Returns when its process has ended, by itself or by force."""
        shim = await self._shim(call, request)
        await self._ended(shim, request.timeout_secs or STOP_TIMEOUT_S)
        return api.ControllerStopResponse()

    async def wait(
        self, call: Call, request: api.ControllerWaitRequest
    ) -> api.ControllerWaitResponse:
        shim = await self._shim(call, request)
        status, at_ns = await shim.wait("")
        answer = api.ControllerWaitResponse(exit_status=status)
        answer.exited_at.FromNanoseconds(at_ns)
        return answer

    async def status(
        self, call: Call, request: api.ControllerStatusRequest
    ) -> api.ControllerStatusResponse:
        shim = await self._shim(call, request)
        state = await shim.state()
        running = state.status in (Status.RUNNING, Status.PAUSED)
        answer = api.ControllerStatusResponse(
            sandbox_id=shim.id,
            pid=state.pid,
            state=READY if running else NOT_READY,
            address=shim.address.url,
            version=shim.address.version,
        )
        answer.created_at.FromNanoseconds(_created_ns(shim))
        if state.status == Status.STOPPED:
            answer.exited_at.CopyFrom(state.exited_at)
        if request.verbose:
            answer.info["runtime"] = shim.runtime
            answer.info["task"] = Status.Name(state.status).lower()
            answer.info["exitStatus"] = str(state.exit_status)
        return answer

    async def shutdown(
        self, call: Call, request: api.ControllerShutdownRequest
    ) -> api.ControllerShutdownResponse:
        """Stops and removes it; one that is gone is done."""
        try:
            shim = await self._shim(call, request)
            await self._ended(shim, 0)
            ended = await self._shims.delete(shim)
        except NotFound:
            return api.ControllerShutdownResponse()
        told = happened.SandboxExit(
            sandbox_id=shim.id, exit_status=ended.exit_status, exited_at=ended.exited_at
        )
        self._tell(shim.namespace, "exit", told)
        return api.ControllerShutdownResponse()

    async def metrics(
        self, call: Call, request: api.ControllerMetricsRequest
    ) -> api.ControllerMetricsResponse:
        shim = await self._shim(call, request)
        metric = Metric(id=shim.id, data=await shim.stats())
        metric.timestamp.FromNanoseconds(time.time_ns())
        return api.ControllerMetricsResponse(metrics=metric)

    async def update(
        self, call: Call, request: api.ControllerUpdateRequest
    ) -> api.ControllerUpdateResponse:
        shim = await self._shim(call, request)
        raise Unsupported(f"updating the running sandbox {shim.id} is not supported")

    async def _shim(self, call: Call, request: Any) -> Shim:
        check_sandboxer(request.sandboxer)
        try:
            return await self._shims.get(namespace_of(call), request.sandbox_id)
        except NotFound:
            raise NotFound(f'sandbox "{request.sandbox_id}": not found') from None

    async def _ended(self, shim: Shim, patience_s: float) -> None:
        """Returns when its process has ended: asked to, if `patience_s` is not 0, or killed."""
        if (await shim.state()).status == Status.STOPPED:
            return
        if patience_s:
            await _signalled(shim, signal.SIGTERM)
            try:
                async with asyncio.timeout(patience_s):
                    await shim.wait("")
                    return
            except TimeoutError:
                pass
        await _signalled(shim, signal.SIGKILL)
        async with asyncio.timeout(KILLED_WITHIN_S):
            await shim.wait("")

    def _tell(self, namespace: str, what: str, event: Message) -> None:
        self._events.publish(namespace, f"/sandboxes/{what}", event)


def check_sandboxer(name: str) -> None:
    if name not in SANDBOXERS:
        raise NotFound(f"sandbox controller {name!r}: not found")


def spec_of(sandbox: Sandbox, id: str, annotations: Mapping[str, str], netns: str) -> bytes:
    """The runtime spec of the sandbox's first task, with the mark of its group.

    Raises InvalidArgument when the record has none.
    """
    try:
        spec = document.parse(sandbox.spec.value)
    except ValueError as error:
        raise InvalidArgument(f"sandbox {id}: its spec is no JSON: {error}") from None
    if not isinstance(spec, dict):
        raise InvalidArgument(f"sandbox {id}: its spec is not a JSON object")
    if netns:
        _join_network(spec, id, netns)
    return in_group(spec, id, annotations)


def in_group(spec: dict[str, Any], id: str, more: Mapping[str, str] | None = None) -> bytes:
    """`spec` with the annotation by which a pod's containers share a shim, and `more` of them."""
    annotations = {**(spec.get("annotations") or {}), **(more or {})}
    if not any(annotations.get(name) for name in GROUPS):
        annotations[GROUPS[0]] = id
    return document.dump({**spec, "annotations": annotations})


def _join_network(spec: dict[str, Any], id: str, netns: str) -> None:
    try:
        namespaces = spec["linux"]["namespaces"]
        others = [one for one in namespaces if one["type"] != "network"]
    except (KeyError, TypeError):
        raise InvalidArgument(f"sandbox {id}: its spec has no namespaces") from None
    spec["linux"]["namespaces"] = [*others, {"type": "network", "path": netns}]


async def _signalled(shim: Shim, number: int) -> None:
    """Nothing to signal is fine; a process that was made and never started is killed the same."""
    try:
        await shim.kill("", number, everyone=False)
    except (NotFound, Conflict):
        pass
    except BarqueError as error:
        if "already finished" not in str(error):
            raise


def _created_ns(shim: Shim) -> int:
    """When its bundle was made: this outlives us."""
    return os.stat(shim.bundle.path / "config.json").st_mtime_ns


def _present(value: AnyMessage) -> AnyMessage | None:
    return value if value.type_url or value.value else None
