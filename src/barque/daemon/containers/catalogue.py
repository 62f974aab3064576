"""All containers: by id, by prefix of an id, by name; what the database says, held in memory.

A change is written before it is seen. A name belongs to one container from `take_name` on.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

import msgspec

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.record import Record
from barque.daemon.containers.state import State
from barque.daemon.database import Database

log = logging.getLogger(__name__)

_record = msgspec.json.Decoder(Record)
_state = msgspec.json.Decoder(State)


class Catalogue:
    def __init__(self, database: Database, driver: str = "overlayfs") -> None:
        """`driver`: the snapshotter in use; containers of another are kept, and not shown."""
        self._database = database
        self.driver = driver
        self.hidden: dict[str, Container] = {}
        self._by_id: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._ids: list[str] = []

    def load(self) -> None:
        """Read every row. Raises DataLoss for one that cannot be read."""
        for container_id, record, state in self._database.query(
            "SELECT id, record, state FROM containers ORDER BY id"
        ):
            try:
                container = Container(_record.decode(record), _state.decode(state))
            except msgspec.MsgspecError as error:
                raise errors.DataLoss(f"record of container {container_id}: {error}") from error
            if container.record.driver == self.driver:
                self._add(container)
            else:
                self.hidden[container.id] = container
                self._names.setdefault(container.name, container.id)

    def adopt(self, container: Container) -> None:
        """A hidden one is of the driver in use from now on, and shown."""
        container.record.driver = self.driver
        self.save_record(container)
        del self.hidden[container.id]
        self._add(container)

    def __iter__(self) -> Iterator[Container]:
        return iter(tuple(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._by_id

    def get(self, container_id: str) -> Container | None:
        """By exact id."""
        return self._by_id.get(container_id)

    def find(self, reference: str) -> Container:
        """By id, by name, by a prefix of the id that only one has. Raises NotFound."""
        found = self._by_id.get(reference)
        if found is None:
            named = self._names.get(reference.removeprefix("/"))
            found = self._by_id.get(named or "") or self._by_prefix(reference)
        if found is None:
            raise errors.NotFound(f"No such container: {reference}")
        return found

    def _by_prefix(self, prefix: str) -> Container | None:
        at = bisect_left(self._ids, prefix)
        matches = [item for item in self._ids[at : at + 2] if item.startswith(prefix)]
        if not prefix or not matches:
            return None
        if len(matches) > 1:
            raise errors.InvalidArgument(f"multiple IDs found with provided prefix: {prefix}")
        return self._by_id[matches[0]]

    def name_taken(self, name: str) -> bool:
        return name in self._names

    def take_name(self, name: str, container_id: str) -> None:
        """The name is the container's from now on. Raises AlreadyExists."""
        holder = self._names.get(name)
        if holder is not None and holder != container_id:
            raise errors.AlreadyExists(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{holder}". You have to remove (or rename) that container to be able to reuse '
                "that name."
            )
        self._names[name] = container_id

    def free_name(self, name: str) -> None:
        self._names.pop(name, None)

    def insert(self, container: Container) -> None:
        """Keep a new container: on disk before it is visible, unless it is one for a single run."""
        record = container.record
        with self._database.transaction(durable=not record.host.auto_remove) as tx:
            tx.execute(
                "INSERT INTO containers VALUES (?, ?, ?, ?)",
                (record.id, record.name, _text(record), _text(container.state)),
            )
        self._add(container)

    def _add(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._names[container.name] = container.id
        insort(self._ids, container.id)

    def save_state(self, container: Container) -> None:
        with self._database.transaction(durable=False) as tx:
            tx.execute(
                "UPDATE containers SET state = ? WHERE id = ?",
                (_text(container.state), container.id),
            )

    def save_record(self, container: Container) -> None:
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE containers SET record = ?, name = ? WHERE id = ?",
                (_text(container.record), container.name, container.id),
            )

    def rename(self, container: Container, name: str) -> None:
        """Raises AlreadyExists when another container has `name`."""
        old = container.name
        if name == old:
            return
        self.take_name(name, container.id)
        container.record.name = name
        try:
            self.save_record(container)
        except BaseException:
            container.record.name = old
            self.free_name(name)
            raise
        self.free_name(old)

    def hide(self, container: Container) -> None:
        """First step of a removal: the state is kept, the name is free, nobody finds it.

        A full disk does not keep it from being removed: that is what makes room.
        """
        try:
            with self._database.transaction(durable=False) as tx:
                tx.execute(
                    "UPDATE containers SET state = ?, name = id WHERE id = ?",
                    (_text(container.state), container.id),
                )
        except errors.ResourceExhausted as error:
            log.error("hiding container %s: %s", container.id, error)
        self._by_id.pop(container.id, None)
        at = bisect_left(self._ids, container.id)
        if self._ids[at : at + 1] == [container.id]:
            del self._ids[at]
        if self._names.get(container.name) == container.id:
            del self._names[container.name]

    def forget(self, container_id: str) -> None:
        """Last step of a removal: nothing of it is left, so the row goes."""
        with self._database.transaction(durable=False) as tx:
            tx.execute("DELETE FROM containers WHERE id = ?", (container_id,))

    def using_image(self, image_id: str) -> Iterable[Container]:
        return [container for container in self if container.record.image == image_id]


def _text(value: Record | State) -> str:
    return msgspec.json.encode(value).decode()
