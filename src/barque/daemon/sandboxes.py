"""Sandboxes: what each running container has of the network, from attach to detach.

A row is written before the kernel is touched and deleted after it was cleaned, so whatever a crash
leaves has a row, and `restore` finishes the removal. The kernel's part runs in one worker thread,
in the order it was asked for; everything else on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from barque import errors
from barque.daemon.database import Database
from barque.daemon.names import Names
from barque.daemon.network_places import Places
from barque.daemon.network_plugins import Joined
from barque.daemon.network_records import (
    EndpointRecord,
    NetworkRecord,
    ports_document,
    sandbox_settings,
)
from barque.daemon.network_registry import Registry
from barque.network.host import Host
from barque.network.ipam import parse_address, parse_address6
from barque.network.pool import Namespace, host_link_name
from barque.network.ports import HostPort, HostPorts, PortRequest
from barque.network.rules import Published
from barque.network.wiring import Plug, format_mac, mac_of, parse_mac

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
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
    id: str = ""
    path: Path | None = None  # None in the host's namespace
    endpoints: list[EndpointRecord] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    leases: dict[str, str] = field(default_factory=dict)  # network -> address of a plugin's

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


class Worker:
    """One thread for the kernel's part: what is submitted runs in order."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*arguments, **named))

    def close(self) -> None:
        self._executor.shutdown()


class Sandboxes:
    def __init__(
        self,
        database: Database,
        registry: Registry,
        host: Host,
        worker: Worker,
        ports: HostPorts,
        names: Names,
    ) -> None:
        self._database = database
        self._registry = registry
        self._host = host
        self._worker = worker
        self._ports = ports
        self._names = names
        self._places = Places(registry)
        self._states: dict[str, SandboxState] = {}
        self._bridges: dict[str, int] = {}  # interface index of each network's bridge

    def get(self, container: str) -> SandboxState | None:
        return self._states.get(container)

    def find(self, reference: str) -> SandboxState | None:
        """By container id, or by its name."""
        found = self._states.get(reference)
        named = (state for state in self._states.values() if state.name == reference)
        return found or next(named, None)

    def networks_in_use(self) -> set[str]:
        return {network for (network,) in self._database.query("SELECT network FROM endpoints")}

    def __len__(self) -> int:
        return len(self._states)

    def set_bridge(self, network: str, index: int) -> None:
        self._bridges[network] = index

    def bridge(self, network: str) -> int:
        """The interface index of a network's bridge, 0 for none."""
        return self._bridges.get(network, 0)

    def states_in(self, network: str) -> list[SandboxState]:
        """The sandboxes that have a place in a network."""
        return [s for s in self._states.values() if any(e.network == network for e in s.endpoints)]

    def forget_bridge(self, network: str) -> None:
        self._bridges.pop(network, None)

    def members(self, network: str) -> list[EndpointRecord]:
        """The endpoints in a network."""
        rows = self._database.query("SELECT record FROM endpoints WHERE network = ?", network)
        return [EndpointRecord.load(text) for (text,) in rows]

    def sandbox_ids(self) -> list[str]:
        """The ids of all sandboxes that have rows."""
        return [endpoint.sandbox for endpoint in self._rows() if endpoint.sandbox]

    def host_links(self) -> list[str]:
        """The links of all sandboxes that have rows."""
        return [endpoint.host_link for endpoint in self._rows() if endpoint.host_link]

    def _rows(self) -> list[EndpointRecord]:
        rows = self._database.query("SELECT record FROM endpoints")
        return [EndpointRecord.load(text) for (text,) in rows]

    async def build(
        self, state: SandboxState, asked: Sequence[Asked], requests: Sequence[PortRequest]
    ) -> SandboxState:
        """Make the sandbox whole, or nothing of it.

        `state` has no endpoints yet; its mode tells which kind of namespace it gets. What an
        earlier removal could not take away is tried again first.
        """
        await self.dismantle(state.container)
        self._states[state.container] = state
        try:
            await self._assemble(state, asked, requests)
        except BaseException:
            await asyncio.shield(self.dismantle(state.container))
            raise
        return state

    async def _assemble(
        self, state: SandboxState, asked: Sequence[Asked], requests: Sequence[PortRequest]
    ) -> None:
        ordered = [
            await self._lease(state, one) for one in sorted(asked, key=lambda one: one.order)
        ]
        if state.mode == "host":
            state.endpoints = [self._plain_endpoint(state, one) for one in ordered]
            self._write(state)
            return
        namespace = await self._namespace(wired=bool(ordered[0].network.bridge))
        try:
            state.id, state.path = namespace.id, namespace.path
            for number, one in enumerate(ordered):
                state.endpoints.append(self._endpoint(state, one, number))
            self._reserve(state, requests)
            self._write(state)
            joined = await self._join(state, state.endpoints)
            plugs = self._plugs(state, asked, joined)
        except BaseException:
            namespace.close()
            raise
        steps = [self._worker(self._host.build, namespace, plugs, state.published)]
        if state.has_names:
            steps.append(self._names.put(self.names_of(state)))
        for failure in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(failure, OSError):
                words = f"network of container {state.container}: {failure}"
                raise errors.Unavailable(words) from failure
            if failure is not None:
                raise failure

    async def _lease(self, state: SandboxState, asked: Asked) -> Asked:
        leased = await self._places.lease(asked.network, asked.address)
        if leased:
            state.leases[asked.network.id] = leased
        return replace(asked, leased=leased)

    async def _join(
        self, state: SandboxState, endpoints: Sequence[EndpointRecord]
    ) -> dict[str, Joined]:
        """What plugins made for their `endpoints`, whose rows are there already; by endpoint."""
        found = {}
        for endpoint in [e for e in endpoints if self._places.is_remote(e)]:
            made, found[endpoint.id] = await self._places.join(
                endpoint, str(state.path), state.bindings
            )
            self._replace(state, made)
        return found

    def names_of(self, state: SandboxState) -> dict[str, Any]:
        """What the resolver must know of a sandbox."""
        places = []
        for endpoint in state.endpoints:
            network = self._registry.get(endpoint.network)
            if endpoint.named and network is not None:
                places.append(endpoint.names_document(network.name))
        routed = any(e.gateway for e in state.endpoints)
        return {
            "sandbox": state.id,
            "path": str(state.path),
            "servers": list(state.servers) if routed else [],
            "places": places,
        }

    async def _namespace(self, *, wired: bool) -> Namespace:
        """A namespace from the stock, or made now."""
        found = self._host.pool.warm() if wired else None
        return await self._worker(self._host.pool.make, wired=wired) if found is None else found

    def _plain_endpoint(self, state: SandboxState, asked: Asked) -> EndpointRecord:
        """A place in a network without addresses: host, none."""
        return EndpointRecord(
            id=secrets.token_hex(ID_BYTES),
            network=asked.network.id,
            sandbox=state.id,
            container=state.container,
            name=state.name,
            hostname=state.hostname,
            domainname=state.domainname,
            mode=state.mode,
            bindings=state.bindings,
            aliases=asked.aliases,
            links=asked.links,
            driver_options=asked.driver_options,
            servers=state.servers,
            named=asked.network.has_names,
        )

    def _endpoint(self, state: SandboxState, asked: Asked, number: int) -> EndpointRecord:
        """Choose and mark the address of a place in a network."""
        plain = self._plain_endpoint(state, asked)
        network = asked.network
        if not network.subnet:
            return plain
        space = self._registry.space(network.id)
        wanted = asked.leased or asked.address
        address = space.pick(parse_address(wanted) if wanted else None)
        mac = parse_mac(asked.mac) if asked.mac else mac_of(address)
        gateway = network.gateway_of_containers()
        address6, gateway6 = self._address6(asked)
        self._registry.take(network.id, [str(address), address6.partition("/")[0]])
        return replace(
            plain,
            address=f"{address}/{space.subnet.prefixlen}",
            gateway=str(gateway) if gateway else "",
            mac=format_mac(mac),
            host_link=host_link_name(state.id, number) if network.bridge else "",
            inner_link=f"eth{number}",
            address6=address6,
            gateway6=gateway6,
            asked_address6=asked.address6,
            asked_address=asked.address,
            asked_mac=asked.mac,
            gw_priority=asked.gw_priority,
        )

    def _address6(self, asked: Asked) -> tuple[str, str]:
        """The IPv6 address of a place, with its prefix, not yet marked, and its gateway."""
        space = self._registry.space6(asked.network.id)
        if space is None:
            if asked.address6:
                raise errors.InvalidArgument(
                    f"network {asked.network.name} has no IPv6: address {asked.address6} is not "
                    "possible in it"
                )
            return "", ""
        address = space.pick(parse_address6(asked.address6) if asked.address6 else None)
        gateway = asked.network.gateway6_of_containers()
        return f"{address}/{space.subnet.prefixlen}", str(gateway) if gateway else ""

    def _reserve(self, state: SandboxState, requests: Sequence[PortRequest]) -> None:
        """Hold the host's ports. Raises BarqueError with Docker's words."""
        exposed = [e for e in state.endpoints if e.gateway and self._publishes(e)]
        if not requests or not exposed:
            return
        endpoint = exposed[0]
        for request in requests:
            _check_family(request, endpoint)
            try:
                held = self._ports.reserve(request, sixth=bool(endpoint.ip6))
            except errors.BarqueError as error:
                raise errors.BarqueError(
                    "driver failed programming external connectivity on endpoint "
                    f"{state.name} ({endpoint.id}): {error}"
                ) from error
            for port in held:
                target = endpoint.ip if port.host_ip.version == 4 else endpoint.ip6
                state.published.append(_published(port, target, request.container_port))

    def _publishes(self, endpoint: EndpointRecord) -> bool:
        network = self._registry.get(endpoint.network)
        return network is not None and network.publishes

    def _write(self, state: SandboxState) -> None:
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

    def _plugs(
        self, state: SandboxState, asked: Sequence[Asked], joined: Mapping[str, Joined]
    ) -> list[Plug]:
        networks = {one.network.id: one.network for one in asked}
        plugs: list[Plug] = []
        routed = routed6 = False
        for endpoint in state.endpoints:
            network = networks[endpoint.network]
            if network.subnet:
                made = joined.get(endpoint.id)
                first = (not routed, not routed6)
                plugs.append(self._plug(endpoint, network, first, joined=made))
                routed = routed or bool(endpoint.gateway) or network.is_routed
                routed6 = routed6 or bool(endpoint.gateway6)
        return plugs

    def _plug(
        self,
        endpoint: EndpointRecord,
        network: NetworkRecord,
        leads: tuple[bool, bool],
        *,
        joined: Joined | None = None,
    ) -> Plug:
        """`leads`: whether the default route, and that of IPv6, goes through here if it can."""
        first, first6 = leads
        bridge = self._bridges.get(network.id, 0) if network.bridge else 0
        if network.bridge and not bridge:
            raise errors.Unavailable(f"network {network.name} could not be made on this host")
        return Plug(
            bridge=bridge,
            host_link=endpoint.host_link,
            inner_link=endpoint.inner_link,
            mac=parse_mac(endpoint.mac) if endpoint.mac else b"",
            address=IPv4Interface(endpoint.address),
            gateway=IPv4Address(endpoint.gateway) if endpoint.gateway and first else None,
            mtu=network.mtu,
            isolated=not network.icc,
            uplink=None if network.bridge else network.leads,
            device_route=network.is_routed and first,
            source=joined.source if joined else "",
            routes=joined.routes if joined else (),
            address6=IPv6Interface(endpoint.address6) if endpoint.address6 else None,
            gateway6=IPv6Address(endpoint.gateway6) if endpoint.gateway6 and first6 else None,
        )

    async def connect(self, state: SandboxState, asked: Asked) -> None:
        """One more place for a live sandbox. It gets the default route when there is none yet."""
        number = 1 + max((e.number for e in state.endpoints), default=-1)
        asked = await self._lease(state, asked)
        try:
            endpoint = replace(self._endpoint(state, asked, number), whole=False)
        except BaseException:
            await asyncio.shield(self._give_back(state, asked.network.id))
            raise
        first = (
            not any(e.gateway for e in state.endpoints),
            not any(e.gateway6 for e in state.endpoints),
        )
        state.endpoints.append(endpoint)
        try:
            self._write_endpoint(endpoint)
            joined = await self._join(state, [endpoint])
            endpoint = next(e for e in state.endpoints if e.id == endpoint.id)
            plug = self._plug(endpoint, asked.network, first, joined=joined.get(endpoint.id))
            await self._worker(self._host.connect, state.id, plug)
            self._mark(state, endpoint, whole=True)
            self._weigh(state)
            await self._tell_names(state)
        except BaseException as error:
            await asyncio.shield(self.leave(state, endpoint))
            if isinstance(error, OSError):
                raise errors.Unavailable(f"network {asked.network.name}: {error}") from error
            raise

    async def disconnect(self, state: SandboxState, network: NetworkRecord) -> None:
        """Take a live sandbox out of a network."""
        endpoint = next(e for e in state.endpoints if e.network == network.id)
        self._mark(state, endpoint, whole=False)
        await self.leave(state, endpoint)
        await self._tell_names(state)

    async def _tell_names(self, state: SandboxState) -> None:
        if state.has_names or state.id in self._names:
            await self._names.put(self.names_of(state))

    async def rename(self, container: str, name: str) -> None:
        """A live container has another name from now on."""
        state = self._states.get(container)
        if state is None:
            return
        state.name = name
        state.endpoints = [replace(endpoint, name=name) for endpoint in state.endpoints]
        with self._database.transaction(durable=False) as tx:
            for endpoint in state.endpoints:
                tx.execute(
                    "UPDATE endpoints SET record = ? WHERE container = ? AND network = ?",
                    (endpoint.dump(), endpoint.container, endpoint.network),
                )
        await self._tell_names(state)

    async def leave(self, state: SandboxState, endpoint: EndpointRecord) -> None:
        """Take one place of a live sandbox away, with what is published through it.

        The default route goes through the first place left that has a way out.
        """
        through = set(endpoint.addresses)
        published = [port for port in state.published if str(port.container_ip) in through]
        await self._worker(
            self._host.disconnect,
            state.id,
            endpoint.host_link,
            endpoint.inner_link,
            published,
            endpoint.source,
        )
        await self._places.leave(endpoint)
        await self._give_back(state, endpoint.network)
        rest = [e for e in state.endpoints if e.id != endpoint.id]
        anchor = None if rest else _anchor(state)
        with self._database.transaction(durable=False) as tx:
            for table in ("endpoints", "addresses"):
                tx.execute(
                    f"DELETE FROM {table} WHERE container = ? AND network = ?",
                    (state.container, endpoint.network),
                )
            if anchor is not None:
                _insert_endpoint(tx, anchor)
            tx.executemany(
                "DELETE FROM ports WHERE proto = ? AND host_ip = ? AND host_port = ?",
                [(p.protocol, str(p.host_ip), p.host_port) for p in published],
            )
        for port in published:
            self._ports.release(HostPort(port.protocol, port.host_ip, port.host_port))
        state.published = [port for port in state.published if port not in published]
        state.endpoints = rest if anchor is None else [anchor]
        self._registry.release(endpoint.network, endpoint.addresses)
        await self._lead_out(state, endpoint)

    async def _lead_out(self, state: SandboxState, gone: EndpointRecord) -> None:
        """Another place has the default route of each family that `gone` had."""
        for attribute in ("gateway", "gateway6"):
            routed = next((e for e in state.endpoints if getattr(e, attribute)), None)
            if routed is not None and getattr(gone, attribute):
                gateway = ip_address(getattr(routed, attribute))
                await self._worker(self._host.set_gateway, state.id, routed.inner_link, gateway)

    def _weigh(self, state: SandboxState) -> None:
        """A sandbox that is in a network needs its anchor no more."""
        with self._database.transaction(durable=False) as tx:
            tx.execute(
                "DELETE FROM endpoints WHERE container = ? AND network = ''", (state.container,)
            )
        state.endpoints = [e for e in state.endpoints if e.network]

    async def _give_back(self, state: SandboxState, network: str) -> None:
        await self._places.give_back(network, state.leases.pop(network, ""))

    def _mark(self, state: SandboxState, endpoint: EndpointRecord, *, whole: bool) -> None:
        self._replace(state, replace(endpoint, whole=whole))

    def _replace(self, state: SandboxState, marked: EndpointRecord) -> None:
        with self._database.transaction(durable=False) as tx:
            tx.execute(
                "UPDATE endpoints SET record = ? WHERE container = ? AND network = ?",
                (marked.dump(), marked.container, marked.network),
            )
        state.endpoints = [marked if e.id == marked.id else e for e in state.endpoints]

    def _write_endpoint(self, endpoint: EndpointRecord) -> None:
        with self._database.transaction(durable=False) as tx:
            _insert_endpoint(tx, endpoint)

    async def dismantle(self, container: str) -> None:
        """Remove a container's sandbox: kernel, rows, ports, addresses. Safe to run twice."""
        state = self._states.get(container)
        if state is None:
            return
        await self._names.drop(state.id)
        await self._worker(
            self._host.tear_down,
            state.path,
            state.host_links,
            list(state.published),
            state.own_links,
            state.moved_links,
        )
        for endpoint in state.endpoints:
            await self._places.leave(endpoint)
        for network in list(state.leases):
            await self._give_back(state, network)
        self._forget(state)

    def _forget(self, state: SandboxState) -> None:
        with self._database.transaction(durable=False) as tx:
            for table in ("endpoints", "addresses", "ports"):
                tx.execute(f"DELETE FROM {table} WHERE container = ?", (state.container,))
        for port in state.published:
            self._ports.release(HostPort(port.protocol, port.host_ip, port.host_port))
        for endpoint in state.endpoints:
            self._registry.release(endpoint.network, endpoint.addresses)
        self._states.pop(state.container, None)

    def take_over(self) -> list[SandboxState]:
        """All sandboxes that have rows, as they were; their addresses are marked, ports held."""
        by_container: dict[str, list[EndpointRecord]] = {}
        for endpoint in self._rows():
            by_container.setdefault(endpoint.container, []).append(endpoint)
        for container, endpoints in by_container.items():
            self._states[container] = self._revived(container, endpoints)
        return list(self._states.values())

    def _revived(self, container: str, endpoints: list[EndpointRecord]) -> SandboxState:
        first = endpoints[0]
        rows = self._database.query(
            "SELECT proto, host_ip, host_port, record FROM ports WHERE container = ?", container
        )
        state = SandboxState(
            container=container,
            name=first.name,
            hostname=first.hostname,
            domainname=first.domainname,
            mode=first.mode,
            bindings=first.bindings,
            servers=first.servers,
            id=first.sandbox,
            path=self._host.path_of(first.sandbox) if first.sandbox else None,
            endpoints=sorted(endpoints, key=lambda e: e.inner_link),
        )
        for endpoint in endpoints:
            self._registry.take(endpoint.network, endpoint.addresses)
            if endpoint.ip and self._registry.get(endpoint.network) is not None:
                state.leases[endpoint.network] = endpoint.ip
        for protocol, host_ip, host_port, target in rows:
            held = HostPort(protocol, ip_address(host_ip), host_port)
            ip, _, port = target.rpartition(":")
            state.published.append(_published(held, ip, int(port)))
        return state

    def hold_ports(self, state: SandboxState) -> None:
        """Hold the host ports of a sandbox that was taken over."""
        for port in state.published:
            held = HostPort(port.protocol, port.host_ip, port.host_port)
            if not self._ports.adopt(held):
                log.warning("host port %s of %s is held by another program", held, state.name)

    def repair(self, state: SandboxState) -> None:
        """Make a live sandbox's links ports of their bridges again. In the worker thread."""
        for endpoint in state.endpoints:
            bridge = self._bridges.get(endpoint.network)
            network = self._registry.get(endpoint.network)
            if not endpoint.host_link or bridge is None or network is None:
                continue
            wiring = self._host.wiring
            if not wiring.replug(endpoint.host_link, bridge, isolated=not network.icc):
                log.warning("link %s of container %s is gone", endpoint.host_link, state.name)

    def settings(self, state: SandboxState) -> dict[str, Any]:
        """The API's NetworkSettings."""
        named: dict[str, EndpointRecord] = {}
        for endpoint in [e for e in state.endpoints if e.network]:
            network = self._registry.get(endpoint.network)
            named[network.name if network else endpoint.network] = endpoint
        return sandbox_settings(
            sandbox=state.id,
            key=str(state.path) if state.path else "",
            ports=ports_document(state.bindings, state.published),
            endpoints=named,
        )


def _anchor(state: SandboxState) -> EndpointRecord:
    """The row of a live sandbox that is in no network, so that the next daemon knows it too."""
    return EndpointRecord(
        id=secrets.token_hex(ID_BYTES),
        network="",
        sandbox=state.id,
        container=state.container,
        name=state.name,
        hostname=state.hostname,
        domainname=state.domainname,
        mode=state.mode,
        bindings=state.bindings,
        servers=state.servers,
    )


def _insert_endpoint(tx: sqlite3.Connection, endpoint: EndpointRecord) -> None:
    key = (endpoint.container, endpoint.network)
    tx.execute("INSERT INTO endpoints VALUES (?, ?, ?)", (*key, endpoint.dump()))
    for address in endpoint.addresses:
        row = (endpoint.network, address, endpoint.container)
        tx.execute("INSERT INTO addresses VALUES (?, ?, ?)", row)


def _published(held: HostPort, ip: str, container_port: int) -> Published:
    return Published(held.protocol, held.host_ip, held.port, ip_address(ip), container_port)


def _check_family(request: PortRequest, endpoint: EndpointRecord) -> None:
    if request.host_ip.version == 6 and not endpoint.ip6:
        raise errors.Unsupported(
            f"port {request.container_port}/{request.protocol} on the IPv6 address "
            f"{request.host_ip}: the container is in no IPv6 network"
        )
