"""All names of all images in memory, by name, by image and by target. No I/O.

Filled once from a listing, then kept true by every change: so no question about names or ids ever
lists the store.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from barque.daemon.images import names
from barque.daemon.images.names import Names
from barque.daemon.images.store import Record


class Catalog:
    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._ids: dict[str, str] = {}  # name -> image id
        self._names: dict[str, dict[str, None]] = {}  # image id -> names, in order of arrival
        self._described: dict[str, Names] = {}  # image id -> its names as they are shown
        self._targets: dict[str, dict[str, None]] = {}  # digest of the target -> names
        self._sorted: list[tuple[str, str]] | None = []  # (digits, id) of all images

    def __len__(self) -> int:
        """How many images there are, not how many names."""
        return len(self._names)

    def put(self, record: Record, image_id: str) -> None:
        self.drop(record.name)
        self._records[record.name] = record
        self._ids[record.name] = image_id
        self._described.pop(image_id, None)
        if image_id not in self._names:
            self._sorted = None
        self._names.setdefault(image_id, {})[record.name] = None
        self._targets.setdefault(record.target.digest, {})[record.name] = None

    def drop(self, name: str) -> None:
        record = self._records.pop(name, None)
        if record is None:
            return
        image_id = self._ids.pop(name)
        self._described.pop(image_id, None)
        if _discard(self._names, image_id, name):
            self._sorted = None
        _discard(self._targets, record.target.digest, name)

    def record(self, name: str) -> Record | None:
        return self._records.get(name)

    def id_of(self, name: str) -> str | None:
        return self._ids.get(name)

    def images(self) -> Iterator[tuple[str, list[Record]]]:
        """Each image with its records."""
        for image_id, found in list(self._names.items()):
            yield image_id, [self._records[name] for name in found]

    def records_of(self, image_id: str) -> list[Record]:
        return [self._records[name] for name in self._names.get(image_id, ())]

    def names_of(self, image_id: str) -> Names:
        found = self._described.get(image_id)
        if found is None:
            found = names.describe(
                (record.name, record.target.digest, names.PULLED_LABEL in record.labels)
                for record in self.records_of(image_id)
            )
            if image_id in self._names:
                self._described[image_id] = found
        return found

    def tagged(self, repository: str) -> list[Record]:
        """All records of `repository` (full, without tag) that have a tag. Looks at every name."""
        names_found = (n for n in self._records if n.startswith(repository + ":"))
        return [self._records[name] for name in sorted(names_found) if "@" not in name]

    def with_digest(self, repository: str, target: str) -> Record | None:
        """A record of `repository` (full, without tag) that a registry knows as `target`."""
        for name in self._targets.get(target, ()):
            record = self._records[name]
            of_repository = name.startswith((repository + ":", repository + "@"))
            if of_repository and names.PULLED_LABEL in record.labels:
                return record
        return None

    def ids_with_prefix(self, digits: str) -> list[str]:
        """At most two: more make no difference."""
        if self._sorted is None:
            self._sorted = sorted((id_.partition(":")[2], id_) for id_ in self._names)
        start = bisect_left(self._sorted, (digits, ""))
        return [id_ for found, id_ in self._sorted[start : start + 2] if found.startswith(digits)]


def _discard(table: dict[str, dict[str, None]], key: str, name: str) -> bool:
    """Whether `name` was the last of `key`."""
    entries = table[key]
    del entries[name]
    if entries:
        return False
    del table[key]
    return True
