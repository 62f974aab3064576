"""The restart monitor: keeps tasks as the labels of their containers' records ask.

Source: containerd, plugins/restart and core/runtime/restart. All labels begin with
`containerd.io/restart.`:

    status              "running" or "stopped": what the task is to be; without it nobody looks
    policy              "always" (or none), "unless-stopped", "on-failure[:MAXIMUM]", "no"
    explicitly-stopped  "true": somebody ended it who wants it so
    count               how often it was started again, written here
    loguri, logpath     where the output of the task that is made goes

A task that is created or paused counts as running: somebody is at it.

It looks every interval at the records that have the first of these, and asks for a task only when
something happened to it since: asking wakes a shim.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress

from barque.containerd.containers import Containers
from barque.containerd.events import Envelope, Exchange, Subscription
from barque.containerd.grpc import Call
from barque.containerd.proto import containers_pb2, snapshots_pb2
from barque.containerd.proto import tasks_pb2 as api
from barque.containerd.proto.containers_pb2 import Container
from barque.containerd.proto.event_types_pb2 import TaskStart
from barque.containerd.proto.task_types_pb2 import Status
from barque.containerd.snapshots.service import Snapshots
from barque.containerd.tasks import Tasks
from barque.errors import BarqueError, NotFound

PREFIX = "containerd.io/restart."
STATUS, POLICY, COUNT, STOPPED, LOG_URI, LOG_PATH = (
    PREFIX + name
    for name in ("status", "policy", "count", "explicitly-stopped", "loguri", "logpath")
)
ASKED = (STATUS, POLICY, STOPPED)
SIGKILL = 9
# Whose message names a container first, and whose task is not what it was.
TOPICS = frozenset(f"/tasks/{what}" for what in ("create", "start", "exit", "delete"))

log = logging.getLogger(__name__)


class Restarts:
    """`keep` runs as long as the server does."""

    def __init__(
        self, containers: Containers, snapshots: Snapshots, tasks: Tasks, exchange: Exchange
    ) -> None:
        self._containers = containers
        self._snapshots = snapshots
        self._tasks = tasks
        self._exchange = exchange
        # Containers that are as was asked for, and what that was.
        self._settled: dict[tuple[str, str], Sequence[str]] = {}

    async def keep(self, interval_s: float) -> None:
        """Look at once, and then every interval, until cancelled."""
        while True:
            self._settled.clear()
            with self._exchange.subscribe(self._concerns) as events:
                while not events.overrun:
                    self._forget(events)
                    try:
                        await self.look()
                    except Exception:
                        log.exception("restart monitor failed")
                    await asyncio.sleep(interval_s)

    def _concerns(self, envelope: Envelope) -> bool:
        return bool(self._settled) and envelope.topic in TOPICS

    def _forget(self, events: Subscription) -> None:
        """What had an event since may be as it should not be."""
        for envelope in events.taken():
            # Their first field is the same, and that of TaskStart nearly all that it has.
            id = TaskStart.FromString(envelope.value).container_id
            self._settled.pop((envelope.namespace, id), None)

    async def look(self) -> None:
        """Put right what is not as its labels say; what cannot be is told, and tried again."""
        found = self._containers.labelled(STATUS)
        known = {(namespace, container.id) for namespace, container in found}
        self._settled = {key: asked for key, asked in self._settled.items() if key in known}
        for namespace, container in found:
            key = (namespace, container.id)
            asked = [container.labels.get(name, "") for name in ASKED]
            if self._settled.get(key) == asked:
                continue
            self._settled[key] = asked  # before: an event that comes meanwhile takes it away
            try:
                await self._reconcile(Call(namespace), container)
            except (BarqueError, OSError) as error:
                self._settled.pop(key, None)
                log.error("container %s cannot be as its labels ask: %s", container.id, error)

    async def _reconcile(self, call: Call, container: Container) -> None:
        status, exit_status = await self._state(call, container.id)
        ended = status in (Status.UNKNOWN, Status.STOPPED)
        asked = container.labels[STATUS]
        if asked == "running" and ended and is_due(container, exit_status):
            log.info("starting container %s again", container.id)
            await self._end(call, container.id, status)
            await self._start(call, container)
        elif asked == "stopped" and not ended:
            await self._end(call, container.id, status)

    async def _state(self, call: Call, id: str) -> tuple[int, int]:
        """Of the task, and its exit status; UNKNOWN where there is none."""
        try:
            process = (await self._tasks.get(call, api.GetRequest(container_id=id))).process
        except NotFound:
            return Status.UNKNOWN, 0
        return process.status, process.exit_status

    async def _end(self, call: Call, id: str, status: int) -> None:
        with suppress(NotFound):  # as it should be
            if status not in (Status.UNKNOWN, Status.STOPPED):
                kill = api.KillRequest(container_id=id, signal=SIGKILL, all=True)
                await self._tasks.kill(call, kill)
                await self._tasks.wait(call, api.WaitRequest(container_id=id))
            await self._tasks.delete(call, api.DeleteTaskRequest(container_id=id))

    async def _start(self, call: Call, container: Container) -> None:
        labels = {COUNT: str(restarts(container) + 1)}
        change = containers_pb2.UpdateContainerRequest(
            container=Container(id=container.id, labels=labels)
        )
        change.update_mask.paths.append(f"labels.{COUNT}")
        await self._containers.update(call, change)
        request = api.CreateTaskRequest(container_id=container.id, terminal=has_terminal(container))
        if container.snapshot_key:
            wanted = snapshots_pb2.MountsRequest(
                snapshotter=container.snapshotter, key=container.snapshot_key
            )
            request.rootfs.extend((await self._snapshots.mounts(call, wanted)).mounts)
        request.stdout = request.stderr = output_of(container)
        await self._tasks.create(call, request)
        try:
            await self._tasks.start(call, api.StartRequest(container_id=container.id))
        except BaseException:
            await self._end(call, container.id, Status.STOPPED)
            raise


def restarts(container: Container) -> int:
    """How often it was started again already."""
    count = container.labels.get(COUNT, "")
    return int(count) if count.isdecimal() else 0


def is_due(container: Container, exit_status: int) -> bool:
    """Whether the policy has a container run again whose task ended so, or that has none (0)."""
    name, _, maximum = container.labels.get(POLICY, "").partition(":")
    match name:
        case "" | "always":
            return True
        case "unless-stopped":
            return container.labels.get(STOPPED) != "true"
        case "on-failure":
            most = int(maximum) if maximum.isdecimal() else 0
            return exit_status != 0 and (not most or restarts(container) < most)
    return False


def has_terminal(container: Container) -> bool:
    spec = json.loads(container.spec.value or b"{}")
    process = spec.get("process") if isinstance(spec, dict) else None
    return isinstance(process, dict) and process.get("terminal") is True


def output_of(container: Container) -> str:
    """The address of the task's output; none, and it is lost."""
    if uri := container.labels.get(LOG_URI, ""):
        return uri
    path = container.labels.get(LOG_PATH, "")
    return f"file://{path}" if path else ""
