"""`docker images`: every image with its names, size and labels, filtered. From memory alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from barque import errors
from barque.daemon import moments
from barque.daemon.images import names, patterns
from barque.daemon.images.documents import Documents
from barque.daemon.images.names import Names
from barque.daemon.images.naming import Naming
from barque.daemon.images.store import Record

FILTERS = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})
_BOOLEANS = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}


@dataclass(frozen=True, slots=True)
class Summary:
    id: str
    names: Names
    created_s: int
    size: int
    labels: Mapping[str, str]
    records: Sequence[Record]

    @property
    def dangling(self) -> bool:
        return not self.names.tags


class Listing:
    def __init__(self, naming: Naming, documents: Documents) -> None:
        self._naming, self._documents = naming, documents

    async def summaries(self) -> list[Summary]:
        """Newest first."""
        catalog = await self._naming.load()
        found = [await self._summary(image, records) for image, records in catalog.images()]
        return sorted(found, key=lambda summary: (-summary.created_s, summary.id))

    async def summary(self, image_id: str) -> Summary:
        """Of one image that the catalog has."""
        return await self._summary(image_id, self._naming.catalog.records_of(image_id))

    async def _summary(self, image_id: str, records: list[Record]) -> Summary:
        record = next((r for r in records if names.CREATED_LABEL in r.labels), records[0])
        labels = record.labels
        called = self._naming.catalog.names_of(image_id)
        if names.CREATED_LABEL in labels and names.LABELS_LABEL in labels:
            own = msgspec.json.decode(labels[names.LABELS_LABEL])
            created, size = int(labels[names.CREATED_LABEL]), int(labels.get(names.SIZE_LABEL, 0))
            return Summary(image_id, called, created, size, own, records)
        try:
            image = await self._documents.image(record, names.display(record.name))
        except errors.BarqueError:  # its documents are gone: still there to be removed
            return Summary(image_id, called, 0, 0, {}, records)
        created = moments.unix_seconds(image.created)
        return Summary(image_id, called, created, image.size, image.labels, records)

    async def filtered(
        self,
        filters: Mapping[str, Sequence[str]],
        clock_s: Callable[[], float] = time.time,
    ) -> list[Summary]:
        """Raises InvalidArgument for a filter that is not known."""
        for name in filters:
            if name not in FILTERS:
                raise errors.InvalidArgument(f"invalid filter '{name}'")
        found = await self.summaries()
        for name, values in filters.items():
            if values:
                found = await self._kept(found, name, values, clock_s())
        return found

    async def _kept(
        self, found: list[Summary], name: str, values: Sequence[str], now_s: float
    ) -> list[Summary]:
        if name == "dangling":
            wanted = boolean(name, values)
            return [summary for summary in found if summary.dangling == wanted]
        if name == "label":
            return [s for s in found if all(has_label(s.labels, value) for value in values)]
        if name == "label!":
            return [s for s in found if not any(has_label(s.labels, value) for value in values)]
        if name == "reference":
            return [kept for s in found if (kept := _referenced(s, values)) is not None]
        if name == "until":
            limit = moments.until(values[0], now_s)
            return [summary for summary in found if summary.created_s < limit]
        mark = moments.unix_seconds((await self._naming.resolve(values[0])).created)
        if name == "before":
            return [summary for summary in found if summary.created_s < mark]
        return [summary for summary in found if summary.created_s > mark]


def _referenced(summary: Summary, wanted: Sequence[str]) -> Summary | None:
    """The summary with the names that match, None without any: Docker shows no others then."""

    def fits(name: str) -> bool:
        return any(patterns.matches(pattern, name) for pattern in wanted)

    tags = tuple(filter(fits, summary.names.tags))
    digests = tuple(filter(fits, summary.names.digests))
    if not tags and not digests:
        return None
    return Summary(
        summary.id,
        Names(tags, digests),
        summary.created_s,
        summary.size,
        summary.labels,
        summary.records,
    )


def boolean(name: str, values: Sequence[str]) -> bool:
    """One boolean; contradictions and anything else are refused."""
    found = {_BOOLEANS.get(value.lower()) for value in values}
    if len(found) != 1 or None in found:
        raise errors.InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")
    return True in found


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """`key`, or `key=value`."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def document(summary: Summary, containers: int = -1, shared_size: int = -1) -> dict[str, Any]:
    """ImageSummary of the Engine API."""
    target = summary.records[0].target
    return {
        "Containers": containers,
        "Created": summary.created_s,
        "Id": summary.id,
        "Labels": dict(summary.labels) or None,
        "ParentId": "",
        "RepoDigests": list(summary.names.digests),
        "RepoTags": list(summary.names.tags),
        "SharedSize": shared_size,
        "Size": summary.size,
        "Descriptor": target.document(),
    }
