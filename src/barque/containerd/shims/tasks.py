"""The shims that hold tasks: one each, one a group, or that of a sandbox."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import ClassVar

from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.event_types_pb2 import TaskDelete, TaskExit
from barque.containerd.shims.bundle import Bundle, ShimRecord
from barque.containerd.shims.client import Exit
from barque.containerd.shims.launch import OURS, Address, Started
from barque.containerd.shims.links import Link
from barque.containerd.shims.log import ShimLog
from barque.containerd.shims.sandbox import SandboxShim
from barque.containerd.shims.shim import Shim
from barque.containerd.shims.supervisor import Supervisor
from barque.errors import BarqueError, NotFound


class Shims(Supervisor[Shim]):
    """The shims of tasks, by the tasks' ids."""

    holds: ClassVar[str] = "task"

    async def create(
        self,
        namespace: str,
        runtime: str,
        spec: bytes,
        shim_options: AnyMessage | None,
        request: task.CreateTaskRequest,
        sandbox: SandboxShim | None = None,
    ) -> Shim:
        """Start a shim, or take the sandbox's, and create its task, `request` without its bundle.

        Raises AlreadyExists for a task that is there, and whatever the shim says; then nothing is
        left. When the caller is cancelled the task is taken down as soon as it is there.
        """

        async def start(bundle: Bundle, connection: int) -> Started:
            if sandbox is not None:
                return Started(sandbox.address)
            return await self._launcher.start(bundle, runtime, shim_options, connection)

        async def begin(shim: Shim) -> None:
            request.bundle = str(shim.bundle.path)
            try:
                await shim.create(request)
            except BarqueError as error:
                raise type(error)(f"failed to create shim task: {error}") from error

        key = (namespace, request.id)
        holder = sandbox.id if sandbox is not None else ""
        return await self._made(self._make(key, runtime, spec, start, begin, holder))

    async def delete(self, shim: Shim) -> task.DeleteResponse:
        """Delete a task that has ended, its shim and its bundle; how it ended.

        Raises Conflict while it runs. Carried to its end even when the caller is cancelled.
        """
        return await asyncio.shield(self._spawn(self._delete(shim)))

    async def _delete(self, shim: Shim) -> task.DeleteResponse:
        answer = await shim.delete()
        key = (shim.namespace, shim.id)
        self._reserved.add(key)
        self._shims.pop(key, None)
        try:
            if shim.sandbox:
                await self._shut_down(shim)
            else:
                left = self._spawn(self._leave(shim))
                if shim.runtime != OURS:  # others' may still use the bundle
                    await left
            self._remove(shim.bundle)
        finally:
            self._reserved.discard(key)
        return answer

    async def remove_of_sandbox(self, namespace: str, sandbox: str) -> None:
        """Take down every task that is in the sandbox's shim."""
        for shim in await self.in_namespace(namespace):
            if shim.sandbox == sandbox:
                with suppress(NotFound):  # it has just been deleted
                    await self._take_down(shim)

    async def _take_down(self, shim: Shim) -> None:
        await self._kill(shim)
        await self._delete(shim)

    async def _end(self, shim: Shim) -> None:
        await self._kill(shim)
        await shim.delete()

    async def _kill(self, shim: Shim) -> None:
        with suppress(NotFound):  # it has ended
            await shim.kill("", signal.SIGKILL, everyone=True)
        await shim.wait("")

    async def _shut_down(self, shim: Shim) -> None:
        if shim.sandbox:  # its shim stays
            shim.leaving = True
            shim.close()
        else:
            await super()._shut_down(shim)

    def _client(
        self, bundle: Bundle, record: ShimRecord, connection: Link, log: ShimLog | None
    ) -> Shim:
        address = Address(record.address, record.version, record.protocol)
        return Shim(bundle, record.runtime, connection, address, log, record.sandbox)

    def _tell_exit(self, bundle: Bundle, ended: Exit) -> None:
        exit_event = TaskExit(
            container_id=bundle.id, id=bundle.id, pid=ended.pid, exit_status=ended.status
        )
        exit_event.exited_at.FromNanoseconds(ended.exited_at_ns)
        self._events.publish(bundle.namespace, "/tasks/exit", exit_event)
        delete_event = TaskDelete(container_id=bundle.id, pid=ended.pid, exit_status=ended.status)
        delete_event.exited_at.FromNanoseconds(ended.exited_at_ns)
        self._events.publish(bundle.namespace, "/tasks/delete", delete_event)
