"""`--mount type=image`: the files of an image, read-only, at a place in a container.

The image is looked up when the container is created. A view of its layers, a snapshot named for
the container and the place, holds them from then on, also when the image is removed. While the
container runs the view is mounted with the container's parts of volumes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from barque import errors
from barque.daemon.containers.layers import layer_directories

if TYPE_CHECKING:
    from barque.daemon.containers.container import Container
    from barque.daemon.containers.engine import Engine
    from barque.daemon.containers.record import MountPoint, Record


def view_key(container_id: str, point: MountPoint) -> str:
    return f"{container_id}-{hashlib.sha256(point.destination.encode()).hexdigest()[:12]}"


def view_keys(record: Record) -> list[str]:
    return [view_key(record.id, point) for point in record.mounts if point.type == "image"]


def owner_of(key: str) -> str:
    """The container that a snapshot is for."""
    return key.partition("-")[0]


async def make_views(engine: Engine, record: Record) -> None:
    """Raises InvalidArgument for an image that is not here.

    Not NotFound: to clients that says that the container's own image is missing.
    """
    for point in record.mounts:
        if point.type != "image":
            continue
        try:
            image = await engine.images.resolve(point.name)
        except errors.NotFound as error:
            raise errors.InvalidArgument(
                f'invalid mount config for type "image": {error}'
            ) from None
        point.source = image.id
        key = view_key(record.id, point)
        try:
            await engine.supervisor.view(key, record.id, image.chain_id)
        except errors.NotFound:
            await engine.images.ensure_unpacked(image)
            await engine.supervisor.view(key, record.id, image.chain_id)


async def drop_views(engine: Engine, record: Record) -> None:
    """Safe to call twice."""
    for key in view_keys(record):
        await engine.supervisor.remove_snapshot(key)


async def mount(engine: Engine, container: Container, point: MountPoint) -> str:
    """The host path of the image's files, or of the part asked for, while the container runs."""
    layers = layer_directories(await engine.supervisor.mounts(view_key(container.id, point)))
    remap = engine.defaults.remap_of(container.record.host.userns_mode)
    namespace = remap.namespace if remap else ""
    return await engine.volumes.mount_layers(
        container.id, point.destination, layers, point.subpath, namespace
    )
