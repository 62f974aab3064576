"""Who is called what: the names that a container on user-defined networks can ask for. Pure.

A place is a container's presence in one network. A name is looked for in the networks of the
asking container, in their order; the first that knows it answers. `name.network` is known too.
"""

from __future__ import annotations

from barque.network.dns import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Place:
    """A container's place in a network, from its document in the control protocol."""

    __slots__ = ("addresses", "links", "names", "network", "network_name", "ports")

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.network: str = document["network"]
        self.network_name: str = document["network_name"].lower()
        self.names: tuple[str, ...] = tuple(name.lower() for name in document["names"])
        self.addresses = tuple(bytes.fromhex(text) for text in document["addresses"])
        self.links: dict[str, str] = {
            alias.lower(): target.lower() for alias, target in document["links"].items()
        }
        self.ports: frozenset[str] = frozenset(document["ports"])  # "80/tcp"

    @property
    def full_name(self) -> str:
        """What a reverse look-up says: the container's name, then the network's."""
        return f"{self.names[0]}.{self.network_name}"


class Zone:
    """All places by network and name."""

    def __init__(self) -> None:
        self._sandboxes: dict[str, tuple[Place, ...]] = {}
        self._names: dict[tuple[str, str], list[Place]] = {}
        self._addresses: dict[tuple[str, bytes], Place] = {}

    def __contains__(self, sandbox: str) -> bool:
        return sandbox in self._sandboxes

    def put(self, sandbox: str, places: Iterable[Place]) -> None:
        """Replace what is known of `sandbox`."""
        self.drop(sandbox)
        self._sandboxes[sandbox] = tuple(places)
        for place in self._sandboxes[sandbox]:
            for name in dict.fromkeys(place.names):
                self._names.setdefault((place.network, name), []).append(place)
            for address in place.addresses:
                self._addresses[place.network, address] = place

    def drop(self, sandbox: str) -> None:
        """Forget a sandbox. Safe to call again."""
        for place in self._sandboxes.pop(sandbox, ()):
            for name in dict.fromkeys(place.names):
                key = (place.network, name)
                rest = [other for other in self._names[key] if other is not place]
                self._names[key] = rest
                if not rest:
                    del self._names[key]
            for address in place.addresses:
                if self._addresses.get((place.network, address)) is place:
                    del self._addresses[place.network, address]

    def find(self, sandbox: str, name: str) -> list[Place]:
        """The places that `name` means for `sandbox`, none when it means nothing."""
        places = self._sandboxes.get(sandbox, ())
        for place in places:
            linked = place.links.get(name)
            found = self._names.get((place.network, linked or name))
            if found:
                return found
        for place in places:
            suffix = f".{place.network_name}"
            if name.endswith(suffix):
                found = self._names.get((place.network, name[: -len(suffix)]))
                if found:
                    return found
        return []

    def answers(self, sandbox: str, query: wire.Query) -> list[bytes] | None:
        """The records that answer `query`; None when it is not ours to answer."""
        if query.kind in {wire.A, wire.AAAA, wire.MX}:
            found = self.find(sandbox, query.name)
            if not found:
                return None
            size = {wire.A: 4, wire.AAAA: 16}.get(query.kind, 0)
            addresses = [a for place in found for a in place.addresses if len(a) == size]
            return wire.address_records(query.kind, addresses)
        if query.kind == wire.PTR:
            return self._pointer(sandbox, query.name)
        if query.kind == wire.SRV:
            return self._service(sandbox, query.name)
        return None

    def _pointer(self, sandbox: str, name: str) -> list[bytes] | None:
        address = wire.address_of_pointer(name)
        if address is None:
            return None
        for place in self._sandboxes.get(sandbox, ()):
            owner = self._addresses.get((place.network, address))
            if owner is not None:
                return [wire.pointer_record(owner.full_name)]
        return None

    def _service(self, sandbox: str, name: str) -> list[bytes] | None:
        """`_8080._tcp.web`: the places called web that have the port open."""
        labels = name.split(".", 2)
        if len(labels) < 3 or not all(label.startswith("_") for label in labels[:2]):
            return None
        found = self.find(sandbox, labels[2])
        if not found:
            return None
        number, protocol = labels[0][1:], labels[1][1:]
        port = f"{number}/{protocol}"
        return [
            wire.service_record(int(number), place.full_name)
            for place in found
            if port in place.ports
        ]
