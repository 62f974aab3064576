"""All shims of one containerd: started, found again after a restart, cleaned up after their death.

    absent --create--> starting --(address)--> connected --delete--> leaving --> absent
                                                    `--(connection lost)--> burying --> absent

A shim never depends on this process. Where a task's state is asked for, the shim is asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.events import Events
from barque.containerd.proto import shim_pb2 as task
from barque.containerd.proto.event_types_pb2 import TaskDelete, TaskExit
from barque.containerd.shims.bundle import Bundle, ShimRecord, create_bundle, remove_hidden
from barque.containerd.shims.launch import OURS, Address, Launcher
from barque.containerd.shims.log import ShimLog
from barque.containerd.shims.shim import Exit, Shim
from barque.containerd.ttrpc import ConnectionLost, NobodyListens, connect
from barque.errors import AlreadyExists, BarqueError, NotFound

EXIT_UNKNOWN = 255  # containerd's word for a task whose end nobody has seen
LOADS_AT_ONCE = 16
HALF_STARTED_S = 0.2
LAST_WORDS_BYTES = 2048
TIDY_S = 0.05

log = logging.getLogger(__name__)

Key = tuple[str, str]
Result = TypeVar("Result")


class Shims:
    """The shims of every namespace. `directory` holds the bundles, one directory a namespace."""

    def __init__(self, directory: Path, launcher: Launcher, events: Events) -> None:
        self._directory = directory
        self._launcher = launcher
        self._events = events
        self._shims: dict[Key, Shim] = {}
        self._reserved: set[Key] = set()  # ids whose bundle is being made or removed
        self._loaded = asyncio.Event()
        self._background: set[asyncio.Task[Any]] = set()
        self._hidden: list[Path] = []  # bundles whose files are to be removed
        self._left: dict[Path, Bundle] = {}  # those that could not even be taken out of sight
        self._closed = False

    # Looking up

    async def get(self, namespace: str, id: str) -> Shim:
        """Raises NotFound."""
        if not self._loaded.is_set():
            await self._loaded.wait()
        shim = self._shims.get((namespace, id))
        if shim is None:
            raise NotFound(f"task {id} not found")
        return shim

    def knows(self, namespace: str, id: str) -> bool:
        """Whether there is such a task, once `load` has ended."""
        return (namespace, id) in self._shims

    async def all(self) -> list[Shim]:
        await self._loaded.wait()
        return list(self._shims.values())

    async def in_namespace(self, namespace: str) -> list[Shim]:
        await self._loaded.wait()
        return [shim for (space, _), shim in self._shims.items() if space == namespace]

    async def require_free(self, namespace: str, id: str) -> None:
        """Raises AlreadyExists when there is a task `id`, or one under way."""
        await self._loaded.wait()
        if (namespace, id) in self._shims or (namespace, id) in self._reserved:
            raise AlreadyExists(f"task {id}: already exists")

    # The life of one shim

    async def create(
        self,
        namespace: str,
        runtime: str,
        spec: bytes,
        shim_options: AnyMessage | None,
        request: task.CreateTaskRequest,
    ) -> Shim:
        """Start a shim and create its task, `request` without its bundle.

        Raises AlreadyExists for a task that is there, and whatever the shim says; then nothing is
        left. When the caller is cancelled the task is taken down as soon as it is there.
        """
        work = self._spawn(self._create(namespace, runtime, spec, shim_options, request))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.cancelled():
                self._spawn(self._abandon(work))
            raise

    async def _create(
        self,
        namespace: str,
        runtime: str,
        spec: bytes,
        shim_options: AnyMessage | None,
        request: task.CreateTaskRequest,
    ) -> Shim:
        key = (namespace, request.id)
        await self.require_free(*key)
        self._launcher.check(runtime)
        async with AsyncExitStack() as undo:
            self._reserved.add(key)
            undo.callback(self._reserved.discard, key)
            self._remove_left(self._path(*key))
            bundle = create_bundle(self._path(*key), namespace, request.id, spec, runtime)
            undo.push_async_callback(self._discard, bundle, runtime)
            shim_log = None
            if runtime != OURS:
                shim_log = ShimLog(bundle)
                undo.callback(shim_log.close)
            address = await self._launcher.start(bundle, runtime, shim_options)
            shim = await self._connect(bundle, runtime, address, shim_log)
            undo.push_async_callback(self._shut_down, shim)
            bundle.write_record(ShimRecord(runtime, address.url, address.version))
            request.bundle = str(bundle.path)
            try:
                await shim.create(request)
            except BarqueError as error:
                raise type(error)(f"failed to create shim task: {error}") from error
            undo.pop_all()
        self._adopt(shim)
        self._reserved.discard(key)
        return shim

    async def _shut_down(self, shim: Shim) -> None:
        await self._leave(shim)

    def _leave(self, shim: Shim) -> Coroutine[Any, Any, None]:
        """Tell the shim to leave; what waits until it has."""
        group = [other for other in self._shims.values() if other.address == shim.address]
        return shim.leave(alone=group in ([], [shim]))

    async def _abandon(self, work: asyncio.Task[Shim]) -> None:
        """Take down a task that nobody waits for any more."""
        try:
            shim = await work
            await shim.kill("", signal.SIGKILL, everyone=True)
            await shim.wait("")
            await self._delete(shim)
        except BarqueError as error:
            log.info("abandoned task: %s", error)

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
            left = self._spawn(self._leave(shim))
            if shim.runtime != OURS:  # others' may still use the bundle
                await left
            self._remove(shim.bundle)
        finally:
            self._reserved.discard(key)
        return answer

    # After a restart

    async def load(self) -> None:
        """Find the shims that are there already; clean up after those that are not.

        Every lookup waits for this. Nothing of a running task is touched.
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
            log.info("task %s/%s is half made: %s", bundle.namespace, bundle.id, error)
            await self._discard(bundle, runtime)
        except (NobodyListens, ConnectionLost) as error:
            log.warning("task %s/%s lost its shim: %s", bundle.namespace, bundle.id, error)
            await self._bury(bundle, runtime, 0)
        except Exception:  # it may live: nothing of it is touched
            log.exception("task %s/%s is left alone", bundle.namespace, bundle.id)

    async def _reconnect(self, bundle: Bundle, record: ShimRecord | None) -> Shim:
        """Raises BarqueError when no shim with a task answers for this bundle."""
        address = found_address(bundle, record)
        if address is None:
            await asyncio.sleep(HALF_STARTED_S)  # its start may be going on without us
            address = found_address(bundle, record)
        if record is None or address is None:
            raise NotFound(f"task {bundle.id} was not started")
        shim_log = None if record.runtime == OURS else ShimLog(bundle)
        try:
            shim = await self._connect(bundle, record.runtime, address, shim_log)
        except BarqueError:
            if not record.address:  # our last run did not see it start, so it had no task
                raise NotFound(f"task {bundle.id} was not started") from None
            raise
        try:
            shim.pid = (await shim.state()).pid
        except NotFound:
            await self._shut_down(shim)
            raise
        except ConnectionLost:
            shim.close()
            raise
        except BarqueError as error:  # too busy, or stopped: it is there
            log.warning("shim of task %s/%s: %s", bundle.namespace, bundle.id, error)
        return shim

    # After a death

    def _adopt(self, shim: Shim) -> None:
        self._shims[shim.namespace, shim.id] = shim
        self._follow(shim)

    def _follow(self, shim: Shim) -> None:
        shim.adopted = True
        shim.connection.lost.add_done_callback(lambda _: self._on_lost(shim))

    def _on_lost(self, shim: Shim) -> None:
        if not (shim.leaving or self._closed):
            self._spawn(self._mourn(shim))

    async def _mourn(self, shim: Shim) -> None:
        """The shim died, unless it answers on another connection: free what it held, then say how
        its task ended."""
        key = (shim.namespace, shim.id)
        ended = Exit(shim.pid, EXIT_UNKNOWN, time.time_ns())
        lives = False
        try:
            lives = await shim.reconnect()
            if not lives:
                log.warning("shim of task %s/%s died", *key)
                ended = await self._bury(shim.bundle, shim.runtime, shim.pid)
        except NotFound:  # it was deleted, and the answer lost
            await self._shut_down(shim)
            await self._discard(shim.bundle, shim.runtime)
        finally:
            if lives:
                log.warning("shim of task %s/%s is connected to again", *key)
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

    def _tell_exit(self, bundle: Bundle, ended: Exit) -> None:
        exit_event = TaskExit(
            container_id=bundle.id, id=bundle.id, pid=ended.pid, exit_status=ended.status
        )
        exit_event.exited_at.FromNanoseconds(ended.exited_at_ns)
        self._events.publish(bundle.namespace, "/tasks/exit", exit_event)
        delete_event = TaskDelete(container_id=bundle.id, pid=ended.pid, exit_status=ended.status)
        delete_event.exited_at.FromNanoseconds(ended.exited_at_ns)
        self._events.publish(bundle.namespace, "/tasks/delete", delete_event)

    # Ending

    async def close(self) -> None:
        """Let go of all shims; they and their tasks go on."""
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

    async def _connect(
        self, bundle: Bundle, runtime: str, address: Address, shim_log: ShimLog | None
    ) -> Shim:
        try:
            connection = await connect(address.url, f"shim of task {bundle.id}")
        except BaseException:
            if shim_log is not None:
                shim_log.close()
            raise
        return Shim(bundle, runtime, connection, address, shim_log)

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


def found_address(bundle: Bundle, record: ShimRecord | None) -> Address | None:
    """Where the bundle's shim listens: by our record, or by the file that shims write."""
    if record is not None and record.address:
        return Address(record.address, record.version)
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
