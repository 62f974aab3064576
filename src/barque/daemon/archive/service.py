"""What the archive routes call. API: ContainerArchive(Info), PutContainerArchive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
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

TRIES = 3

PathStat = dict[str, Any]


async def stat(engine: Engine, reference: str, path: str) -> PathStat:
    """What is at `path`. Raises NotFound."""
    container = engine.catalogue.find(reference)
    copier, found = await _begun(engine, container, "stat", path, reference)
    await copier.close()
    return shown(found)


async def get(engine: Engine, reference: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
    """What is at `path`, and a tar of it."""
    container = engine.catalogue.find(reference)
    copier, found = await _begun(engine, container, "get", path, reference)
    engine.publish(container, "archive-path")
    return shown(found), _chunks(copier)


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
    async with container.filling if container.state.running else container.lock:
        container.pristine = False
        copier, _ = await _begun(
            engine, container, "put", path, reference, keep_kinds=keep_kinds, owner=owner
        )
        try:
            await copier.feed(archive)
            await copier.answer()
        except errors.BarqueError:
            container.refuse_when_gone()  # it was removed meanwhile
            raise
        finally:
            await copier.close()
    engine.publish(container, "extract-to-dir")


async def _begun(
    engine: Engine, container: Container, do: str, path: str, reference: str, **more: Any
) -> tuple[Copier, PathStat]:
    """A program that has the container's files before it, and its first answer.

    One that ended while we looked is looked at again, as one that does not run.
    """
    for _ in range(TRIES):
        request = {**await _request(engine, container, do, path, reference), **more}
        copier = await Copier.start(request)
        try:
            return copier, await copier.answer()
        except errors.Conflict as error:
            await copier.close()
            conflict = error
        except BaseException:
            await copier.close()
            raise
        ended = container.waiting("not-running")
        if ended is not None:
            await asyncio.wait([ended], timeout=EXIT_KNOWN_S)
    raise conflict


async def _owner(engine: Engine, container: Container) -> list[int] | None:
    """The container's user, None where it names none."""
    wanted = container.record.config.user
    if not wanted:
        return None
    mounts = await writable_rootfs(engine, container)
    user = await asyncio.to_thread(resolve_user, mounts, wanted, ())
    return [user.uid, user.gid]


async def _request(
    engine: Engine, container: Container, do: str, path: str, reference: str
) -> dict[str, Any]:
    if not path:
        raise errors.InvalidArgument("bad parameter: path cannot be empty")
    container.refuse_when_gone()
    record, running = container.record, container.state.running
    request: dict[str, Any] = {
        "do": do,
        "path": path,
        "id": record.id,
        "reference": reference,
        "pid": container.state.pid if running else 0,
        "place": str(engine.paths.copying),
        "write": do == "put",
        "read_only": record.host.readonly_rootfs,
        "mounts": _mounts(engine, container),
        "directory": record.config.working_dir if container.state.started_at == NEVER else "",
        **remapped(engine, record),
    }
    if not running:
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
