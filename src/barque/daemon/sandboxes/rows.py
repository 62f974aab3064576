"""The rows of sandboxes: places in networks, their addresses, what is published."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from ipaddress import ip_address

from barque.daemon.database import Database
from barque.daemon.networks.records import EndpointRecord
from barque.daemon.sandboxes.state import SandboxState, held_port
from barque.network.firewall.rules import Published
from barque.network.ports import HostPort


class Rows:
    """Nothing here is promised to a user: a crash of the machine ends all sandboxes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[EndpointRecord]:
        rows = self._database.query("SELECT record FROM endpoints")
        return [EndpointRecord.load(text) for (text,) in rows]

    def networks_in_use(self) -> set[str]:
        return {network for (network,) in self._database.query("SELECT network FROM endpoints")}

    def members(self, network: str) -> list[EndpointRecord]:
        """The endpoints in a network."""
        rows = self._database.query("SELECT record FROM endpoints WHERE network = ?", network)
        return [EndpointRecord.load(text) for (text,) in rows]

    def published(self, container: str) -> list[Published]:
        """What is published of a container."""
        rows = self._database.query(
            "SELECT proto, host_ip, host_port, record FROM ports WHERE container = ?", container
        )
        found = []
        for protocol, host_ip, host_port, target in rows:
            held = HostPort(protocol, ip_address(host_ip), host_port)
            ip, _, port = target.rpartition(":")
            found.append(published(held, ip, int(port)))
        return found

    def write(self, state: SandboxState) -> None:
        """A sandbox that is new."""
        with self._database.transaction(durable=False) as tx:
            for endpoint in state.endpoints:
                _insert_endpoint(tx, endpoint)
            tx.executemany(
                "INSERT INTO ports VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        p.protocol,
                        str(p.host_ip),
                        p.host_port,
                        state.container,
                        f"{p.container_ip}:{p.container_port}",  # the last colon parts them
                    )
                    for p in state.published
                ],
            )

    def add(self, endpoint: EndpointRecord) -> None:
        with self._database.transaction(durable=False) as tx:
            _insert_endpoint(tx, endpoint)

    def update(self, endpoints: Iterable[EndpointRecord]) -> None:
        with self._database.transaction(durable=False) as tx:
            for endpoint in endpoints:
                tx.execute(
                    "UPDATE endpoints SET record = ? WHERE container = ? AND network = ?",
                    (endpoint.dump(), endpoint.container, endpoint.network),
                )

    def weigh_anchor(self, container: str) -> None:
        """A sandbox that is in a network needs its anchor no more."""
        with self._database.transaction(durable=False) as tx:
            tx.execute("DELETE FROM endpoints WHERE container = ? AND network = ''", (container,))

    def remove(
        self,
        endpoint: EndpointRecord,
        ports: Iterable[Published],
        anchor: EndpointRecord | None,
    ) -> None:
        """One place, with `ports` that were published through it; `anchor` takes its stead."""
        with self._database.transaction(durable=False) as tx:
            for table in ("endpoints", "addresses"):
                tx.execute(
                    f"DELETE FROM {table} WHERE container = ? AND network = ?",
                    (endpoint.container, endpoint.network),
                )
            if anchor is not None:
                _insert_endpoint(tx, anchor)
            tx.executemany(
                "DELETE FROM ports WHERE proto = ? AND host_ip = ? AND host_port = ?",
                [(h.protocol, str(h.host_ip), h.port) for h in map(held_port, ports)],
            )

    def forget(self, container: str) -> None:
        """All of a sandbox. Safe to run twice."""
        with self._database.transaction(durable=False) as tx:
            for table in ("endpoints", "addresses", "ports"):
                tx.execute(f"DELETE FROM {table} WHERE container = ?", (container,))


def _insert_endpoint(tx: sqlite3.Connection, endpoint: EndpointRecord) -> None:
    key = (endpoint.container, endpoint.network)
    tx.execute("INSERT INTO endpoints VALUES (?, ?, ?)", (*key, endpoint.dump()))
    for address in endpoint.addresses:
        row = (endpoint.network, address, endpoint.container)
        tx.execute("INSERT INTO addresses VALUES (?, ?, ?)", row)


def published(held: HostPort, ip: str, container_port: int) -> Published:
    return Published(held.protocol, held.host_ip, held.port, ip_address(ip), container_port)
