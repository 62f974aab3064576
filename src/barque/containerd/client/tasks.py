"""Tasks: the processes of containers, as the daemon drives them.

Source: containerd, api/services/tasks/v1/tasks.proto. Errors are kinds of `barque.errors` with the
runtime's own words; NotFound for a task or process that is not there, Conflict where its state does
not allow the call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from barque.containerd.client import descriptors
from barque.containerd.client.channel import Channel
from barque.containerd.client.descriptors import Descriptor
from barque.containerd.client.mounts import Mount, to_message
from barque.containerd.proto import tasks_pb2 as api
from barque.containerd.proto.runc_options_pb2 import CheckpointOptions, Options
from barque.containerd.proto.task_types_pb2 import Process, Status
from barque.errors import BarqueError, NotFound

SERVICE = "containerd.services.tasks.v1.Tasks"
SPEC_TYPES = "types.containerd.io/opencontainers/runtime-spec/1/"

Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdio:
    """Where a process's streams go: fifo paths or URIs that the runtime's shim knows.

    For io.containerd.barque.v2: docs/boundaries.md sections 3 and 4.
    """

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """How the shim calls the OCI runtime: containerd.runc.v1.Options; empty: its defaults."""

    binary_name: str = ""
    root: str = ""
    systemd_cgroup: bool = False
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    io_uid: int = 0  # whom the pipes belong to
    io_gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended: its exit code, or 128 + signal."""

    code: int
    exited_at_ns: int
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A process as its shim sees it: created, running, stopped, paused, pausing or unknown."""

    id: str
    pid: int
    status: str
    stdio: Stdio
    exit: Exit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What the cgroup counts. `version` 1 or 2 says which of containerd's Metrics messages `values`
    is, with the message's own field names."""

    id: str
    timestamp_ns: int
    version: int
    values: Mapping[str, Any]


class Tasks:
    """The Tasks service of one containerd, in one namespace. `exec_id` "" is the task itself."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def create(
        self,
        id: str,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        options: RuntimeOptions | None = None,
        checkpoint: Descriptor | None = None,
    ) -> int:
        """Create the task of container `id`; its first process's id. It is not started.

        `rootfs` is mounted by the shim; without any, the spec's root is used as it is. Runtime and
        spec are those of the container's record. A start restores what a `checkpoint` holds.
        """
        request = api.CreateTaskRequest(
            container_id=id,
            rootfs=[to_message(mount) for mount in rootfs],
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
        )
        if options is not None:
            request.options.CopyFrom(packed(options))
        if checkpoint is not None:
            request.checkpoint.CopyFrom(descriptors.to_message(checkpoint))
        return (await self._call("Create", request, api.CreateTaskResponse)).pid

    async def start(self, id: str, exec_id: str = "") -> int:
        """Start a created process; its id."""
        request = api.StartRequest(container_id=id, exec_id=exec_id)
        return (await self._call("Start", request, api.StartResponse)).pid

    async def exec(self, id: str, exec_id: str, process: Mapping[str, Any], stdio: Stdio) -> None:
        """Add a process to a running task. `process` is the runtime-spec's. `start` starts it."""
        spec = AnyMessage(type_url=f"{SPEC_TYPES}Process", value=json.dumps(process).encode())
        request = api.ExecProcessRequest(
            container_id=id,
            exec_id=exec_id,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            spec=spec,
        )
        await self._call("Exec", request, Empty)

    async def kill(
        self, id: str, signal: int, exec_id: str = "", *, everyone: bool = False
    ) -> None:
        """Signal a process, or with `everyone` all of the task's. NotFound once it has ended."""
        request = api.KillRequest(container_id=id, exec_id=exec_id, signal=signal, all=everyone)
        await self._call("Kill", request, Empty)

    async def wait(self, id: str, exec_id: str = "") -> Exit:
        """Returns when the process has ended, at once if it had before."""
        request = api.WaitRequest(container_id=id, exec_id=exec_id)
        answer = await self._call("Wait", request, api.WaitResponse)
        return Exit(code=answer.exit_status, exited_at_ns=answer.exited_at.ToNanoseconds())

    async def delete(self, id: str, exec_id: str = "") -> Exit:
        """Free what an ended process holds; how it ended. Conflict while it runs."""
        if exec_id:
            process = api.DeleteProcessRequest(container_id=id, exec_id=exec_id)
            answer = await self._call("DeleteProcess", process, api.DeleteResponse)
        else:
            task = api.DeleteTaskRequest(container_id=id)
            answer = await self._call("Delete", task, api.DeleteResponse)
        at_ns = answer.exited_at.ToNanoseconds()
        return Exit(code=answer.exit_status, exited_at_ns=at_ns, pid=answer.pid)

    async def pause(self, id: str) -> None:
        await self._call("Pause", api.PauseTaskRequest(container_id=id), Empty)

    async def resume(self, id: str) -> None:
        await self._call("Resume", api.ResumeTaskRequest(container_id=id), Empty)

    async def checkpoint(self, id: str, *, end: bool) -> Sequence[Descriptor]:
        """What criu saves of the task, as content: its images, and the spec. `end`: it is killed.

        Only the caller's lease holds them.
        """
        options = typed(CheckpointOptions(exit=end))
        request = api.CheckpointTaskRequest(container_id=id, options=options)
        answer = await self._call("Checkpoint", request, api.CheckpointTaskResponse)
        return [descriptors.from_message(message) for message in answer.descriptors]

    async def resize(self, id: str, width: int, height: int, exec_id: str = "") -> None:
        request = api.ResizePtyRequest(container_id=id, exec_id=exec_id, width=width, height=height)
        await self._call("ResizePty", request, Empty)

    async def close_io(self, id: str, exec_id: str = "") -> None:
        """Close the process's stdin (of a fifo: the shim's end of it)."""
        request = api.CloseIORequest(container_id=id, exec_id=exec_id, stdin=True)
        await self._call("CloseIO", request, Empty)

    async def pids(self, id: str) -> list[int]:
        """Every process in the task's cgroup."""
        request = api.ListPidsRequest(container_id=id)
        answer = await self._call("ListPids", request, api.ListPidsResponse)
        return [process.pid for process in answer.processes]

    async def get(self, id: str, exec_id: str = "") -> Task:
        request = api.GetRequest(container_id=id, exec_id=exec_id)
        return _task((await self._call("Get", request, api.GetResponse)).process)

    async def list(self) -> list[Task]:
        """Every task of the namespace."""
        answer = await self._call("List", api.ListTasksRequest(), api.ListTasksResponse)
        return [_task(process) for process in answer.tasks]

    async def update(self, id: str, resources: Mapping[str, Any]) -> None:
        """Set limits of a task. `resources` is the runtime-spec's linux.resources."""
        spec = AnyMessage(
            type_url=f"{SPEC_TYPES}LinuxResources", value=json.dumps(resources).encode()
        )
        await self._call("Update", api.UpdateTaskRequest(container_id=id, resources=spec), Empty)

    async def metrics(self, id: str) -> Metrics:
        """Raises NotFound when the task is not there or its shim tells nothing."""
        request = api.MetricsRequest(filters=[f"id=={json.dumps(id)}"])
        answer = await self._call("Metrics", request, api.MetricsResponse)
        if not answer.metrics:
            raise NotFound(f"task {id} not found")
        metric = answer.metrics[0]
        version, message = _decoded(metric.data)
        return Metrics(
            id=metric.id,
            timestamp_ns=metric.timestamp.ToNanoseconds(),
            version=version,
            values=MessageToDict(message, preserving_proto_field_name=True),
        )

    async def _call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        return await self._channel.unary(SERVICE, method, request, reply)


def packed(options: RuntimeOptions) -> AnyMessage:
    """`options` as shims take them."""
    message = Options(
        binary_name=options.binary_name,
        root=options.root,
        systemd_cgroup=options.systemd_cgroup,
        no_pivot_root=options.no_pivot_root,
        no_new_keyring=options.no_new_keyring,
        io_uid=options.io_uid,
        io_gid=options.io_gid,
    )
    return typed(message)


def typed(message: Message) -> AnyMessage:
    """With the type's bare name, as containerd's typeurl writes it."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def _task(process: Process) -> Task:
    status = Status.Name(process.status).lower()
    ended = Exit(
        code=process.exit_status, exited_at_ns=process.exited_at.ToNanoseconds(), pid=process.pid
    )
    return Task(
        id=process.id,
        pid=process.pid,
        status=status,
        stdio=Stdio(
            stdin=process.stdin,
            stdout=process.stdout,
            stderr=process.stderr,
            terminal=process.terminal,
        ),
        exit=ended if status == "stopped" else None,
    )


def _decoded(data: AnyMessage) -> tuple[int, Message]:
    """cgroup version and message of a metric. The modules are large, so they are loaded late."""
    name = data.type_url.rpartition("/")[2]
    if name == "io.containerd.cgroups.v1.Metrics":
        from barque.containerd.proto import cgroups_v1_pb2

        return 1, cgroups_v1_pb2.Metrics.FromString(data.value)
    if name == "io.containerd.cgroups.v2.Metrics":
        from barque.containerd.proto import cgroups_v2_pb2

        return 2, cgroups_v2_pb2.Metrics.FromString(data.value)
    raise BarqueError(f"metrics of unknown type {name!r}")
