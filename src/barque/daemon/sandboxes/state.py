"""What is known of a running container's sandbox, and of the networks it is asked to be in."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barque.daemon.networks.records import EndpointRecord, NetworkRecord
from barque.network.firewall.rules import Published
from barque.network.ports import HostPort

ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """A network a container is to be in, with the EndpointSettings that were asked for."""

    network: NetworkRecord
    address: str = ""
    address6: str = ""
    mac: str = ""
    gw_priority: int = 0
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_options: Mapping[str, str] = field(default_factory=dict)
    leased: str = ""  # the address that the plugin that keeps them gave
    leased6: str = ""
    link_local: tuple[str, ...] = ()  # more addresses of its interface
    ifname: str = ""  # of its interface; "" for the next ethN
    sysctls: tuple[str, ...] = ()  # net.FAMILY.KIND.IFNAME.KEY=VALUE

    @property
    def order(self) -> tuple[bool, int, str]:
        """The first in this order gets eth0, the default route and the published ports."""
        return not self.network.leads_out, -self.gw_priority, self.network.name


@dataclass
class SandboxState:
    """One container's sandbox as it stands; fills up while it is built."""

    container: str
    name: str
    hostname: str
    domainname: str
    mode: str
    bindings: Mapping[str, Any] = field(default_factory=dict)
    servers: Sequence[tuple[str, bool]] = ()  # who answers what is no container's name
    host_users: bool = True  # its namespace belongs to the machine's user namespace
    id: str = ""
    settled: bool = False  # whole, and not going
    path: Path | None = None  # None in the host's namespace
    endpoints: list[EndpointRecord] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    leases: dict[str, list[str]] = field(default_factory=dict)  # network -> a plugin's addresses

    @property
    def has_names(self) -> bool:
        """Whether it has a resolver of its own."""
        return any(endpoint.named for endpoint in self.endpoints)

    @property
    def host_links(self) -> list[str]:
        return [endpoint.host_link for endpoint in self.endpoints if endpoint.host_link]

    @property
    def own_links(self) -> list[str]:
        """Interfaces that have no other end on the host."""
        named = [e for e in self.endpoints if e.inner_link and not e.host_link]
        return [e.inner_link for e in named if not e.source]

    @property
    def moved_links(self) -> list[tuple[str, str]]:
        """Interfaces that plugins made, and what they are called on the host."""
        return [(e.inner_link, e.source) for e in self.endpoints if e.source]

    def reachable_servers(self) -> list[tuple[str, bool]]:
        """`servers`; none without a way out, and the host asks where only the host has IPv4."""
        if any(endpoint.gateway for endpoint in self.endpoints):
            return list(self.servers)
        if any(endpoint.gateway6 for endpoint in self.endpoints):
            return [(server, by_host or ":" not in server) for server, by_host in self.servers]
        return []

    def ports_through(self, endpoint: EndpointRecord) -> list[Published]:
        """What is published by way of one of its places."""
        through = set(endpoint.addresses)
        return [port for port in self.published if str(port.container_ip) in through]

    def revised(self, endpoint: EndpointRecord) -> None:
        """The place of this id is as `endpoint` says from now on."""
        self.endpoints = [endpoint if e.id == endpoint.id else e for e in self.endpoints]

    def anchor(self) -> EndpointRecord:
        """The row of a live sandbox that is in no network: the next daemon knows it too."""
        return EndpointRecord(
            id=secrets.token_hex(ID_BYTES),
            network="",
            sandbox=self.id,
            container=self.container,
            name=self.name,
            hostname=self.hostname,
            domainname=self.domainname,
            mode=self.mode,
            bindings=self.bindings,
            servers=self.servers,
        )


def held_port(port: Published) -> HostPort:
    """The host's side of what is published."""
    return HostPort(port.protocol, port.host_ip, port.host_port)
