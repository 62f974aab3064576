"""`GET /containers/{id}/export`: all of a container's root file system as one tar.

API: ContainerExport. What the user mounted on it is not in it, nor are /proc, /sys and /dev: the
snapshot is read, whether the container runs or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from barque.daemon.archive.copier import Copier
from barque.daemon.archive.service import remapped
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.layers import layer_directories
from barque.daemon.containers.rootfs import writable_rootfs


async def export(engine: Engine, reference: str) -> AsyncIterator[bytes]:
    """The tar. Raises NotFound, and what reading the snapshot raises, before its first byte."""
    container = engine.catalogue.find(reference)
    container.refuse_when_gone()
    mounts = await writable_rootfs(engine, container)
    request = {
        "do": "export",
        "path": "/",
        "id": container.id,
        "reference": reference,
        "place": str(engine.paths.copying),
        "read_only": True,
        "layers": layer_directories(mounts),
        **remapped(engine, container.record),
    }
    copier = await Copier.start(request)
    try:
        await copier.answer()
    except BaseException:
        await copier.close()
        raise
    engine.publish(container, "export")
    return _chunks(copier)


async def _chunks(copier: Copier) -> AsyncIterator[bytes]:
    try:
        async for chunk in copier.chunks():
            yield chunk
    finally:
        await copier.close()
