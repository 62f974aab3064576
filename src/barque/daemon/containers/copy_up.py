"""What an image has where a volume is mounted goes into the volume, while that is empty.

Docker's rule: once, before the container's first start, with owner and mode of the directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from barque.daemon.containers import layers
from barque.daemon.containers.engine import Engine

if TYPE_CHECKING:
    from barque.daemon.containers.container import Container
    from barque.daemon.containers.supervise import RootfsMount


async def copy_up(engine: Engine, container: Container, mounts: Sequence[RootfsMount]) -> None:
    """Fill the container's untouched volumes from its root file system."""
    if not container.pristine:
        return
    points = [p for p in container.record.mounts if p.type == "volume" and p.copy_up]
    for point in points:
        if not engine.volumes.is_untouched(point.name):
            continue
        directories = layers.layer_directories(mounts)
        if await asyncio.to_thread(layers.is_directory, directories, point.destination):
            await engine.volumes.populate(point.name, directories, point.destination)
