"""`image show` and `image diff`: what each layer of an image does, and how two images differ.

The layers are read from their blobs, not from snapshots: so it is what a registry has, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from barque.daemon.images.archive import compression
from barque.daemon.images.documents import Documents
from barque.daemon.images.filesystem import Changes, FileSystem, LayerReader, differences
from barque.daemon.images.image import Image
from barque.daemon.images.store import Store
from barque.oci.image import Descriptor, Platform

PIECE_BYTES = 1 << 20
MAX_SHOWN = 200_000  # entries in one answer


class Layers:
    def __init__(self, store: Store, documents: Documents) -> None:
        self._store, self._documents = store, documents

    async def show(self, image: Image, *, entries: bool) -> dict[str, Any]:
        """Layers base first, each with what it adds, changes, removes and wastes."""
        system = FileSystem()
        found = []
        steps = _steps(image)
        for number, layer in enumerate(await self._of(image)):
            changes = await self._read(layer, system.layer())
            found.append(
                {
                    "Digest": layer.digest,
                    "DiffID": image.diff_ids[number],
                    "BlobSize": layer.size,
                    "CreatedBy": steps[number] if number < len(steps) else "",
                    **_document(changes, entries),
                }
            )
        wasted, size = (sum(int(one[key]) for one in found) for key in ("Wasted", "Size"))
        return {
            "Id": image.id,
            "Layers": found,
            "Size": size,
            "Wasted": wasted,
            "Efficiency": 1.0 if not size else (size - wasted) / size,
        }

    async def diff(self, one: Image, other: Image) -> dict[str, Any]:
        """What makes `other` from `one`, by path."""
        left, right = await self._whole(one), await self._whole(other)
        found = await asyncio.to_thread(lambda: list(differences(left, right)))
        return {
            "From": one.id,
            "To": other.id,
            "SharedLayers": _shared(one.diff_ids, other.diff_ids),
            "Total": len(found),
            "Entries": [
                {"Change": change, "Path": _text(path), "Before": before, "After": after}
                for change, path, before, after in found[:MAX_SHOWN]
            ],
        }

    async def _whole(self, image: Image) -> FileSystem:
        system = FileSystem()
        for layer in await self._of(image):
            await self._read(layer, system.layer())
        return system

    async def _of(self, image: Image) -> Sequence[Descriptor]:
        _, manifest = await self._documents.manifest(image.target, _platform(image))
        return manifest.layers

    async def _read(self, layer: Descriptor, reader: LayerReader) -> Changes:
        """Beside the event loop: it is work for a core."""
        async with aclosing(self._store.read(layer.digest)) as chunks:
            pending, size = [], 0
            async for piece in compression.plain(chunks):
                pending.append(piece)
                size += len(piece)
                if size >= PIECE_BYTES:
                    await asyncio.to_thread(reader.feed, b"".join(pending))
                    pending, size = [], 0
            await asyncio.to_thread(reader.feed, b"".join(pending))
        return await asyncio.to_thread(reader.end)


def _platform(image: Image) -> Platform:
    return Platform(*image.platform.split("/"))


def _steps(image: Image) -> list[str]:
    """What made each layer, as far as the history says."""
    history = image.document.get("history")
    steps = [step for step in history if isinstance(step, dict)] if history else []
    return [str(step.get("created_by") or "") for step in steps if not step.get("empty_layer")]


def _document(changes: Changes, entries: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Added": changes.added,
        "Changed": changes.changed,
        "Removed": changes.removed,
        "Size": changes.size,
        "Wasted": changes.wasted,
    }
    if entries:
        found["Entries"] = [
            {"Change": change, "Path": _text(path), "Size": size}
            for change, path, size in changes.entries[:MAX_SHOWN]
        ]
    return found


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _text(path: bytes) -> str:
    """Names are bytes; what is not text is shown escaped."""
    return path.decode("utf-8", "backslashreplace")
