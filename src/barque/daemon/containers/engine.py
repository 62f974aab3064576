"""What every operation on containers needs; made once by the composition root."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from barque import errors
from barque.daemon.containers import runtimes
from barque.daemon.containers.apparmor import Profiles
from barque.daemon.containers.backend import Images, Networks, Volumes
from barque.daemon.containers.catalogue import Catalogue
from barque.daemon.containers.host import Defaults, Host, Runtime
from barque.daemon.containers.labels import Labels
from barque.daemon.containers.log_watch import LogWatch
from barque.daemon.events import Events
from barque.daemon.measures import Measures
from barque.daemon.moments import rfc3339
from barque.daemon.paths import Paths

if TYPE_CHECKING:
    from barque.daemon.containers.container import Container
    from barque.daemon.containers.execs import Exec
    from barque.daemon.containers.supervise import Supervisor

Result = TypeVar("Result")
log = logging.getLogger(__name__)


async def nothing(container: Container) -> None:
    """For what is not wired."""


@dataclass(slots=True, kw_only=True)
class Engine:
    catalogue: Catalogue
    supervisor: Supervisor
    images: Images
    networks: Networks
    volumes: Volumes
    events: Events
    paths: Paths
    machine: Host
    defaults: Defaults
    measures: Measures = field(default_factory=Measures)
    profiles: Profiles = field(default_factory=Profiles)
    labels: Labels = field(default_factory=Labels)
    clock_ns: Callable[[], int] = time.time_ns
    execs: dict[str, Exec] = field(default_factory=dict)
    log_watch: LogWatch = field(default_factory=LogWatch)
    creating: set[str] = field(default_factory=set)
    """Ids of containers whose creation or removal is under way."""
    unerased: set[str] = field(default_factory=set)
    """Ids of removed containers of which something is there still."""
    ending_all: bool = False
    """All containers are being ended with the daemon, or because of its end: none restarts."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once networks and all else that a start needs are there."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    lasting: set[asyncio.Task[Any]] = field(default_factory=set)
    """Those that end only with the daemon or their container."""
    users: dict[tuple[str, str, tuple[str, ...]], Any] = field(default_factory=dict)
    """Users resolved in unwritten root file systems: (chain id, user, groups) -> User."""

    forward: Callable[[Container], None] = lambda container: None
    """Send its lines on, where its log driver does."""
    stop_forwarding: Callable[[Container], Awaitable[None]] = nothing
    check_forwarding: Callable[[Container], Awaitable[None]] = nothing
    """Whether there is somebody to send to. Raises BarqueError."""
    treat: Callable[[Container], Coroutine[Any, Any, None]] = nothing
    """Do with an unhealthy one what was asked for."""

    def runtime_of(self, container: Container) -> Runtime:
        """Raises InvalidArgument when the configuration has it no more."""
        return runtimes.find(self.defaults.runtimes, container.record.host.runtime)

    def now(self) -> str:
        return rfc3339(self.clock_ns())

    def spawn(
        self, work: Coroutine[Any, Any, Result], *, lasting: bool = False
    ) -> asyncio.Task[Result]:
        """Work that outlives the request that began it. A failure is logged here and only here.

        The daemon's end waits for it, unless it is `lasting`: that is cancelled.
        """
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        if lasting:
            self.lasting.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        self.lasting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)

    async def close(self, limit_s: float) -> None:
        """Let finite work come to its end, for at most `limit_s`; cancel the rest."""
        for task in tuple(self.lasting):
            task.cancel()
        if finite := self.tasks - self.lasting:
            await asyncio.wait(finite, timeout=limit_s)
        left = tuple(self.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def undo(self, what: str, step: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """One step back. Its failure is logged: the failure that led here is the one to tell."""
        try:
            await step(*arguments)
        except errors.Unavailable as error:
            log.warning("undoing %s: %s", what, error)
        except Exception:
            log.exception("undoing %s", what)

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        self.events.publish("container", action, container.id, container.attributes(**attributes))


async def together(*work: Awaitable[Any]) -> list[Any]:
    """Run all to their end, at once; then the first failure is raised, or all results given."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
