"""One live shim of a task: the Task service behind its connection.

Source: containerd, api/runtime/task/v2/shim.proto.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.task_types_pb2 import Status
from barque.containerd.shims.bundle import Bundle
from barque.containerd.shims.client import STATE_TIMEOUT_S, Exit, ShimClient
from barque.containerd.shims.launch import TASK_SERVICES, Address
from barque.containerd.shims.links import Link
from barque.containerd.shims.log import ShimLog
from barque.containerd.ttrpc import ConnectionLost
from barque.errors import NotFound, Timeout

__all__ = ["Exit", "Shim", "Stdio"]


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a process's streams are: fifo paths, or URIs that the shim knows."""

    stdin: str
    stdout: str
    stderr: str
    terminal: bool


class Shim(ShimClient):
    """The client of one shim for one of its tasks."""

    holds: ClassVar[str] = "task"

    def __init__(
        self,
        bundle: Bundle,
        runtime: str,
        connection: Link,
        address: Address,
        log: ShimLog | None,
        sandbox: str = "",
    ) -> None:
        """`sandbox`: whose shim it is; then the task's end is not the shim's."""
        super().__init__(bundle, runtime, connection, address, log, TASK_SERVICES[address.version])
        self.sandbox = sandbox

    async def recall(self) -> None:
        self.pid = (await self.state()).pid

    async def probe(self) -> None:
        await self._ask("State", task.StateRequest(id=self.id), task.StateResponse)

    def farewell(self) -> tuple[str, bytes]:
        return "Shutdown", task.ShutdownRequest(id=self.id).SerializeToString()

    async def create(self, request: task.CreateTaskRequest) -> int:
        """Create the task; its first process's id. It is not started."""
        answer = await self._call("Create", request, task.CreateTaskResponse)
        self.pid = answer.pid
        return self.pid

    async def start(self, exec_id: str) -> int:
        request = task.StartRequest(id=self.id, exec_id=exec_id)
        try:
            return (await self._call("Start", request, task.StartResponse)).pid
        except ConnectionLost:  # only the answer, perhaps
            state = await self.state(exec_id)
            if state.status == Status.CREATED:
                raise
            return state.pid

    async def state(self, exec_id: str = "") -> task.StateResponse:
        """Raises NotFound when there is no such process, Timeout when the shim hangs."""
        request = task.StateRequest(id=self.id, exec_id=exec_id)
        try:
            async with asyncio.timeout(STATE_TIMEOUT_S):
                return await self._call("State", request, task.StateResponse, again=True)
        except TimeoutError as error:
            raise Timeout(f"shim of task {self.id} does not tell its state") from error

    async def exec(self, exec_id: str, stdio: Stdio, spec: AnyMessage) -> None:
        request = task.ExecProcessRequest(
            id=self.id,
            exec_id=exec_id,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            spec=spec,
        )
        try:
            await self._call("Exec", request, Empty)
        except ConnectionLost as error:  # only the answer, perhaps
            try:
                await self.state(exec_id)
            except NotFound:
                raise error from None

    async def kill(self, exec_id: str, signal: int, everyone: bool) -> None:
        request = task.KillRequest(id=self.id, exec_id=exec_id, signal=signal, all=everyone)
        await self._call("Kill", request, Empty)

    async def wait(self, exec_id: str) -> tuple[int, int]:
        """Exit status and time (ns) of a process, as soon as it has ended."""
        request = task.WaitRequest(id=self.id, exec_id=exec_id)
        return await self._waited("Wait", request, task.WaitResponse)

    async def delete(self, exec_id: str = "") -> task.DeleteResponse:
        """Free a process that has ended. Raises Conflict while it runs."""
        request = task.DeleteRequest(id=self.id, exec_id=exec_id)
        return await self._call("Delete", request, task.DeleteResponse)

    async def pause(self) -> None:
        await self._call("Pause", task.PauseRequest(id=self.id), Empty)

    async def resume(self) -> None:
        await self._call("Resume", task.ResumeRequest(id=self.id), Empty)

    async def checkpoint(self, path: str, options: AnyMessage | None) -> None:
        """Save the task's processes as criu's images in the directory `path`."""
        request = task.CheckpointTaskRequest(id=self.id, path=path, options=options)
        await self._call("Checkpoint", request, Empty)

    async def resize(self, exec_id: str, width: int, height: int) -> None:
        request = task.ResizePtyRequest(id=self.id, exec_id=exec_id, width=width, height=height)
        await self._call("ResizePty", request, Empty)

    async def close_stdin(self, exec_id: str) -> None:
        request = task.CloseIORequest(id=self.id, exec_id=exec_id, stdin=True)
        await self._call("CloseIO", request, Empty)

    async def pids(self) -> task.PidsResponse:
        request = task.PidsRequest(id=self.id)
        return await self._call("Pids", request, task.PidsResponse, again=True)

    async def update(self, request: task.UpdateTaskRequest) -> None:
        await self._call("Update", request, Empty)

    async def stats(self) -> AnyMessage:
        request = task.StatsRequest(id=self.id)
        return (await self._call("Stats", request, task.StatsResponse, again=True)).stats

    async def connect(self) -> task.ConnectResponse:
        request = task.ConnectRequest(id=self.id)
        return await self._call("Connect", request, task.ConnectResponse, again=True)
