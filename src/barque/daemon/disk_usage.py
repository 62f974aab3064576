"""`GET /system/df`: what images, containers, volumes and the build cache take on the disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from barque import errors
from barque.daemon.containers import listing
from barque.daemon.containers.service import Containers
from barque.daemon.images.service import Images
from barque.daemon.volumes.records import LOCAL
from barque.daemon.volumes.service import Volumes

KINDS = ("container", "image", "volume", "build-cache")
SUMMED_SINCE = (1, 52)
ACTIVE = frozenset({"running", "paused", "restarting"})
BUILDER_SIZE_UNTIL = (1, 42)

Document = dict[str, Any]


class DiskUsage:
    def __init__(self, containers: Containers, images: Images, volumes: Volumes) -> None:
        self._containers = containers
        self._images = images
        self._volumes = volumes

    async def usage(
        self, kinds: Sequence[str], version: tuple[int, int], *, verbose: bool = False
    ) -> Document:
        """API: SystemDataUsage; only `kinds`, or all when none is named. Raises InvalidArgument.

        Since 1.52 each kind is summed up, with its items where `verbose`; what was told before is
        in 1.52 too, but no longer.
        """
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
        if version < SUMMED_SINCE:
            return whole
        summed = _summed(whole, verbose=verbose)
        return {**whole, **summed} if version == SUMMED_SINCE and not verbose else summed

    async def _image_part(self) -> Document:
        images, total = await self._images.disk_usage()
        return {"LayersSize": total, "Images": images}

    async def _container_part(self) -> Document:
        engine = self._containers.engine
        found = await listing.summaries(engine, everything=True, limit=0, filters={}, size=True)
        return {"Containers": found}

    async def _volume_part(self) -> Document:
        volumes = self._volumes.summaries({"driver": [LOCAL]})
        sizes = [await self._volumes.size_bytes(volume["Name"]) for volume in volumes]
        for volume, size in zip(volumes, sizes, strict=True):
            users = len(self._volumes.users(volume["Name"]))
            volume["UsageData"] = {"Size": size, "RefCount": users}
        return {"Volumes": volumes}

    async def _build_part(self) -> Document:
        return {"BuildCache": []}


def _summed(whole: Document, *, verbose: bool) -> Document:
    """The kinds in `whole` as ImagesDiskUsage and its like."""
    parts = {
        "Images": ("ImageUsage", _images),
        "Containers": ("ContainerUsage", _containers),
        "Volumes": ("VolumeUsage", _volumes),
        "BuildCache": ("BuildCacheUsage", _builds),
    }
    result = {}
    for key, (name, of) in parts.items():
        if key in whole:
            items = whole[key] or []
            active, total, reclaimable = of(items, whole)
            result[name] = {
                "ActiveCount": active,
                "TotalCount": len(items),
                "TotalSize": total,
                "Reclaimable": reclaimable,
                **({"Items": items} if verbose else {}),
            }
    return result


def _images(images: Sequence[Document], whole: Document) -> tuple[int, int, int]:
    """What an image that is used has to itself cannot be had back."""
    used = [image for image in images if image["Containers"] > 0]
    kept = sum(image["Size"] - image["SharedSize"] for image in used)
    total = whole["LayersSize"]
    return len(used), total, max(0, total - kept)


def _containers(containers: Sequence[Document], whole: Document) -> tuple[int, int, int]:
    active = [one for one in containers if one["State"] in ACTIVE]
    total, kept = (sum(one.get("SizeRw") or 0 for one in some) for some in (containers, active))
    return len(active), total, total - kept


def _volumes(volumes: Sequence[Document], whole: Document) -> tuple[int, int, int]:
    sizes = [(v["UsageData"]["Size"], v["UsageData"]["RefCount"]) for v in volumes]
    known = [(size, users) for size, users in sizes if size > 0]
    return (
        sum(users > 0 for _, users in sizes),
        sum(size for size, _ in known),
        sum(size for size, users in known if not users),
    )


def _builds(records: Sequence[Document], whole: Document) -> tuple[int, int, int]:
    own = [record for record in records if not record["Shared"]]
    total = sum(record["Size"] for record in own)
    kept = sum(record["Size"] for record in own if record["InUse"])
    return sum(bool(record["InUse"]) for record in records), total, total - kept
