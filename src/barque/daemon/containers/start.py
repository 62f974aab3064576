"""Starting a container: the road whose length is the product.

    network (a warm namespace) ..|
    volumes, devices, user ......|--> spec --> containerd: record + task Create
                                               --> pending attachments connect --> task Start

Every step has its undo on the stack before it is taken; a start that fails leaves a container as it
was, with the reason in its state.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from barque import errors
from barque.daemon import cgroups
from barque.daemon.containers import (
    apparmor,
    cdi,
    devices,
    health,
    image_mounts,
    labels,
    log_options,
    ports,
    propagation,
    streams,
)
from barque.daemon.containers.attach import abandon_pending, connect_pending
from barque.daemon.containers.backend import Sandbox
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine, together
from barque.daemon.containers.files import shared_files, write_files
from barque.daemon.containers.host import Runtime
from barque.daemon.containers.outcome import exit_code_of, start_error
from barque.daemon.containers.record import Record
from barque.daemon.containers.rootfs import resolve_user, writable_rootfs
from barque.daemon.containers.shm import mount_shm, unmount_shm
from barque.daemon.containers.spec import build
from barque.daemon.containers.start_facts import Device, StartFacts
from barque.daemon.containers.state import Move, Status
from barque.daemon.containers.supervise import RootfsMount, Stdio
from barque.daemon.containers.user import User
from barque.daemon.remapping import Remap
from barque.linux import cpu_realtime

MAX_USERS_KEPT = 1024
QUEUES = "/dev/mqueue"
log = logging.getLogger(__name__)


async def start(engine: Engine, container: Container, images: str = "") -> None:
    """With `images` as criu saved it, which are in that directory.

    Raises NotModified when it runs already, Conflict when its state does not allow it.
    """
    async with container.lock:
        status = container.state.status
        if status is Status.PAUSED:
            raise errors.Conflict("cannot start a paused container, try unpause instead")
        if status is Status.RUNNING:
            raise errors.NotModified(f"container {container.id} is running already")
        container.refuse_when_gone()
        if container.restart is not None:
            container.restart.cancel()
        container.forget_restarts()
        await start_locked(engine, container, images)


async def start_locked(engine: Engine, container: Container, images: str = "") -> None:
    """`start` with the lock held and the state checked."""
    try:
        async with AsyncExitStack() as undo:
            await _start_or_say_why(engine, container, undo, images)
            undo.pop_all()
    except BaseException as error:
        abandon_pending(container)
        _record_failure(engine, container, error)
        raise


async def _start_or_say_why(
    engine: Engine, container: Container, undo: AsyncExitStack, images: str
) -> None:
    try:
        await _start(engine, container, undo, images)
    except OSError as error:
        name = f" {error.filename}" if error.filename else ""
        kind = errors.ResourceExhausted if error.errno == errno.ENOSPC else errors.BarqueError
        raise kind(f"starting container {container.id}:{name}: {error.strerror}") from error


async def _start(engine: Engine, container: Container, undo: AsyncExitStack, images: str) -> None:
    undo.push_async_callback(engine.undo, "network", engine.networks.detach, container.id)
    undo.push_async_callback(engine.undo, "volumes", engine.volumes.unmount, container.id)
    undo.callback(unmount_shm, engine.paths, container.id)
    if container.record.host.log_config.type not in log_options.LOCAL:
        await engine.check_forwarding(container)
    sandbox, mounts, sources = await together(
        _attach_network(engine, container),
        writable_rootfs(engine, container),
        _sources(engine, container),
    )
    if any(engine.defaults.realtime):
        await asyncio.to_thread(_give_realtime, engine, container)
    if profile := apparmor.profile_of(container.record, engine.machine):
        await asyncio.to_thread(engine.profiles.need, profile)
    hosts = _hosts_of_namespaces(engine, container)
    facts = StartFacts(
        user=await _user(engine, container, mounts),
        netns=sandbox.netns,
        files=_labelled(container, _files(engine, container, sandbox)),
        sources=sources,
        devices=await _devices(container),
        init=_init(engine, container),
        **_shared_namespaces(engine, container, hosts),
    )
    spec = build(container.record, facts, engine.machine, engine.defaults)
    requests = container.record.host.device_requests or ()
    cdi.apply(spec, cdi.resolve(requests, engine.defaults.cdi_spec_dirs))
    socket = engine.paths.stdio_socket(container.id)
    runtime = engine.runtime_of(container)
    remap = engine.defaults.remap_of(container.record.host.userns_mode)
    if runtime.foreign:
        undo.callback(streams.remove, socket)
    undo.push_async_callback(engine.undo, "task", engine.supervisor.delete, container.id)
    container.pristine = False  # from here on it is written into
    container.has_task = True
    try:
        await engine.supervisor.create(
            container.id,
            spec,
            _owned_streams(runtime, remap),
            container.record.config.image,
            labels.labelled(mounts, container.record.mount_label),
            Stdio(
                str(socket),
                container.record.config.tty,
                _stdio_options(engine, container),
                relayed=runtime.foreign,
            ),
            images,
        )
        if runtime.foreign and not container.record.config.tty:
            engine.spawn(engine.supervisor.release_input(container.id), lasting=True)
        await connect_pending(container, str(socket))
        pid = await engine.supervisor.start(container.id)
    except errors.BarqueError as error:
        for name, other, its_pid in hosts:
            if await other.has_ended(its_pid):
                raise _not_joined(name, other) from error
        raise start_error(error) from error
    _running(engine, container, pid)


def _give_realtime(engine: Engine, container: Container) -> None:
    """dockerd: initCPURtController. A container may have no more than the group above it."""
    parent = container.record.host.cgroup_parent or engine.defaults.cgroup_parent
    group = cgroups.path(engine.defaults.cgroup_driver, parent, container.id)
    try:
        cpu_realtime.give(os.path.dirname(group), *engine.defaults.realtime)
    except OSError as error:
        raise errors.InvalidArgument(
            f"cpu-rt-runtime: the group of containers cannot have it: {error.strerror}"
        ) from error


def _owned_streams(runtime: Runtime, remap: Remap | None) -> Runtime:
    """Root of a remapped container may open its streams again: they are its own."""
    return runtime if remap is None else replace(runtime, io_owner=remap.root)


def _running(engine: Engine, container: Container, pid: int) -> None:
    state = container.state
    state.move(Move.START, container.id)
    state.pid, state.exit_code, state.error, state.oom_killed = pid, 0, "", False
    state.started_at, state.stopped_by_hand = engine.now(), False
    state.health = health.fresh(container)
    container.ending = False
    engine.catalogue.save_state(container)
    engine.publish(container, "start")
    health.begin(engine, container)
    engine.forward(container)


def _record_failure(engine: Engine, container: Container, error: BaseException) -> None:
    state = container.state
    text = str(error)
    state.error = text
    state.exit_code = exit_code_of(text)
    state.pid = 0
    state.move(Move.FAIL, container.id)
    try:
        engine.catalogue.save_state(container)
    except Exception:
        log.exception("state of container %s not saved", container.id)
    container.tell_exit()


async def _attach_network(engine: Engine, container: Container) -> Sandbox:
    record = container.record
    return await engine.networks.attach(
        container.id,
        record.name,
        record.config.hostname,
        record.host.network_mode,
        record.endpoints,
        ports.published(record.config, record.host),
        dns=record.host.dns or (),
        dns_search=record.host.dns_search or (),
        dns_options=record.host.dns_options or (),
        extra_hosts=record.host.extra_hosts or (),
        domainname=record.config.domainname,
        links=_links(engine, record),
        host_users=engine.defaults.remap_of(record.host.userns_mode) is None,
    )


def _links(engine: Engine, record: Record) -> list[str]:
    """Its links by the ids of the containers whose network they lead to; Raises Conflict."""
    found = []
    for target, alias in record.legacy_links:
        other = engine.catalogue.find(target)
        if not other.state.running:
            raise errors.Conflict(
                f"Cannot link to a non running container: /{other.record.name} AS "
                f"/{record.name}/{alias}"
            )
        while (mode := other.record.host.network_mode).startswith("container:"):
            other = engine.catalogue.find(mode.partition(":")[2])
        found.append(f"{other.id}:{alias}")
    return found


async def _sources(engine: Engine, container: Container) -> dict[str, str]:
    """Where each bind and volume is on the host. Binds written with `-v` are made if missing."""
    result = {}
    for point in container.record.mounts:
        if point.type == "volume":
            result[point.destination] = await engine.volumes.mount(
                point.name, container.id, point.subpath
            )
        elif point.type == "image":
            result[point.destination] = await image_mounts.mount(engine, container, point)
        elif point.type == "bind":
            if not os.path.lexists(point.source):
                remap = engine.defaults.remap_of(container.record.host.userns_mode)
                _make_source(point.source, point.create_source, remap.root if remap else None)
            propagation.check(point)
            result[point.destination] = point.source
        if label := container.record.mount_label:
            source = result.get(point.destination, "")
            await asyncio.to_thread(labels.relabel_mount, point, source, label)
    return result


def _make_source(path: str, allowed: bool, owner: tuple[int, int] | None) -> None:
    if not allowed:
        raise errors.InvalidArgument(
            f'invalid mount config for type "bind": bind source path does not exist: {path}'
        )
    try:
        missing = [path]
        while not os.path.lexists(above := os.path.dirname(missing[-1])):
            missing.append(above)
        os.makedirs(path, mode=0o755, exist_ok=True)
        if owner is not None:
            for made in missing:
                os.chown(made, *owner)
    except OSError as error:
        raise errors.BarqueError(
            f"error while creating mount source path '{path}': mkdir {path}: {error.strerror}"
        ) from error


async def _user(engine: Engine, container: Container, mounts: Sequence[RootfsMount]) -> User:
    """Remembered by image while nothing was written into the container's own layer."""
    record = container.record
    key = (record.chain_id, record.config.user, tuple(record.host.group_add or ()))
    pristine = container.pristine and not _shadows_etc(container)
    if pristine and key in engine.users:
        found: User = engine.users[key]
        return found
    found = await asyncio.to_thread(
        resolve_user, mounts, record.config.user, record.host.group_add or ()
    )
    if pristine:
        if len(engine.users) >= MAX_USERS_KEPT:
            engine.users.clear()
        engine.users[key] = found
    return found


def _shadows_etc(container: Container) -> bool:
    return any(point.destination.startswith("/etc") for point in container.record.mounts)


def _files(engine: Engine, container: Container, sandbox: Sandbox) -> Mapping[str, str]:
    mode = container.record.host.network_mode
    directory = engine.paths.container(container.id)
    if mode.startswith("container:"):
        directory.mkdir(mode=0o710, parents=True, exist_ok=True)
        return shared_files(engine.paths, mode.partition(":")[2])
    return write_files(
        engine.paths,
        container,
        sandbox,
        engine.defaults.remap_of(container.record.host.userns_mode),
    )


def _labelled(container: Container, files: Mapping[str, str]) -> Mapping[str, str]:
    """Those of another container have the label that both may use."""
    if label := container.record.mount_label:
        joins = container.record.host.network_mode.startswith("container:")
        labels.relabel_files(files, labels.shared(label) if joins else label)
    return files


async def _devices(container: Container) -> list[Device]:
    """Off the loop: what is asked for may be a directory of any size."""
    host = container.record.host
    found = await asyncio.to_thread(devices.asked, host.devices) if host.devices else []
    return await asyncio.to_thread(devices.all_of_host) + found if host.privileged else found


def _init(engine: Engine, container: Container) -> str:
    asked = container.record.host.init
    if not (engine.defaults.init if asked is None else asked):
        return ""
    path = engine.defaults.find_init()
    if path is None:
        raise errors.Unsupported("--init needs docker-init, tini or catatonit on the daemon's PATH")
    return path


def _hosts_of_namespaces(engine: Engine, container: Container) -> list[tuple[str, Container, int]]:
    """The containers, and their processes, of which it joins the namespace that is named."""
    host = container.record.host
    modes = (("network", host.network_mode), ("pid", host.pid_mode), ("ipc", host.ipc_mode))
    found = []
    for name, mode in modes:
        kind, colon, reference = mode.partition(":")
        if kind == "container" and colon:
            other = engine.catalogue.find(reference)
            found.append((name, other, other.state.pid))
    return found


def _not_joined(name: str, other: Container) -> errors.Conflict:
    what = "network" if name == "network" else f"the {name} namespace"
    return errors.Conflict(f"cannot join {what} of a non running container: {other.id}")


def _shared_namespaces(
    engine: Engine, container: Container, hosts: Sequence[tuple[str, Container, int]]
) -> dict[str, Any]:
    host = container.record.host
    result: dict[str, Any] = {}
    for name, other, pid in hosts:
        if name == "network":  # it was joined with the sandbox
            continue
        if not other.state.running:
            raise _not_joined(name, other)
        result[f"{name}_namespace"] = f"/proc/{pid}/ns/{name}"
        if name == "ipc":
            result["shm"] = _donated_shm(engine, other)
    remap = engine.defaults.remap_of(host.userns_mode)
    if host.ipc_mode == "host":
        result["shm"] = _shm_of_host()
        if remap:
            result["mqueue"] = QUEUES if os.path.isdir(QUEUES) else ""
    elif host.ipc_mode == "shareable":
        owner = remap.root if remap else None
        label = container.record.mount_label
        result["shm"] = mount_shm(engine.paths, container.id, host.shm_size, owner, label)
    return result


def _shm_of_host() -> str:
    if not os.path.isdir("/dev/shm"):
        raise errors.Conflict("/dev/shm is not mounted, but must be for --ipc=host")
    return "/dev/shm"


def _donated_shm(engine: Engine, donor: Container) -> str:
    if donor.record.host.ipc_mode != "shareable":
        raise errors.Conflict(
            f"can't join IPC of container {donor.id}: non-shareable IPC (hint: use "
            "IpcMode:shareable for the donor container)"
        )
    return str(engine.paths.shm(donor.id))


def _stdio_options(engine: Engine, container: Container) -> dict[str, str]:
    """What the shim must know of the streams: docs/boundaries.md, section 3."""
    config = container.record.config
    options: dict[str, str] = {}
    if stored := log_options.stored_as(container.record):
        options["log"] = stored
        options["path"] = str(engine.paths.container_log(container.id, stored))
        options |= log_options.shim_options(container.record)
    if config.open_stdin:
        options["stdin"] = "1"
        if config.stdin_once:
            options["stdin-once"] = "1"
    return options
