"""What the archive routes call. API: ContainerArchive(Info), PutContainerArchive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from barque import errors
from barque.daemon.archive.copier import Copier
from barque.daemon.containers.container import EXIT_KNOWN_S, Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.files import shared_files
from barque.daemon.containers.layers import layer_directories
from barque.daemon.containers.record import Record
from barque.daemon.containers.rootfs import resolve_user, writable_rootfs
from barque.daemon.containers.state import NEVER
from barque.daemon.http.messages import Source
from barque.daemon.moments import rfc3339

TRIES = 2

PathStat = dict[str, Any]


class _EndedMeanwhile(errors.Conflict):
    """Its process was there when we looked, and is no more."""


async def stat(engine: Engine, reference: str, path: str) -> PathStat:
    """What is at `path`. Raises NotFound."""
    container = engine.catalogue.find(reference)
    copier, found = await _looked(engine, container, "stat", path, reference)
    await copier.close()
    return shown(found)


async def get(engine: Engine, reference: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
    """What is at `path`, and a tar of it."""
    container = engine.catalogue.find(reference)
    copier, found = await _looked(engine, container, "get", path, reference)
    engine.publish(container, "archive-path")
    return shown(found), _chunks(copier)


async def _looked(
    engine: Engine, container: Container, do: str, path: str, reference: str
) -> tuple[Copier, PathStat]:
    """One that ends meanwhile is looked at again, as one that does not run."""
    for _ in range(TRIES):
        with suppress(_EndedMeanwhile):
            return await _begun(engine, container, _pid(container), do, path, reference)
        await _end_known(container)
    return await _begun(engine, container, 0, do, path, reference)


async def _chunks(copier: Copier) -> AsyncIterator[bytes]:
    try:
        async for chunk in copier.chunks():
            yield chunk
    finally:
        await copier.close()


async def put(
    engine: Engine,
    reference: str,
    path: str,
    archive: Source,
    *,
    keep_kinds: bool,
    copy_owner: bool,
) -> None:
    """Unpack a tar in directory `path`. Raises NotFound, InvalidArgument, Forbidden.

    A container that does not run is not started meanwhile: its snapshot is mounted here.
    """
    container = engine.catalogue.find(reference)
    container.refuse_when_gone()
    owner = await _owner(engine, container) if copy_owner else None
    more = {"keep_kinds": keep_kinds, "owner": owner}

    async def unpack(pid: int) -> None:
        container.pristine = False
        copier, _ = await _begun(engine, container, pid, "put", path, reference, **more)
        try:
            await copier.feed(archive)
            await copier.answer()
        except errors.BarqueError:
            container.refuse_when_gone()  # it was removed meanwhile
            raise
        finally:
            await copier.close()

    async with container.filling:
        await _living_or_dead(container, unpack)
    engine.publish(container, "extract-to-dir")


async def _living_or_dead(container: Container, do: Callable[[int], Awaitable[None]]) -> None:
    """Do it with the container's process, or with 0 while there is none and none is started."""
    if container.state.running:
        with suppress(_EndedMeanwhile):
            await do(_pid(container))
            return
        await _end_known(container)
    async with container.lock:  # which its end takes too: it is not waited for in here
        if container.state.running:
            with suppress(_EndedMeanwhile):
                await do(_pid(container))
                return
        await do(0)


def _pid(container: Container) -> int:
    return container.state.pid if container.state.running else 0


async def _end_known(container: Container) -> None:
    """Its process has ended: return when its state says so."""
    ended = container.waiting("not-running")
    if ended is not None:
        await asyncio.wait([ended], timeout=EXIT_KNOWN_S)


async def _begun(
    engine: Engine, container: Container, pid: int, do: str, path: str, reference: str, **more: Any
) -> tuple[Copier, PathStat]:
    """A program that has the container's files before it, and its first answer."""
    request = {**await _request(engine, container, pid, do, path, reference), **more}
    copier = await Copier.start(request)
    try:
        return copier, await copier.answer()
    except BaseException as error:
        await copier.close()
        if isinstance(error, errors.Conflict):
            raise _EndedMeanwhile(str(error)) from error
        raise


async def _owner(engine: Engine, container: Container) -> list[int] | None:
    """The container's user, None where it names none."""
    wanted = container.record.config.user
    if not wanted:
        return None
    mounts = await writable_rootfs(engine, container)
    user = await asyncio.to_thread(resolve_user, mounts, wanted, ())
    return [user.uid, user.gid]


async def _request(
    engine: Engine, container: Container, pid: int, do: str, path: str, reference: str
) -> dict[str, Any]:
    if not path:
        raise errors.InvalidArgument("bad parameter: path cannot be empty")
    container.refuse_when_gone()
    record = container.record
    request: dict[str, Any] = {
        "do": do,
        "path": path,
        "id": record.id,
        "reference": reference,
        "pid": pid,
        "place": str(engine.paths.copying),
        "write": do == "put",
        "read_only": record.host.readonly_rootfs,
        "mounts": _mounts(engine, container),
        "directory": record.config.working_dir if container.state.started_at == NEVER else "",
        **remapped(engine, record),
    }
    if not pid:
        mounts = await writable_rootfs(engine, container)
        request["layers"] = layer_directories(mounts)
        options = [option.partition("=") for mount in mounts for option in mount.options]
        request["work"] = next((value for key, _, value in options if key == "workdir"), "")
    return request


def remapped(engine: Engine, record: Record) -> dict[str, Any]:
    """Who does the work for a container with other ids: its own root."""
    remap = engine.defaults.remap_of(record.host.userns_mode)
    if remap is None:
        return {}
    return {
        "users": {
            "namespace": remap.namespace,
            "uids": remap.maps.uids.text,
            "gids": remap.maps.gids.text,
        }
    }


def _mounts(engine: Engine, container: Container) -> list[dict[str, Any]]:
    """The user's binds and volumes, and the files that Docker puts in, by depth."""
    found = []
    for point in container.record.mounts:
        if point.type == "volume":
            source = engine.volumes.data_path(point.name)
        elif point.type == "bind":
            source = point.source
        else:
            continue
        found.append({"source": source, "destination": point.destination, "rw": point.rw})
    taken = {item["destination"] for item in found}
    mode = container.record.host.network_mode
    owner = mode.partition(":")[2] if mode.startswith("container:") else container.id
    for destination, source in shared_files(engine.paths, owner).items():
        if destination not in taken and os.path.exists(source):
            found.append({"source": source, "destination": destination, "rw": True})
    return sorted(found, key=lambda item: str(item["destination"]).count("/"))


def shown(stat: PathStat) -> PathStat:
    """As the X-Docker-Container-Path-Stat header has it."""
    return {**stat, "mtime": rfc3339(stat["mtime"])}
