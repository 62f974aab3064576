"""What holds a task or a sandbox: the connection to one shim, and what becomes of it.

Every answer comes from the shim: containerd keeps no second copy of what runs.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from google.protobuf.message import DecodeError, Message

from barque.containerd.shims.bundle import Bundle
from barque.containerd.shims.launch import Address
from barque.containerd.shims.links import Link, connect
from barque.containerd.shims.log import ShimLog
from barque.containerd.ttrpc import ConnectionLost, NobodyListens, NotSent
from barque.errors import BarqueError, NotFound, Unavailable

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


class ShimClient(ABC):
    """The client of one shim.

    `fate` is done once its connection was lost: how what a dead shim held ended, when that is
    cleaned up; None when it lives, and is connected to again. It stays pending for a shim that is
    shut down in order.
    """

    holds: ClassVar[str]  # what a shim is asked for here: a word for texts

    def __init__(
        self,
        bundle: Bundle,
        runtime: str,
        connection: Link,
        address: Address,
        log: ShimLog | None,
        service: str,
    ) -> None:
        """`service`: what the shim is asked for, by its full name."""
        self.bundle = bundle
        self.runtime = runtime
        self.connection = connection
        self.address = address
        self.pid = 0  # of the first process, once it is created
        self.adopted = False  # its death will be noticed and cleaned up after
        self.leaving = False  # we end the connection ourselves: its end is no death
        self.fate: asyncio.Future[Exit | None] = asyncio.get_running_loop().create_future()
        self._log = log
        self._service = service

    @property
    def namespace(self) -> str:
        return self.bundle.namespace

    @property
    def id(self) -> str:
        return self.bundle.id

    @abstractmethod
    async def recall(self) -> None:
        """Know the pid of what it holds again. Raises NotFound when it holds nothing of ours."""

    @abstractmethod
    async def probe(self) -> None:
        """Returns when it answers for what it holds; raises NotFound when that is gone."""

    @abstractmethod
    def farewell(self) -> tuple[str, bytes]:
        """The method and payload that tell it to leave."""

    async def reconnect(self) -> bool:
        """After its connection was lost: whether the shim lives, and is connected to again.

        Raises NotFound when it lives and has no such thing.
        """
        for _ in range(RECONNECTIONS):
            try:
                self.connection = await self._connected()
                await self._probe_soon()
                fate, self.fate = self.fate, asyncio.get_running_loop().create_future()
                fate.set_result(None)
                return True
            except NobodyListens:
                return False
            except Unavailable:  # no memory, no descriptors; or it is about to be gone
                await asyncio.sleep(RECONNECT_S)
        return False

    async def _probe_soon(self) -> None:
        try:
            async with asyncio.timeout(STATE_TIMEOUT_S):
                await self.probe()
        except (NotFound, Unavailable):
            raise
        except (BarqueError, TimeoutError):
            pass  # it is there: busy, or stopped

    @property
    def _name(self) -> str:
        return f"shim of {self.holds} {self.id}"

    async def _connected(self) -> Link:
        return await connect(self.address, self._name, self.namespace)

    def leave(self, *, alone: bool = True) -> Coroutine[Any, Any, None]:
        """Tell the shim to leave; what waits until its connection has ended, or for 3 seconds.

        When this returns, the shim is told, whatever becomes of us. Not `alone`: it has other
        tasks, of its group, and will stay for them.
        """
        self.leaving = True
        answer = None
        with suppress(ConnectionLost):
            answer = self.connection.send(self._service, *self.farewell())
        return self._left(answer, alone=alone)

    async def _left(self, answer: asyncio.Future[bytes] | None, *, alone: bool) -> None:
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                if answer is None:
                    raise ConnectionLost(f"connection to {self._name} is closed")
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
        with suppress(BarqueError, TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                self.connection = await self._connected()
                await self.connection.call(self._service, *self.farewell())

    def close(self) -> None:
        """Let go of the shim; it goes on."""
        self.connection.close()
        if self._log is not None:
            self._log.close()

    async def _waited(self, method: str, request: Message, answer: type[Answer]) -> tuple[int, int]:
        """Exit status and time (ns) by an answer that has them, as soon as there is one.

        When the shim dies first, this is how its process was found after the clean-up.
        """
        while True:
            try:
                told: Any = await self._ask(method, request, answer)
                return told.exit_status, told.exited_at.ToNanoseconds()
            except ConnectionLost as error:
                ended = await self._fate(error)
            if ended is not None:
                return ended.status, ended.exited_at_ns

    async def _call(
        self, method: str, request: Message, answer: type[Answer], *, again: bool = False
    ) -> Answer:
        """As `_ask`; NotFound, once it is cleaned up, for what a shim held that died. `again`: it
        may be called twice, where it is not known whether it was."""
        try:
            return await self._ask(method, request, answer)
        except ConnectionLost as error:
            if await self._fate(error) is not None:
                raise NotFound(f"{self.holds} {self.id} not found") from error
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
            raise BarqueError(f"{self._name} gave a malformed answer") from error
