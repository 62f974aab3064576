"""`barque system migrate`: what other storage drivers hold is carried over to the one in use.

Images first, then the containers made from them. Each is carried whole or stays where it was; what
failed is told, and the next try takes it up again.
"""

from __future__ import annotations

import logging
from typing import Any

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.create import storage_size
from barque.daemon.containers.engine import Engine
from barque.daemon.images.service import Images
from barque.daemon.storage import driver_of

log = logging.getLogger(__name__)


class Migration:
    def __init__(self, engine: Engine, images: Images) -> None:
        self._engine = engine
        self._images = images

    async def run(self) -> dict[str, Any]:
        """What was carried over, by name, and what could not be, with the reason."""
        failed: list[dict[str, str]] = []
        images = []
        for name in await self._images.hidden():
            try:
                await self._images.carry_over(name)
                images.append(name)
            except errors.BarqueError as error:
                failed.append({"Name": name, "Error": str(error)})
        containers = []
        for hidden in list(self._engine.catalogue.hidden.values()):
            try:
                await self._container(hidden)
                containers.append(hidden.name)
            except errors.BarqueError as error:
                failed.append({"Name": hidden.name, "Error": str(error)})
        return {
            "Driver": driver_of(self._engine.catalogue.driver),
            "Images": images,
            "Containers": containers,
            "Failed": failed,
        }

    async def _container(self, container: Container) -> None:
        record, source = container.record, container.record.driver
        async with container.lock:
            if record.chain_id:
                await self._images.ensure_unpacked(await self._images.resolve(record.image))
            size = storage_size(record.host.storage_opt or {})
            await self._engine.supervisor.carry_over(record.id, record.chain_id, source, size)
            self._engine.catalogue.adopt(container)  # from here on it is this driver's
            try:
                await self._engine.supervisor.remove_left(record.id, source)
            except errors.BarqueError as error:
                log.warning(
                    "snapshot of container %s in %s not removed: %s", record.id, source, error
                )
