"""The sandboxer "podsandbox": a pod's first task, which holds its namespaces, by the pod's name.

    Create    the task of the sandbox's spec, in a shim that the pod's containers will share
    Start     its process runs (a pause program, mostly); containers join its namespaces by its pid
    Stop      it is asked to end, then killed
    Shutdown  nothing of it is left; the pod's containers are tasks of their own

Source: containerd, core/sandbox/controller.go: what its CRI uses for runtimes of containers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.events import Events
from barque.containerd.proto import event_types_pb2 as happened
from barque.containerd.proto import sandbox_pb2 as api
from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.sandbox_types_pb2 import Sandbox
from barque.containerd.proto.task_types_pb2 import Status
from barque.containerd.proto.types_pb2 import Metric, Platform
from barque.containerd.shims.shim import Shim
from barque.containerd.shims.tasks import Shims
from barque.errors import BarqueError, Conflict, InvalidArgument, NotFound
from barque.oci import document
from barque.oci.image import host_platform

GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
READY, NOT_READY = "SANDBOX_READY", "SANDBOX_NOTREADY"
STOP_TIMEOUT_S = 10.0
KILLED_WITHIN_S = 30.0


class PodSandboxes:
    def __init__(self, shims: Shims, events: Events, machine: str) -> None:
        """`machine`: as uname(2) has it."""
        self._shims, self._events = shims, events
        self._platform = host_platform(machine)

    async def create(
        self, namespace: str, sandbox: Sandbox, request: api.ControllerCreateRequest
    ) -> None:
        id = request.sandbox_id
        spec = spec_of(sandbox, id, request.annotations, request.netns_path)
        options = present(request.options) or present(sandbox.runtime.options)
        await self._shims.create(
            namespace,
            sandbox.runtime.name,
            spec,
            options,
            task.CreateTaskRequest(id=id, rootfs=request.rootfs, options=options),
        )

    async def start(self, namespace: str, id: str) -> api.ControllerStartResponse:
        shim = await self._shim(namespace, id)
        answer = api.ControllerStartResponse(
            sandbox_id=id,
            pid=await shim.start(""),
            address=shim.address.endpoint,
            version=shim.address.version,
        )
        answer.created_at.FromNanoseconds(_created_ns(shim))
        return answer

    async def platform(self, namespace: str, id: str) -> Platform:
        await self._shim(namespace, id)
        found = self._platform
        return Platform(os=found.os, architecture=found.architecture, variant=found.variant)

    async def stop(self, namespace: str, id: str, timeout_s: int) -> None:
        await self._ended(await self._shim(namespace, id), timeout_s or STOP_TIMEOUT_S)

    async def wait(self, namespace: str, id: str) -> tuple[int, int]:
        return await (await self._shim(namespace, id)).wait("")

    async def status(
        self, namespace: str, id: str, *, verbose: bool
    ) -> api.ControllerStatusResponse:
        shim = await self._shim(namespace, id)
        state = await shim.state()
        running = state.status in (Status.RUNNING, Status.PAUSED)
        answer = api.ControllerStatusResponse(
            sandbox_id=id,
            pid=state.pid,
            state=READY if running else NOT_READY,
            address=shim.address.endpoint,
            version=shim.address.version,
        )
        answer.created_at.FromNanoseconds(_created_ns(shim))
        if state.status == Status.STOPPED:
            answer.exited_at.CopyFrom(state.exited_at)
        if verbose:
            answer.info["runtime"] = shim.runtime
            answer.info["task"] = Status.Name(state.status).lower()
            answer.info["exitStatus"] = str(state.exit_status)
        return answer

    async def shutdown(self, namespace: str, id: str) -> None:
        shim = await self._shim(namespace, id)
        await self._ended(shim, 0)
        ended = await self._shims.delete(shim)
        told = happened.SandboxExit(
            sandbox_id=id, exit_status=ended.exit_status, exited_at=ended.exited_at
        )
        self._events.publish(namespace, "/sandboxes/exit", told)

    async def metrics(self, namespace: str, id: str) -> Metric:
        shim = await self._shim(namespace, id)
        metric = Metric(id=id, data=await shim.stats())
        metric.timestamp.FromNanoseconds(time.time_ns())
        return metric

    async def _shim(self, namespace: str, id: str) -> Shim:
        try:
            return await self._shims.get(namespace, id)
        except NotFound:
            raise NotFound(f'sandbox "{id}": not found') from None

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


def present(value: AnyMessage) -> AnyMessage | None:
    """An unset Any is no options at all."""
    return value if value.type_url or value.value else None
