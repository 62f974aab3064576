"""`GET /system/df`: what images, containers, volumes and the build cache take on the disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from barque import errors
from barque.daemon.containers import listing
from barque.daemon.containers.service import Containers
from barque.daemon.images.service import Images
from barque.daemon.volumes import Volumes

KINDS = ("container", "image", "volume", "build-cache")
BUILDER_SIZE_UNTIL = (1, 42)

Document = dict[str, Any]


class DiskUsage:
    def __init__(self, containers: Containers, images: Images, volumes: Volumes) -> None:
        self._containers = containers
        self._images = images
        self._volumes = volumes

    async def usage(self, kinds: Sequence[str], version: tuple[int, int]) -> Document:
        """API: SystemDataUsage; only `kinds`, or all when none is named. Raises InvalidArgument."""
        for kind in kinds:
            if kind not in KINDS:
                raise errors.InvalidArgument(f"unknown object type: {kind}")
        parts: dict[str, Callable[[], Awaitable[Document]]] = {
            "image": self._image_part,
            "container": self._container_part,
            "volume": self._volume_part,
            "build-cache": self._build_part,
        }
        whole: Document = {}
        for kind, part in parts.items():
            if kind in kinds or not kinds:
                whole |= await part()
        if version < BUILDER_SIZE_UNTIL:
            whole["BuilderSize"] = 0
        return whole

    async def _image_part(self) -> Document:
        images, total = await self._images.disk_usage()
        return {"LayersSize": total, "Images": images}

    async def _container_part(self) -> Document:
        engine = self._containers.engine
        found = await listing.summaries(engine, everything=True, limit=0, filters={}, size=True)
        return {"Containers": found}

    async def _volume_part(self) -> Document:
        volumes = self._volumes.summaries({})
        sizes = [await self._volumes.size_bytes(volume["Name"]) for volume in volumes]
        for volume, size in zip(volumes, sizes, strict=True):
            users = len(self._volumes.users(volume["Name"]))
            volume["UsageData"] = {"Size": size, "RefCount": users}
        return {"Volumes": volumes}

    async def _build_part(self) -> Document:
        return {"BuildCache": []}
