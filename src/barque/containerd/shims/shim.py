"""One live shim: its bundle, its connection, and the Task service behind it.

Source: containerd, api/runtime/task/v2/shim.proto. Every answer comes from the shim: containerd
keeps no second copy of a task's state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.task_types_pb2 import Status
from barque.containerd.shims.bundle import Bundle
from barque.containerd.shims.launch import TASK_SERVICES, Address
from barque.containerd.shims.log import ShimLog
from barque.containerd.ttrpc import Connection, ConnectionLost, NobodyListens, NotSent, connect
from barque.errors import BarqueError, NotFound, Timeout, Unavailable

STATE_TIMEOUT_S = 2.0
SHUTDOWN_TIMEOUT_S = 3.0
RECONNECTIONS = 5
RECONNECT_S = 0.1

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `status`: its exit code, or 128 + signal."""

    pid: int
    status: int
    exited_at_ns: int


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a process's streams are: fifo paths, or URIs that the shim knows."""

    stdin: str
    stdout: str
    stderr: str
    terminal: bool


class Shim:
    """The client of one shim.

    `fate` is done once its connection was lost: how the task of a dead shim ended, when that is
    cleaned up; None when it lives, and is connected to again. It stays pending for a shim that is
    shut down in order.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: str,
        connection: Connection,
        address: Address,
        log: ShimLog | None,
    ) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self.connection = connection
        self.pid = 0  # of the task's first process, once it is created
        self.adopted = False  # its death will be noticed and cleaned up after
        self.leaving = False  # we end the connection ourselves: its end is no death
        self.fate: asyncio.Future[Exit | None] = asyncio.get_running_loop().create_future()
        self._log = log
        self.address = address
        self._service = TASK_SERVICES[address.version]

    @property
    def namespace(self) -> str:
        return self.bundle.namespace

    @property
    def id(self) -> str:
        return self.bundle.id

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
        """Exit status and time (ns) of a process, as soon as it has ended.

        When the shim dies first, this is how its task was found after the clean-up.
        """
        request = task.WaitRequest(id=self.id, exec_id=exec_id)
        while True:
            try:
                answer = await self._ask("Wait", request, task.WaitResponse)
                break
            except ConnectionLost as error:
                ended = await self._fate(error)
            if ended is not None:
                return ended.status, ended.exited_at_ns
        return answer.exit_status, answer.exited_at.ToNanoseconds()

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

    async def reconnect(self) -> bool:
        """After its connection was lost: whether the shim lives, and is connected to again.

        Raises NotFound when it lives and has no such task.
        """
        for _ in range(RECONNECTIONS):
            try:
                self.connection = await self._connected()
                if await self._has_task():
                    fate, self.fate = self.fate, asyncio.get_running_loop().create_future()
                    fate.set_result(None)
                    return True
            except NobodyListens:
                return False
            except Unavailable:  # no memory, no descriptors; or it is about to be gone
                await asyncio.sleep(RECONNECT_S)
        return False

    async def _has_task(self) -> bool:
        request = task.StateRequest(id=self.id)
        try:
            async with asyncio.timeout(STATE_TIMEOUT_S):
                await self._ask("State", request, task.StateResponse)
        except (NotFound, Unavailable):
            raise
        except (BarqueError, TimeoutError):
            pass  # it is there: busy, or stopped
        return True

    async def _connected(self) -> Connection:
        return await connect(self.address.url, f"shim of task {self.id}")

    def leave(self, *, alone: bool = True) -> Coroutine[Any, Any, None]:
        """Tell the shim to leave; what waits until its connection has ended, or for 3 seconds.

        When this returns, the shim is told, whatever becomes of us. Not `alone`: it has other
        tasks, of its group, and will stay for them.
        """
        self.leaving = True
        payload = task.ShutdownRequest(id=self.id).SerializeToString()
        answer = None
        with suppress(ConnectionLost):
            answer = self.connection.send(self._service, "Shutdown", payload)
        return self._left(answer, alone=alone)

    async def _left(self, answer: asyncio.Future[bytes] | None, *, alone: bool) -> None:
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                if answer is None:
                    raise ConnectionLost(f"connection to shim of task {self.id} is closed")
                await answer
                if alone:
                    await asyncio.shield(self.connection.lost)
        except ConnectionLost:
            await self._tell_to_leave()
        except (TimeoutError, NotFound):
            pass
        self.close()

    async def _tell_to_leave(self) -> None:
        """Once more: when the connection was lost it may not have heard."""
        payload = task.ShutdownRequest(id=self.id).SerializeToString()
        with suppress(BarqueError, TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                self.connection = await self._connected()
                await self.connection.call(self._service, "Shutdown", payload)

    def close(self) -> None:
        """Let go of the shim; it goes on."""
        self.connection.close()
        if self._log is not None:
            self._log.close()

    async def _call(
        self, method: str, request: Message, answer: type[Answer], *, again: bool = False
    ) -> Answer:
        """As `_ask`; NotFound, once it is cleaned up, for the task of a shim that died. `again`: it
        may be called twice, where it is not known whether it was."""
        try:
            return await self._ask(method, request, answer)
        except ConnectionLost as error:
            if await self._fate(error) is not None:
                raise NotFound(f"task {self.id} not found") from error
            if not (again or isinstance(error, NotSent)):
                raise
        return await self._call(method, request, answer, again=again)

    async def _fate(self, error: ConnectionLost) -> Exit | None:
        """See `fate`; raises `error` when nobody will see to it."""
        if self.leaving or not self.adopted:
            raise error
        return await asyncio.shield(self.fate)

    async def _ask(self, method: str, request: Message, answer: type[Answer]) -> Answer:
        payload = await self.connection.call(self._service, method, request.SerializeToString())
        try:
            return answer.FromString(payload)
        except DecodeError as error:
            raise BarqueError(f"shim of task {self.id} gave a malformed answer") from error
