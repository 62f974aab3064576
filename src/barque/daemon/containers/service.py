"""The containers service: what routes call. Each method finds its container and does one thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from barque import errors
from barque.daemon.config import Config
from barque.daemon.containers import (
    attach,
    checkpoints,
    create,
    exec_signals,
    execs,
    inspect,
    listing,
    log_options,
    logs,
    recover,
    remove,
    runtimes,
    signal_process,
    start,
    unhealthy,
    update,
    watch,
)
from barque.daemon.containers.container import Container, Exit
from barque.daemon.containers.detach import parse_keys
from barque.daemon.containers.documents import ExecConfig, parse
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.execs import Exec
from barque.daemon.containers.names import check_name
from barque.daemon.containers.state import Status
from barque.daemon.containers.stdio import Stdio, Wanted
from barque.daemon.defaults import container_defaults
from barque.daemon.forwarding.forwarder import Forwarder
from barque.daemon.forwarding.forwarder import check as check_forwarding
from barque.daemon.http.messages import Duplex

CLOSE_LIMIT_S = 10.0


class Containers:
    """Life: `start` once, then any of the rest, then `close`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._watch: asyncio.Task[None] | None = None
        forwarder = Forwarder(engine)
        engine.forward, engine.stop_forwarding = forwarder.begin, forwarder.end
        engine.check_forwarding = check_forwarding
        engine.treat = partial(unhealthy.treat, engine)

    async def load(self) -> list[str]:
        """Read the database and settle it with containerd; the ids of what runs.

        Networks must be given these ids (`Networks.restore`) before `begin`.
        """
        catalogue = self.engine.catalogue
        catalogue.load()
        self.engine.labels.keep(c.record for c in (*catalogue, *catalogue.hidden.values()))
        return await recover.recover(self.engine)

    async def begin(self) -> None:
        """Follow containerd's events, which begins with a look at everything; restart policies."""
        known = list(self.engine.catalogue)
        running = [item.id for item in known if item.state.running]
        kept = [*(item.id for item in known), *self.engine.catalogue.hidden]
        await self.engine.volumes.restore(kept, running)
        self.engine.ready.set()
        self._watch = self.engine.spawn(watch.watch(self.engine), lasting=True)
        if running and not self.engine.defaults.live_restore:
            await signal_process.stop_all(self.engine)
        await recover.apply_restart_policies(self.engine)
        for container in known:
            self.engine.forward(container)

    def reload(self, config: Config) -> None:
        """What the configuration may change while we run; all else stays as at start."""
        wanted = container_defaults(config, self.engine.paths)
        runtimes.write_scripts(self.engine.paths.runtimes, config.runtimes)
        self.engine.defaults = replace(
            self.engine.defaults,
            runtime=wanted.runtime,
            runtimes=wanted.runtimes,
            cgroupns_mode=wanted.cgroupns_mode,
            ipc_mode=wanted.ipc_mode,
            shm_size_bytes=wanted.shm_size_bytes,
            stop_timeout_s=wanted.stop_timeout_s,
            live_restore=wanted.live_restore,
            shutdown_timeout_s=wanted.shutdown_timeout_s,
        )

    async def close(self) -> None:
        """Stop following. Containers go on, but without live-restore they are ended first."""
        if not self.engine.defaults.live_restore:
            await signal_process.stop_all(self.engine)
        await self.engine.close(CLOSE_LIMIT_S)

    def find(self, reference: str) -> Container:
        return self.engine.catalogue.find(reference)

    def counts(self) -> dict[str, int]:
        """Running, paused and stopped ones, for `info`. One that waits to restart is running."""
        result = {"running": 0, "paused": 0, "stopped": 0}
        for container in self.engine.catalogue:
            status = container.state.status
            kind = "paused" if status is Status.PAUSED else "stopped"
            running = status in {Status.RUNNING, Status.RESTARTING}
            result["running" if running else kind] += 1
        return result

    def using_image(self, image_id: str) -> list[Container]:
        return list(self.engine.catalogue.using_image(image_id))

    async def create(
        self, name: str, body: Mapping[str, Any], platform: str = ""
    ) -> tuple[Container, list[str]]:
        with self.engine.measures.timed("create"):
            return await create.create(self.engine, name, body, platform)

    async def unlink(self, reference: str, alias: str) -> None:
        """Forget a legacy link; a running container has it to its end. Raises NotFound."""
        try:
            container = self.find(reference)
        except errors.NotFound:
            raise errors.NotFound(
                f"Cannot get parent {reference} for link name /{reference}/{alias}"
            ) from None
        async with container.lock:
            container.refuse_when_gone()
            links = container.record.host.links or []
            kept = [link for link in links if (link.partition(":")[2] or link) != alias]
            if len(kept) == len(links):
                raise errors.NotFound(f"No such link: /{reference}/{alias}")
            container.record.host.links = kept or None
            self.engine.catalogue.save_record(container)

    async def start(self, reference: str, checkpoint: str = "", directory: str = "") -> None:
        """With a name of a checkpoint as it was then; `directory` has it, or else the container's
        own."""
        if checkpoint and not self.engine.defaults.experimental:
            raise errors.InvalidArgument("checkpoint is only supported in experimental mode")
        container = self.find(reference)
        images = checkpoints.find(self.engine, container, checkpoint, directory)
        try:
            with self.engine.measures.timed("start"):
                await start.start(self.engine, container, images)
        except errors.NotModified:
            raise
        except errors.BarqueError:
            await self._remove_failed(container)
            raise

    async def _remove_failed(self, container: Container) -> None:
        """A `--rm` container that could not be started has no second chance."""
        if container.record.host.auto_remove and not container.state.running:
            await remove.remove(self.engine, container, force=True, volumes=True)

    async def stop(self, reference: str, signal: str, timeout_s: int | None) -> None:
        await signal_process.stop(self.engine, self.find(reference), signal, timeout_s)

    async def restart(self, reference: str, signal: str, timeout_s: int | None) -> None:
        await signal_process.restart(self.engine, self.find(reference), signal, timeout_s)

    async def kill(self, reference: str, signal: str) -> None:
        await signal_process.kill(self.engine, self.find(reference), signal)

    async def pause(self, reference: str) -> None:
        await signal_process.pause(self.engine, self.find(reference))

    async def unpause(self, reference: str) -> None:
        await signal_process.unpause(self.engine, self.find(reference))

    def waiting(self, reference: str, condition: str) -> tuple[Container, asyncio.Future[Exit]]:
        """The container and a future of its exit, done already if the condition holds now."""
        container = self.find(reference)
        future = container.waiting(condition)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            future.set_result(container.last_exit())
        return container, future

    async def remove(self, reference: str, *, force: bool, volumes: bool) -> None:
        with self.engine.measures.timed("delete"):
            await remove.remove(self.engine, self.find(reference), force=force, volumes=volumes)

    async def rename(self, reference: str, name: str) -> None:
        container = self.find(reference)
        if not name:
            raise errors.InvalidArgument("Neither old nor new names may be empty")
        new = check_name(name)
        async with container.lock:
            container.refuse_when_gone()
            old = container.name
            if new == old:
                raise errors.InvalidArgument(
                    f"Renaming a container with the same name as its current name: {old}"
                )
            self.engine.catalogue.rename(container, new)
            await self.engine.networks.rename(container.id, new)
            self.engine.publish(container, "rename", oldName=f"/{old}")

    async def resize(self, reference: str, width: int, height: int) -> None:
        container = self.find(reference)
        if not container.state.running:
            raise container.not_running()
        await self.engine.supervisor.resize(container.id, "", width, height)
        self.engine.publish(container, "resize", height=str(height), width=str(width))

    async def update(self, reference: str, body: Mapping[str, Any]) -> list[str]:
        return await update.update(self.engine, self.find(reference), body)

    async def inspect(self, reference: str, *, size: bool = False) -> dict[str, Any]:
        container = self.find(reference)
        found = inspect.inspect(self.engine, container)
        return found | await listing.sizes(self.engine, container) if size else found

    async def summaries(
        self, *, everything: bool, limit: int, filters: listing.Filters, size: bool = False
    ) -> list[dict[str, Any]]:
        return await listing.summaries(
            self.engine, everything=everything, limit=limit, filters=filters, size=size
        )

    def logs(self, reference: str, query: logs.Query) -> AsyncIterator[bytes]:
        container = self.find(reference)
        logs.check(container, query)
        return logs.read(self.engine, container, query)

    def check_attach(self, reference: str, keys: str) -> tuple[Container, bytes | None]:
        """What can be refused before the connection is taken over."""
        container = self.find(reference)
        if container.state.status is Status.PAUSED:
            raise errors.Conflict(
                f"container {container.id} is paused, unpause the container before attach"
            )
        if container.state.status is Status.RESTARTING:
            raise errors.Conflict(
                f"container {container.id} is restarting, wait until the container is running"
            )
        container.refuse_when_gone()
        parsed = parse_keys(keys)
        return container, parsed if container.record.config.tty else None

    async def attach(
        self,
        container: Container,
        duplex: Duplex,
        wanted: Wanted,
        keys: bytes | None,
        *,
        history: bool,
        stream: bool,
    ) -> None:
        """Serve a connection that was taken over, to its end."""
        past = None
        if history and log_options.readable(container.record):
            query = logs.Query(stdout=wanted.stdout, stderr=wanted.stderr)
            past = logs.read(self.engine, container, query)
        if not stream:
            await attach.replay(duplex, past)
            return
        self.engine.publish(container, "attach")
        socket = str(self.engine.paths.stdio_socket(container.id))
        stdin = wanted.stdin and container.record.config.open_stdin
        asked = wanted._replace(stdin=stdin)
        if await attach.attach(container, socket, duplex, asked, keys, past):
            self.engine.publish(container, "detach")

    def exec_create(self, reference: str, body: Mapping[str, Any]) -> Exec:
        return execs.create(self.engine, self.find(reference), parse(ExecConfig, body))

    def exec_find(self, exec_id: str) -> Exec:
        return execs.find(self.engine, exec_id)

    async def exec_start(
        self, process: Exec, wanted: Wanted | None, console_size: list[int] | None
    ) -> Stdio | None:
        return await execs.start(self.engine, process, wanted, console_size)

    async def exec_serve(self, process: Exec, stdio: Stdio, duplex: Duplex) -> None:
        await execs.serve(self.engine, process, stdio, duplex)

    async def exec_kill(self, reference: str, signal: str) -> None:
        await exec_signals.kill(self.engine, exec_signals.find(self.engine, reference), signal)

    async def exec_resize(self, exec_id: str, width: int, height: int) -> None:
        await execs.resize(self.engine, self.exec_find(exec_id), width, height)

    async def prune(self, filters: listing.Filters) -> tuple[list[str], int]:
        return await update.prune(self.engine, filters)
