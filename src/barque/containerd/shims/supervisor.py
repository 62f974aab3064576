"""All shims of one kind: started, found again after a restart, cleaned up after their death.

    absent --create--> starting --(address)--> connected --delete--> leaving --> absent
                                                    `--(connection lost)--> burying --> absent

A shim never depends on this process. Where the state of what it holds is asked for, it is asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from barque.containerd.events import Events
from barque.containerd.shims.bundle import Bundle, ShimRecord, create_bundle, remove_hidden
from barque.containerd.shims.client import SHUTDOWN_TIMEOUT_S, Exit, ShimClient
from barque.containerd.shims.launch import OURS, Address, Launcher, Started
from barque.containerd.shims.links import Link, connect
from barque.containerd.shims.log import ShimLog
from barque.containerd.ttrpc import ConnectionLost, NobodyListens, over
from barque.errors import AlreadyExists, BarqueError, NotFound

EXIT_UNKNOWN = 255  # containerd's word for what ended and nobody has seen it
LOADS_AT_ONCE = 16
HALF_STARTED_S = 0.2
LAST_WORDS_BYTES = 2048
TIDY_S = 0.05

log = logging.getLogger(__name__)

Key = tuple[str, str]
Result = TypeVar("Result")
Held = TypeVar("Held", bound=ShimClient)
Start = Callable[[Bundle, int], Coroutine[Any, Any, Started]]
Begin = Callable[[Held], Coroutine[Any, Any, None]]


class Supervisor(ABC, Generic[Held]):
    """The shims of every namespace. `directory` holds the bundles, one directory a namespace."""

    holds: ClassVar[str]  # what these shims hold: a word for texts

    def __init__(self, directory: Path, launcher: Launcher, events: Events) -> None:
        self._directory = directory
        self._launcher = launcher
        self._events = events
        self._shims: dict[Key, Held] = {}
        self._reserved: set[Key] = set()  # ids whose bundle is being made or removed
        self._loaded = asyncio.Event()
        self._background: set[asyncio.Task[Any]] = set()
        self._hidden: list[Path] = []  # bundles whose files are to be removed
        self._left: dict[Path, Bundle] = {}  # those that could not even be taken out of sight
        self._closed = False

    # Looking up

    async def get(self, namespace: str, id: str) -> Held:
        """Raises NotFound."""
        if not self._loaded.is_set():
            await self._loaded.wait()
        shim = self._shims.get((namespace, id))
        if shim is None:
            raise NotFound(f"{self.holds} {id} not found")
        return shim

    def knows(self, namespace: str, id: str) -> bool:
        """Whether there is such a one, once `load` has ended."""
        return (namespace, id) in self._shims

    async def all(self) -> list[Held]:
        await self._loaded.wait()
        return list(self._shims.values())

    async def in_namespace(self, namespace: str) -> list[Held]:
        await self._loaded.wait()
        return [shim for (space, _), shim in self._shims.items() if space == namespace]

    async def require_free(self, namespace: str, id: str) -> None:
        """Raises AlreadyExists when `id` is there, or under way."""
        await self._loaded.wait()
        if (namespace, id) in self._shims or (namespace, id) in self._reserved:
            raise AlreadyExists(f"{self.holds} {id}: already exists")

    # What they hold

    @abstractmethod
    def _client(
        self, bundle: Bundle, record: ShimRecord, connection: Link, log: ShimLog | None
    ) -> Held:
        """The client of the shim behind `connection`, which listens where `record` says."""

    @abstractmethod
    async def _take_down(self, shim: Held) -> None:
        """Kill and remove what it holds, and the shim."""

    @abstractmethod
    async def _end(self, shim: Held) -> None:
        """Kill and remove what it holds; the shim stays."""

    @abstractmethod
    def _tell_exit(self, bundle: Bundle, ended: Exit) -> None:
        """Say how it ended, of a shim that died."""

    # The life of one shim

    async def _made(self, work: Coroutine[Any, Any, Held]) -> Held:
        """What `work` makes; taken down as soon as it is there when the caller is cancelled."""
        running = self._spawn(work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not running.cancelled():
                self._spawn(self._abandon(running))
            raise

    async def _make(
        self,
        key: Key,
        runtime: str,
        spec: bytes,
        start: Start,
        begin: Begin[Held],
        sandbox: str = "",
    ) -> Held:
        """A bundle, the shim that `start` gives for it, and in it what `begin` asks of it. `start`
        also gets a connection that it may give to a shim of ours, or -1.

        Raises AlreadyExists, and whatever the shim says; then nothing is left.
        """
        await self.require_free(*key)
        self._launcher.check(runtime)
        async with AsyncExitStack() as undo:
            self._reserved.add(key)
            undo.callback(self._reserved.discard, key)
            self._remove_left(self._path(*key))
            bundle = create_bundle(self._path(*key), *key, spec, runtime)
            undo.push_async_callback(self._discard, bundle, runtime)
            if runtime == OURS and not sandbox:
                shim = await self._begin_at_once(bundle, start, begin, undo)
            else:
                shim = await self._begin(bundle, runtime, start, begin, sandbox, undo)
            undo.pop_all()
        self._adopt(shim)
        self._reserved.discard(key)
        return shim

    async def _begin(
        self,
        bundle: Bundle,
        runtime: str,
        start: Start,
        begin: Begin[Held],
        sandbox: str,
        undo: AsyncExitStack,
    ) -> Held:
        shim_log = None
        if not sandbox:
            shim_log = ShimLog(bundle)
            undo.callback(shim_log.close)
        address = (await start(bundle, -1)).address
        record = record_of(runtime, address, sandbox)
        shim = await self._connect(bundle, record, shim_log)
        undo.push_async_callback(self._shut_down, shim)
        bundle.write_record(record)
        await begin(shim)
        return shim

    async def _begin_at_once(
        self,
        bundle: Bundle,
        start: Start,
        begin: Begin[Held],
        undo: AsyncExitStack,
    ) -> Held:
        """A shim of ours gets its first connection with the order to start, and what it is asked
        for waits for it in there: nobody waits for the one before the other."""
        name = f"shim of {self.holds} {bundle.id}"
        ours, others = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with others:
            starting = self._spawn(start(bundle, others.fileno()))
            shim = self._client(bundle, ShimRecord(OURS, "", 2), await over(ours, name), None)
            undo.callback(shim.close)
            beginning = self._spawn(begin(shim))
            beginning.add_done_callback(_looked_at)
            undo.callback(beginning.cancel)
            started = await starting
        shim.address = started.address
        if not started.connected:  # the shim of its group is there already
            shim.close()
            shim.connection = await connect(shim.address, name, bundle.namespace)
        undo.push_async_callback(self._shut_down, shim)
        if started.connected:
            undo.push_async_callback(self._unmake, shim, beginning)
        bundle.write_record(record_of(OURS, shim.address, ""))
        await (beginning if started.connected else begin(shim))
        return shim

    async def _unmake(self, shim: Held, beginning: asyncio.Task[None]) -> None:
        """What has been begun goes in order, with all that it has outside its bundle."""
        with suppress(BarqueError, TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                await beginning
                await self._end(shim)

    async def _shut_down(self, shim: Held) -> None:
        await self._leave(shim)

    def _leave(self, shim: Held) -> Coroutine[Any, Any, None]:
        """Tell the shim to leave; what waits until it has."""
        group = [other for other in self._shims.values() if other.address == shim.address]
        return shim.leave(alone=group in ([], [shim]))

    async def _abandon(self, work: asyncio.Task[Held]) -> None:
        """Take down what nobody waits for any more."""
        try:
            await self._take_down(await work)
        except BarqueError as error:
            log.info("abandoned %s: %s", self.holds, error)

    # After a restart

    async def load(self) -> None:
        """Find the shims that are there already; clean up after those that are not.

        Every lookup waits for this. Nothing of what runs is touched.
        """
        limit = asyncio.Semaphore(LOADS_AT_ONCE)

        async def load_one(bundle: Bundle) -> None:
            async with limit:
                await self._load(bundle)

        try:
            await asyncio.gather(*map(load_one, self._bundles()))
        finally:
            self._loaded.set()

    def _bundles(self) -> list[Bundle]:
        found = []
        for directory in self._directory.glob("*/*"):
            if directory.name.startswith("."):
                self._hidden.append(directory)
            elif directory.is_dir():
                found.append(Bundle(directory, directory.parent.name, directory.name))
        self._tidy()
        return found

    async def _load(self, bundle: Bundle) -> None:
        record = bundle.record()
        runtime = record.runtime if record is not None else OURS
        try:
            self._adopt(await self._reconnect(bundle, record))
        except NotFound as error:  # killed before its creation, or after its deletion
            log.info("%s %s/%s is half made: %s", self.holds, bundle.namespace, bundle.id, error)
            await self._discard(bundle, runtime)
        except (NobodyListens, ConnectionLost) as error:
            log.warning(
                "%s %s/%s lost its shim: %s", self.holds, bundle.namespace, bundle.id, error
            )
            await self._bury(bundle, runtime, 0)
        except Exception:  # it may live: nothing of it is touched
            log.exception("%s %s/%s is left alone", self.holds, bundle.namespace, bundle.id)

    async def _reconnect(self, bundle: Bundle, record: ShimRecord | None) -> Held:
        """Raises BarqueError when no shim answers for what is in this bundle."""
        address = found_address(bundle, record)
        if address is None:
            await asyncio.sleep(HALF_STARTED_S)  # its start may be going on without us
            address = found_address(bundle, record)
        if record is None or address is None:
            raise NotFound(f"{self.holds} {bundle.id} was not started")
        shim_log = None if record.runtime == OURS or record.sandbox else ShimLog(bundle)
        found = record_of(record.runtime, address, record.sandbox)
        try:
            shim = await self._connect(bundle, found, shim_log)
        except BarqueError:
            if not record.address:  # our last run did not see it start, nor said that it did
                raise NotFound(f"{self.holds} {bundle.id} was not started") from None
            raise
        try:
            await shim.recall()
        except NotFound:
            await self._shut_down(shim)
            raise
        except ConnectionLost:
            shim.close()
            raise
        except BarqueError as error:  # too busy, or stopped: it is there
            log.warning("shim of %s %s/%s: %s", self.holds, bundle.namespace, bundle.id, error)
        return shim

    # After a death

    def _adopt(self, shim: Held) -> None:
        self._shims[shim.namespace, shim.id] = shim
        self._follow(shim)

    def _follow(self, shim: Held) -> None:
        shim.adopted = True
        shim.connection.lost.add_done_callback(lambda _: self._on_lost(shim))

    def _on_lost(self, shim: Held) -> None:
        if not (shim.leaving or self._closed):
            self._spawn(self._mourn(shim))

    async def _mourn(self, shim: Held) -> None:
        """The shim died, unless it answers on another connection: free what it held, then say how
        that ended."""
        key = (shim.namespace, shim.id)
        ended = Exit(shim.pid, EXIT_UNKNOWN, time.time_ns())
        lives = False
        try:
            lives = await shim.reconnect()
            if not lives:
                log.warning("shim of %s %s/%s died", self.holds, *key)
                ended = await self._bury(shim.bundle, shim.runtime, shim.pid)
        except NotFound:  # it was deleted, and the answer lost
            await self._shut_down(shim)
            await self._discard(shim.bundle, shim.runtime)
        finally:
            if lives:
                log.warning("shim of %s %s/%s is connected to again", self.holds, *key)
                self._follow(shim)
            else:
                shim.close()
                if self._shims.get(key) is shim:
                    del self._shims[key]
                shim.fate.set_result(ended)

    async def _bury(self, bundle: Bundle, runtime: str, pid: int) -> Exit:
        """Run `shim delete`, tell the exit, remove the bundle. Goes through all its steps."""
        ended = Exit(pid, EXIT_UNKNOWN, time.time_ns())
        self._end_shim(bundle)
        try:
            answer = await self._launcher.delete(bundle, runtime)
            at_ns = answer.exited_at.ToNanoseconds() or ended.exited_at_ns
            ended = Exit(answer.pid or pid, answer.exit_status, at_ns)
        except BarqueError as error:
            log.error("cleaning up after shim of %s/%s: %s", bundle.namespace, bundle.id, error)
        self._tell_exit(bundle, ended)
        words = last_words(bundle)
        if words:
            log.warning("last words of the shim of %s/%s: %s", bundle.namespace, bundle.id, words)
        self._remove(bundle)
        return ended

    # Ending

    async def close(self) -> None:
        """Let go of all shims; they and what they hold go on."""
        self._closed = True
        for shim in self._shims.values():
            shim.leaving = True
        self._tidy()
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
            self._tidy()
        for shim in self._shims.values():
            shim.close()

    # Inside

    def _path(self, namespace: str, id: str) -> Path:
        return self._directory / namespace / id

    async def _connect(self, bundle: Bundle, record: ShimRecord, shim_log: ShimLog | None) -> Held:
        try:
            address = Address(record.address, record.version, record.protocol)
            name = f"shim of {self.holds} {bundle.id}"
            connection = await connect(address, name, bundle.namespace)
        except BaseException:
            if shim_log is not None:
                shim_log.close()
            raise
        return self._client(bundle, record, connection, shim_log)

    async def _discard(self, bundle: Bundle, runtime: str) -> None:
        """Undo a start, unannounced: what there is of shim and container is killed and freed."""
        self._end_shim(bundle)
        try:
            await self._launcher.delete(bundle, runtime)
        except (BarqueError, OSError) as error:
            log.warning("undoing the start of %s: %s", bundle.id, error)
        self._remove(bundle)

    def _end_shim(self, bundle: Bundle) -> None:
        """End what is there of its shim: one that could not be reached was not told to leave."""
        address = found_address(bundle, None)
        others = [shim for shim in self._shims.values() if shim.bundle is not bundle]
        if all(shim.address != address for shim in others):
            kill_shim(bundle)

    def _remove(self, bundle: Bundle) -> None:
        """Free the bundle's mount and name now, its files in the background."""
        try:
            hidden = bundle.hide()
        except OSError as error:
            log.error("removing bundle %s: %s", bundle.path, error)
            self._left[bundle.path] = bundle
            return
        if hidden is not None:
            self._hidden.append(hidden)
            if len(self._hidden) == 1:
                asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    def _remove_left(self, path: Path) -> None:
        """Once more, where the removal of an earlier bundle has failed: its id is wanted again."""
        if (left := self._left.pop(path, None)) is not None:
            self._remove(left)

    def _tidy(self) -> None:
        """Remove the files of what is gone, a little later: its client has more to ask for now."""
        hidden, self._hidden = self._hidden, []
        if hidden:
            self._spawn(_remove_hidden(hidden))

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run `work` to its end, whatever becomes of its caller."""
        running = asyncio.get_running_loop().create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)
        return running


def record_of(runtime: str, address: Address, sandbox: str) -> ShimRecord:
    return ShimRecord(runtime, address.url, address.version, sandbox, address.protocol)


def _looked_at(beginning: asyncio.Task[None]) -> None:
    """Its failure is nobody's when the start has failed, or the connection was not taken."""
    if not beginning.cancelled():
        beginning.exception()


def found_address(bundle: Bundle, record: ShimRecord | None) -> Address | None:
    """Where the bundle's shim listens: by our record, or by the file that shims write."""
    if record is not None and record.address:
        return Address(record.address, record.version, record.protocol)
    try:
        written = (bundle.path / "address").read_text().strip()
    except OSError:
        return None
    return Address(written, 2) if written else None


def kill_shim(bundle: Bundle) -> None:
    """End the process that works in the bundle as its shim. One of a group may work elsewhere."""
    try:
        pid = int((bundle.path / "shim.pid").read_text())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        if os.path.samefile(f"/proc/{pid}/cwd", bundle.path):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        pass  # it has gone, or is another's by now
    finally:
        os.close(pidfd)


async def _remove_hidden(hidden: list[Path]) -> None:
    await asyncio.to_thread(_remove_all, hidden)


def _remove_all(hidden: list[Path]) -> None:
    for directory in hidden:
        try:
            remove_hidden(directory)
        except OSError as error:
            log.error("removing bundle %s: %s", directory, error)


def last_words(bundle: Bundle) -> str:
    """The end of the log that our shims write in their bundle; a fifo was read as it came."""
    path = bundle.path / "log"
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LAST_WORDS_BYTES))
            return file.read(LAST_WORDS_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
