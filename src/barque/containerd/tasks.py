"""The gRPC service `containerd.services.tasks.v1.Tasks`: each call goes to the task's shim.

Source: containerd, api/services/tasks/v1/tasks.proto; error texts and codes as its
plugins/services/tasks, which dockerd, CRI and ctr branch on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from barque.containerd.checkpoints import Checkpoints
from barque.containerd.filters import Lookup, any_of, parse, parse_all
from barque.containerd.grpc import Call, Service
from barque.containerd.identifiers import check_identifier, namespace_of
from barque.containerd.pod_sandboxes import in_group, present
from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto import tasks_pb2 as api
from barque.containerd.proto.containers_pb2 import Container
from barque.containerd.proto.runc_options_pb2 import CheckpointOptions
from barque.containerd.proto.runc_options_pb2 import Options as RuntimeOptions
from barque.containerd.proto.task_types_pb2 import Process, Status
from barque.containerd.proto.types_pb2 import Metric
from barque.containerd.shims.sandbox import SandboxShim
from barque.containerd.shims.sandboxes import SandboxShims
from barque.containerd.shims.shim import Shim, Stdio
from barque.containerd.shims.tasks import Shims
from barque.errors import BarqueError, InvalidArgument, NotFound, Timeout, Unsupported
from barque.oci import document

SIGNAL_MAX = 64
STATES_AT_ONCE = 32
HELD = "shim"  # the sandboxer whose sandboxes are not tasks
STATS_TIMEOUT_S = 2.0

Result = TypeVar("Result")
Options = TypeVar("Options", bound=Message)

log = logging.getLogger(__name__)


class Containers(Protocol):
    """What tasks need of the store of container records."""

    def find(self, namespace: str, id: str) -> Container:
        """Raises NotFound."""


class Sandboxes(Protocol):
    """And of that of sandboxes."""

    def sandboxer(self, namespace: str, id: str) -> str:
        """What makes the sandbox; "" where nobody says."""


class Tasks:
    """The methods of the service."""

    def __init__(
        self,
        shims: Shims,
        held: SandboxShims,
        sandboxes: Sandboxes,
        containers: Containers,
        checkpoints: Checkpoints,
    ) -> None:
        self._shims = shims
        self._held, self._sandboxes = held, sandboxes
        self._containers = containers
        self._checkpoints = checkpoints

    def service(self) -> Service:
        return Service(
            api.DESCRIPTOR.services_by_name["Tasks"],
            {
                "Create": self.create,
                "Start": self.start,
                "Delete": self.delete,
                "DeleteProcess": self.delete_process,
                "Get": self.get,
                "List": self.list_tasks,
                "Kill": self.kill,
                "Exec": self.exec,
                "ResizePty": self.resize_pty,
                "CloseIO": self.close_io,
                "Pause": self.pause,
                "Resume": self.resume,
                "ListPids": self.list_pids,
                "Checkpoint": self.checkpoint,
                "Update": self.update,
                "Metrics": self.metrics,
                "Wait": self.wait,
            },
        )

    async def create(self, call: Call, request: api.CreateTaskRequest) -> api.CreateTaskResponse:
        """A task restored from a checkpoint has no process before it is started."""
        container = self._containers.find(namespace_of(call), request.container_id)
        options = present(request.options) or present(container.runtime.options)
        images = _decoded(RuntimeOptions, options).criu_image_path
        wanted = task.CreateTaskRequest(
            id=request.container_id,
            rootfs=request.rootfs,
            terminal=request.terminal,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            options=options,
            checkpoint=images,
        )
        unpacked = bool(request.checkpoint.digest and not images)
        if unpacked:
            await self._shims.require_free(call.namespace, wanted.id)
            wanted.checkpoint = await self._checkpoints.unpack(call, wanted.id, request.checkpoint)
        runtime = request.runtime_path or container.runtime.name
        try:
            sandbox = await self._sandbox(call.namespace, container.sandbox)
            spec = container.spec.value if sandbox is not None else _spec(container)
            shim = await self._shims.create(call.namespace, runtime, spec, options, wanted, sandbox)
        except BaseException:
            if unpacked:
                await self._checkpoints.forget(call.namespace, wanted.id)
            raise
        return api.CreateTaskResponse(container_id=wanted.id, pid=shim.pid)

    async def _sandbox(self, namespace: str, id: str) -> SandboxShim | None:
        """The shim that holds the sandbox; None when it is a task, or not there.

        Raises NotFound when it should be held by a shim, and none does: nothing runs beside it.
        """
        if not id:
            return None
        try:
            return await self._held.get(namespace, id)
        except NotFound:
            if self._sandboxes.sandboxer(namespace, id) == HELD:
                raise
            return None

    async def start(self, call: Call, request: api.StartRequest) -> api.StartResponse:
        shim = await self._shim(call, request.container_id)
        pid = await shim.start(request.exec_id)
        if not request.exec_id:
            await self._checkpoints.forget(shim.namespace, shim.id)
            shim.pid = pid  # a restored task has it from now on
        return api.StartResponse(pid=pid)

    async def delete(self, call: Call, request: api.DeleteTaskRequest) -> api.DeleteResponse:
        shim = await self._shim(call, request.container_id)
        ended = await self._shims.delete(shim)
        await self._checkpoints.forget(shim.namespace, shim.id)
        return _deleted(shim.id, ended)

    async def delete_process(
        self, call: Call, request: api.DeleteProcessRequest
    ) -> api.DeleteResponse:
        shim = await self._shim(call, request.container_id)
        check_identifier(request.exec_id)
        return _deleted(request.exec_id, await shim.delete(request.exec_id))

    async def get(self, call: Call, request: api.GetRequest) -> api.GetResponse:
        shim = await self._shim(call, request.container_id)
        state = await shim.state(request.exec_id)
        return api.GetResponse(process=_process(shim, request.exec_id, state))

    async def list_tasks(self, call: Call, request: api.ListTasksRequest) -> api.ListTasksResponse:
        """Every task of the namespace that its shim can tell of. Filter fields: id, status."""
        states = await self._of_all(call, Shim.state)
        processes = [_process(shim, "", state) for shim, state in states]
        if request.filter:
            wanted = any_of([parse(request.filter)])
            processes = [process for process in processes if wanted(_process_field(process))]
        return api.ListTasksResponse(tasks=processes)

    async def kill(self, call: Call, request: api.KillRequest) -> Empty:
        shim = await self._shim(call, request.container_id)
        if not 0 <= request.signal <= SIGNAL_MAX:
            raise InvalidArgument(f"signal {request.signal} is out of range")
        await shim.kill(request.exec_id, request.signal, request.all)
        return Empty()

    async def exec(self, call: Call, request: api.ExecProcessRequest) -> Empty:
        check_identifier(request.exec_id)
        shim = await self._shim(call, request.container_id)
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        await shim.exec(request.exec_id, stdio, request.spec)
        return Empty()

    async def resize_pty(self, call: Call, request: api.ResizePtyRequest) -> Empty:
        shim = await self._shim(call, request.container_id)
        await shim.resize(request.exec_id, request.width, request.height)
        return Empty()

    async def close_io(self, call: Call, request: api.CloseIORequest) -> Empty:
        shim = await self._shim(call, request.container_id)
        if request.stdin:
            await shim.close_stdin(request.exec_id)
        return Empty()

    async def pause(self, call: Call, request: api.PauseTaskRequest) -> Empty:
        await (await self._shim(call, request.container_id)).pause()
        return Empty()

    async def resume(self, call: Call, request: api.ResumeTaskRequest) -> Empty:
        await (await self._shim(call, request.container_id)).resume()
        return Empty()

    async def list_pids(self, call: Call, request: api.ListPidsRequest) -> api.ListPidsResponse:
        shim = await self._shim(call, request.container_id)
        return api.ListPidsResponse(processes=(await shim.pids()).processes)

    async def checkpoint(
        self, call: Call, request: api.CheckpointTaskRequest
    ) -> api.CheckpointTaskResponse:
        """By criu: two blobs, or the images alone in the directory that the options name."""
        shim = await self._shim(call, request.container_id)
        if request.parent_checkpoint:
            raise Unsupported(f"checkpoint of task {shim.id} on top of another is not supported")
        options = present(request.options)
        if images := _decoded(CheckpointOptions, options).image_path:
            await shim.checkpoint(images, options)
            return api.CheckpointTaskResponse()
        spec = self._containers.find(shim.namespace, shim.id).spec
        found = await self._checkpoints.save(
            call, lambda path: shim.checkpoint(path, options), spec
        )
        return api.CheckpointTaskResponse(descriptors=found)

    async def update(self, call: Call, request: api.UpdateTaskRequest) -> Empty:
        shim = await self._shim(call, request.container_id)
        await shim.update(
            task.UpdateTaskRequest(
                id=shim.id, resources=request.resources, annotations=request.annotations
            )
        )
        return Empty()

    async def metrics(self, call: Call, request: api.MetricsRequest) -> api.MetricsResponse:
        """What the cgroups of the namespace's tasks count. Filter fields: id, namespace."""
        wanted = any_of(parse_all(request.filters))
        stats = await self._of_all(call, Shim.stats, lambda shim: wanted(_shim_field(shim)))
        now_ns = time.time_ns()
        answer = api.MetricsResponse()
        for shim, data in stats:
            metric = Metric(id=shim.id, data=data)
            metric.timestamp.FromNanoseconds(now_ns)
            answer.metrics.append(metric)
        return answer

    async def wait(self, call: Call, request: api.WaitRequest) -> api.WaitResponse:
        shim = await self._shim(call, request.container_id)
        status, exited_at_ns = await shim.wait(request.exec_id)
        answer = api.WaitResponse(exit_status=status)
        answer.exited_at.FromNanoseconds(exited_at_ns)
        return answer

    async def _shim(self, call: Call, id: str) -> Shim:
        return await self._shims.get(namespace_of(call), id)

    async def statistics(self) -> list[tuple[dict[str, str], AnyMessage]]:
        """What the cgroups of every running task count, with who it is, for metrics."""
        found = await self._of(await self._shims.all(), _stats_soon)
        return [
            (
                {"container_id": shim.id, "namespace": shim.namespace, "runtime": shim.runtime},
                data,
            )
            for shim, data in found
        ]

    async def _of_all(
        self,
        call: Call,
        ask: Callable[[Shim], Awaitable[Result]],
        wanted: Callable[[Shim], bool] = lambda shim: True,
    ) -> list[tuple[Shim, Result]]:
        """What each shim of the namespace answers; one that cannot is left out, and logged."""
        shims = await self._shims.in_namespace(namespace_of(call))
        return await self._of(filter(wanted, shims), ask)

    async def _of(
        self, shims: Iterable[Shim], ask: Callable[[Shim], Awaitable[Result]]
    ) -> list[tuple[Shim, Result]]:
        limit = asyncio.Semaphore(STATES_AT_ONCE)

        async def one(shim: Shim) -> tuple[Shim, Result] | None:
            async with limit:
                try:
                    return shim, await ask(shim)
                except NotFound:
                    return None
                except BarqueError as error:
                    log.warning("task %s/%s: %s", shim.namespace, shim.id, error)
                    return None

        return [found for found in await asyncio.gather(*map(one, shims)) if found is not None]


async def _stats_soon(shim: Shim) -> AnyMessage:
    try:
        async with asyncio.timeout(STATS_TIMEOUT_S):
            return await shim.stats()
    except TimeoutError:
        raise Timeout(f"shim of task {shim.id} does not tell its metrics") from None


def _decoded(kind: type[Options], options: AnyMessage | None) -> Options:
    """The options of a runc shim; another runtime's own mean nothing here, and say nothing."""
    if options is None or options.type_url.rpartition("/")[2] != kind.DESCRIPTOR.full_name:
        return kind()
    try:
        return kind.FromString(options.value)
    except DecodeError as error:
        raise InvalidArgument(f"malformed {kind.DESCRIPTOR.full_name}") from error


def _spec(container: Container) -> bytes:
    """The container's runtime spec; of one whose sandbox is a task it says so, for its shim."""
    if not container.sandbox:
        return container.spec.value
    try:
        spec = document.parse(container.spec.value)
    except ValueError as error:
        raise InvalidArgument(f"container {container.id}: its spec is no JSON") from error
    if not isinstance(spec, dict):
        raise InvalidArgument(f"container {container.id}: its spec is not a JSON object")
    return in_group(spec, container.sandbox)


def _deleted(id: str, ended: task.DeleteResponse) -> api.DeleteResponse:
    return api.DeleteResponse(
        id=id, pid=ended.pid, exit_status=ended.exit_status, exited_at=ended.exited_at
    )


def _process(shim: Shim, exec_id: str, state: task.StateResponse) -> Process:
    return Process(
        container_id=shim.id,
        id=exec_id or shim.id,
        pid=state.pid,
        status=state.status,
        stdin=state.stdin,
        stdout=state.stdout,
        stderr=state.stderr,
        terminal=state.terminal,
        exit_status=state.exit_status,
        exited_at=state.exited_at,
    )


def _process_field(process: Process) -> Lookup:
    fields = {"id": process.id, "status": Status.Name(process.status).lower()}
    return lambda path: fields.get(".".join(path))


def _shim_field(shim: Shim) -> Lookup:
    fields = {"id": shim.id, "namespace": shim.namespace}
    return lambda path: fields.get(".".join(path))
