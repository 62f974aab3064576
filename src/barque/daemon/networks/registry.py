"""The networks a daemon knows: records by id, name and id prefix, and their address spaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from barque import errors
from barque.daemon.database import Database
from barque.daemon.networks.records import NetworkRecord
from barque.network.ipam import AddressSpace, AddressSpace6


class Registry:
    """All networks, in memory and in the table `networks`. Used from the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records: dict[str, NetworkRecord] = {}
        self._spaces: dict[str, AddressSpace] = {}
        self._spaces6: dict[str, AddressSpace6] = {}
        self._closed: set[str] = set()
        for (text,) in database.query("SELECT record FROM networks"):
            self._remember(NetworkRecord.load(text))

    def _remember(self, record: NetworkRecord) -> None:
        self._records[record.id] = record
        space = record.space()
        if space is not None:
            self._spaces[record.id] = space
        space6 = record.space6()
        if space6 is not None:
            self._spaces6[record.id] = space6
        else:
            self._spaces6.pop(record.id, None)

    def __iter__(self) -> Iterator[NetworkRecord]:
        return iter(sorted(self._records.values(), key=lambda record: record.created))

    def named(self, name: str) -> NetworkRecord | None:
        return next((r for r in self._records.values() if r.name == name), None)

    def resolve(self, reference: str) -> NetworkRecord:
        """By id, name or unambiguous id prefix, in this order. Raises NotFound, InvalidArgument."""
        found = self.find(reference)
        if found is not None:
            return found
        matches = [r for key, r in self._records.items() if reference and key.startswith(reference)]
        if len(matches) > 1:
            raise errors.InvalidArgument(
                f"network {reference} is ambiguous ({len(matches)} matches found on ID prefix)"
            )
        if not matches:
            raise errors.NotFound(f"network {reference} not found")
        return matches[0]

    def find(self, reference: str) -> NetworkRecord | None:
        """By id or name, None when there is none."""
        return self._records.get(reference) or self.named(reference)

    def get(self, network_id: str) -> NetworkRecord | None:
        return self._records.get(network_id)

    @contextmanager
    def closed(self, record: NetworkRecord) -> Iterator[None]:
        """While the network is made, or removed: nobody gets a place in it."""
        self._closed.add(record.id)
        try:
            yield
        finally:
            self._closed.discard(record.id)

    def refuse_closed(self, record: NetworkRecord) -> None:
        """Raises NotFound for a network that is not there yet, or is about to go.

        Between this and the row of a place in it nothing may be awaited.
        """
        if record.id not in self._records or record.id in self._closed:
            raise errors.NotFound(f"network {record.name} not found")

    def space(self, network_id: str) -> AddressSpace | None:
        """None of a network without IPv4."""
        return self._spaces.get(network_id)

    def space6(self, network_id: str) -> AddressSpace6 | None:
        """None of a network without IPv6."""
        return self._spaces6.get(network_id)

    def take(self, network_id: str, addresses: Iterable[str]) -> None:
        """Mark `addresses`, which records of places in this network name."""
        for address in filter(None, addresses):
            if ":" not in address and network_id in self._spaces:
                self._spaces[network_id].take(IPv4Address(address))
            elif ":" in address and network_id in self._spaces6:
                self._spaces6[network_id].take(IPv6Address(address))

    def release(self, network_id: str, addresses: Iterable[str]) -> None:
        """Undo `take`. Safe to run twice."""
        for address in addresses:
            if ":" not in address and network_id in self._spaces:
                self._spaces[network_id].release(IPv4Address(address))
            elif ":" in address and network_id in self._spaces6:
                self._spaces6[network_id].release(IPv6Address(address))

    def put(self, record: NetworkRecord) -> None:
        """Add or replace a record. Raises AlreadyExists when its name is another's."""
        other = self.named(record.name)
        if other is not None and other.id != record.id:
            raise errors.AlreadyExists(f"network with name {record.name} already exists")
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT OR REPLACE INTO networks VALUES (?, ?, ?)",
                (record.id, record.name, record.dump()),
            )
        self._remember(record)

    def delete(self, record: NetworkRecord) -> None:
        """Forget a network. Safe to run twice."""
        with self._database.transaction() as tx:
            tx.execute("DELETE FROM networks WHERE id = ?", (record.id,))
        self._records.pop(record.id, None)
        self._spaces.pop(record.id, None)
        self._spaces6.pop(record.id, None)

    def subnets(self, besides: Sequence[str] = ()) -> list[IPv4Network]:
        return [
            IPv4Network(record.subnet)
            for record in self._records.values()
            if record.subnet and record.id not in besides
        ]

    def subnets6(self, besides: Sequence[str] = ()) -> list[IPv6Network]:
        return [
            IPv6Network(record.subnet6)
            for record in self._records.values()
            if record.subnet6 and record.id not in besides
        ]
