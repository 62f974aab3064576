"""The shims that hold sandboxes: each is followed to its end, which is told once."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.events import Events
from barque.containerd.proto import sandbox_shim_pb2 as api
from barque.containerd.proto.event_types_pb2 import SandboxExit
from barque.containerd.shims.bundle import Bundle, ShimRecord
from barque.containerd.shims.client import SHUTDOWN_TIMEOUT_S, Exit
from barque.containerd.shims.launch import Address, Launcher, Started
from barque.containerd.shims.links import Link
from barque.containerd.shims.log import ShimLog
from barque.containerd.shims.sandbox import SandboxShim
from barque.containerd.shims.supervisor import EXIT_UNKNOWN, Key, Supervisor
from barque.containerd.ttrpc import ConnectionLost
from barque.errors import BarqueError


class SandboxShims(Supervisor[SandboxShim]):
    """The shims of sandboxes, by the sandboxes' ids."""

    holds: ClassVar[str] = "sandbox"

    def __init__(self, directory: Path, launcher: Launcher, events: Events) -> None:
        super().__init__(directory, launcher, events)
        self._following: dict[Key, asyncio.Task[None]] = {}

    async def create(
        self,
        namespace: str,
        runtime: str,
        spec: bytes,
        shim_options: AnyMessage | None,
        request: api.CreateSandboxRequest,
    ) -> SandboxShim:
        """Start a shim and create its sandbox, `request` without its bundle.

        Raises AlreadyExists, and whatever the shim says; then nothing is left.
        """

        async def start(bundle: Bundle, connection: int) -> Started:
            return await self._launcher.start(bundle, runtime, shim_options, connection)

        async def begin(shim: SandboxShim) -> None:
            request.bundle_path = str(shim.bundle.path)
            try:
                await shim.create(request)
            except BarqueError as error:
                text = f"failed to create sandbox {request.sandbox_id}: {error}"
                raise type(error)(text) from error

        key = (namespace, request.sandbox_id)
        return await self._made(self._make(key, runtime, spec, start, begin))

    async def shutdown(self, shim: SandboxShim) -> None:
        """End sandbox and shim; nothing is left, and its exit has been told.

        Carried to its end even when the caller is cancelled.
        """
        await asyncio.shield(self._spawn(self._take_down(shim)))

    async def _take_down(self, shim: SandboxShim) -> None:
        key = (shim.namespace, shim.id)
        try:
            await shim.shutdown()
            with suppress(TimeoutError):
                async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                    await asyncio.shield(shim.connection.lost)
            await self._end_of(key)
            shim.close()
            self._shims.pop(key, None)
            self._end_shim(shim.bundle)
            self._tell_exit(shim.bundle, Exit(shim.pid, EXIT_UNKNOWN, time.time_ns()))
            self._remove(shim.bundle)
        except ConnectionLost:  # it died over it
            shim.close()
            self._shims.pop(key, None)
            await self._bury(shim.bundle, shim.runtime, shim.pid)

    async def _end(self, shim: SandboxShim) -> None:
        await shim.shutdown()

    def _adopt(self, shim: SandboxShim) -> None:
        super()._adopt(shim)
        key = (shim.namespace, shim.id)
        following = asyncio.get_running_loop().create_task(self._see_end(shim))
        self._following[key] = following
        following.add_done_callback(lambda _: self._following.pop(key, None))

    async def _see_end(self, shim: SandboxShim) -> None:
        """Tell how the sandbox ended, when it does; of one whose shim died that is told already."""
        with suppress(BarqueError):  # a shim that does not tell
            status, at_ns = await shim.wait()
            self._tell_exit(shim.bundle, Exit(shim.pid, status, at_ns))

    async def _end_of(self, key: Key) -> None:
        """Returns when `_see_end` has, or soon."""
        following = self._following.pop(key, None)
        if following is not None:
            await asyncio.wait([following], timeout=SHUTDOWN_TIMEOUT_S)
            following.cancel()

    async def close(self) -> None:
        for following in tuple(self._following.values()):
            following.cancel()
        await super().close()

    def _client(
        self, bundle: Bundle, record: ShimRecord, connection: Link, log: ShimLog | None
    ) -> SandboxShim:
        address = Address(record.address, record.version, record.protocol)
        return SandboxShim(bundle, record.runtime, connection, address, log)

    def _tell_exit(self, bundle: Bundle, ended: Exit) -> None:
        """Once, also by several that learn of it, and by another run of ours."""
        if not bundle.mark_exit():
            return
        told = SandboxExit(sandbox_id=bundle.id, exit_status=ended.status)
        told.exited_at.FromNanoseconds(ended.exited_at_ns)
        self._events.publish(bundle.namespace, "/sandboxes/exit", told)
