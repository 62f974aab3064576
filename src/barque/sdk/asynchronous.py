"""The client for asyncio: the same methods, awaited; what iterates there iterates with `async for`.

    async with AsyncClient() as client:
        await client.containers.start("web")
        async for stream, piece in client.containers.output("web", follow=True): ...

A call is the synchronous one in a thread of its own; cancelling it breaks its connection off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from barque.api.versions import DEFAULT_HOST
from barque.client.client import Client
from barque.client.connection import Connection, Tls
from barque.client.containers import Containers
from barque.client.execs import Execs
from barque.client.images import Images
from barque.client.networks import Networks
from barque.client.system import System
from barque.client.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.client.client import Pairs

MOST_THREADS = 1000
P = ParamSpec("P")
R = TypeVar("R")
G = TypeVar("G")
_END: Any = object()


class _Breakable(Client):
    """A client whose calls another thread can end."""

    def __init__(self, host: str, *, version: str, tls: Tls | None, headers: Pairs) -> None:
        super().__init__(host, version=version, tls=tls, headers=headers)
        self._opened: list[Connection] = []

    def _connect(self, *, tunnel: bool) -> Connection:
        connection = super()._connect(tunnel=tunnel)
        self._opened.append(connection)
        return connection

    def release(self, connection: Connection) -> None:
        super().release(connection)
        self._opened = [one for one in self._opened if one.open]

    def break_off(self) -> None:
        for connection in self._opened:
            connection.break_off()


class AsyncClient:
    """As `Client`, for asyncio. For use within one event loop."""

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        *,
        version: str = "",
        tls: Tls | None = None,
        headers: Pairs = (),
    ) -> None:
        def make() -> _Breakable:
            return _Breakable(host, version=version, tls=tls, headers=headers)

        self._make = make
        self._idle: list[_Breakable] = [self._make()]
        self._threads = ThreadPoolExecutor(MOST_THREADS, "barque-client")
        self.containers = AsyncContainers(self, "containers")
        self.execs = AsyncExecs(self, "execs")
        self.images = AsyncImages(self, "images")
        self.networks = AsyncNetworks(self, "networks")
        self.volumes = AsyncVolumes(self, "volumes")
        self.system = AsyncSystem(self, "system")

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for client in self._idle:
            client.close()
        self._idle.clear()
        self._threads.shutdown(wait=False)

    async def call(self, use: Callable[[Client], R]) -> R:
        """`use` with a client of its own, in a thread."""
        client = self._take()
        result = await self._in_thread(client, lambda: use(client))
        self._idle.append(client)
        return result

    async def iterate(self, use: Callable[[Client], Iterator[R]]) -> AsyncIterator[R]:
        """What `use` iterates over, with a client of its own; left early, it is broken off."""
        client = self._take()
        try:
            found = await self._in_thread(client, lambda: iter(use(client)))
            while (item := await self._in_thread(client, lambda: next(found, _END))) is not _END:
                yield item
        except BaseException:
            client.break_off()
            raise
        self._idle.append(client)

    def _take(self) -> _Breakable:
        return self._idle.pop() if self._idle else self._make()

    async def _in_thread(self, client: _Breakable, use: Callable[[], R]) -> R:
        running = asyncio.get_running_loop().run_in_executor(self._threads, use)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            client.break_off()
            with contextlib.suppress(Exception):  # it fails since it was broken off
                await running
            raise


class _Group:
    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client, self._name = client, name


def _awaited(
    method: Callable[Concatenate[G, P], R],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The method of a group, as a coroutine."""

    async def call(self: _Group, /, *arguments: P.args, **named: P.kwargs) -> R:
        return await self._client.call(
            lambda client: method(getattr(client, self._name), *arguments, **named)
        )

    call.__doc__ = method.__doc__
    return call


def _iterated(
    method: Callable[Concatenate[G, P], Iterator[R]],
) -> Callable[Concatenate[Any, P], AsyncIterator[R]]:
    """The method of a group that iterates, for `async for`."""

    def iterate(self: _Group, /, *arguments: P.args, **named: P.kwargs) -> AsyncIterator[R]:
        return self._client.iterate(
            lambda client: method(getattr(client, self._name), *arguments, **named)
        )

    iterate.__doc__ = method.__doc__
    return iterate


class AsyncContainers(_Group):
    create = _awaited(Containers.create)
    list = _awaited(Containers.list)
    inspect = _awaited(Containers.inspect)
    start = _awaited(Containers.start)
    stop = _awaited(Containers.stop)
    restart = _awaited(Containers.restart)
    kill = _awaited(Containers.kill)
    pause = _awaited(Containers.pause)
    unpause = _awaited(Containers.unpause)
    remove = _awaited(Containers.remove)
    rename = _awaited(Containers.rename)
    wait = _awaited(Containers.wait)
    resize = _awaited(Containers.resize)
    checkpoint = _awaited(Containers.checkpoint)
    checkpoints = _awaited(Containers.checkpoints)
    remove_checkpoint = _awaited(Containers.remove_checkpoint)
    top = _awaited(Containers.top)
    prune = _awaited(Containers.prune)
    changes = _awaited(Containers.changes)
    path_stat = _awaited(Containers.path_stat)
    extract = _awaited(Containers.extract)
    run = _awaited(Containers.run)
    commit = _awaited(Containers.commit)
    output = _iterated(Containers.output)
    export = _iterated(Containers.export)


class AsyncExecs(_Group):
    create = _awaited(Execs.create)
    start_detached = _awaited(Execs.start_detached)
    inspect = _awaited(Execs.inspect)
    kill = _awaited(Execs.kill)
    resize = _awaited(Execs.resize)
    run = _awaited(Execs.run)


class AsyncImages(_Group):
    list = _awaited(Images.list)
    inspect = _awaited(Images.inspect)
    tag = _awaited(Images.tag)
    remove = _awaited(Images.remove)
    pull = _iterated(Images.pull)
    import_ = _iterated(Images.import_)
    push = _iterated(Images.push)
    save = _iterated(Images.save)
    history = _awaited(Images.history)
    remote_manifest = _awaited(Images.remote_manifest)
    referrers = _awaited(Images.referrers)
    attestations = _awaited(Images.attestations)
    push_manifest_list = _awaited(Images.push_manifest_list)
    show = _awaited(Images.show)
    diff = _awaited(Images.diff)
    verify = _iterated(Images.verify)
    search = _awaited(Images.search)
    prune = _awaited(Images.prune)


class AsyncNetworks(_Group):
    list = _awaited(Networks.list)
    inspect = _awaited(Networks.inspect)
    create = _awaited(Networks.create)
    remove = _awaited(Networks.remove)
    connect = _awaited(Networks.connect)
    disconnect = _awaited(Networks.disconnect)
    prune = _awaited(Networks.prune)


class AsyncVolumes(_Group):
    list = _awaited(Volumes.list)
    inspect = _awaited(Volumes.inspect)
    create = _awaited(Volumes.create)
    remove = _awaited(Volumes.remove)
    prune = _awaited(Volumes.prune)
    clone = _awaited(Volumes.clone)
    backup = _iterated(Volumes.backup)
    restore = _awaited(Volumes.restore)
    restore_from = _awaited(Volumes.restore_from)


class AsyncSystem(_Group):
    ping = _awaited(System.ping)
    version = _awaited(System.version)
    info = _awaited(System.info)
    auth = _awaited(System.auth)
    doctor = _awaited(System.doctor)
    migrate = _awaited(System.migrate)
    watch = _iterated(System.watch)
