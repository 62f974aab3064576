"""Sandboxes: what each running container has of the network, from attach to detach.

A row is written before the kernel is touched and deleted after it was cleaned, so whatever a crash
leaves has a row, and `restore` finishes the removal. The kernel's part runs in one worker thread,
in the order it was asked for; everything else on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from barque import errors
from barque.daemon.database import Database
from barque.daemon.names import Names
from barque.daemon.networks.places import Places
from barque.daemon.networks.plugins import Joined
from barque.daemon.networks.records import (
    EndpointRecord,
    NetworkRecord,
    ports_document,
    sandbox_settings,
)
from barque.daemon.networks.registry import Registry
from barque.daemon.networks.worker import Worker
from barque.daemon.proxies import Proxies
from barque.daemon.sandboxes.endpoints import Endpoints
from barque.daemon.sandboxes.plugs import Bridges
from barque.daemon.sandboxes.rows import Rows
from barque.daemon.sandboxes.state import Asked, SandboxState, held_port
from barque.network.firewall.rules import Published
from barque.network.host import Host
from barque.network.pool import Namespace
from barque.network.ports import HostPorts, PortRequest

log = logging.getLogger(__name__)


class Sandboxes:
    def __init__(
        self,
        database: Database,
        registry: Registry,
        host: Host,
        worker: Worker,
        ports: HostPorts,
        names: Names,
        proxies: Proxies,
    ) -> None:
        self.rows = Rows(database)
        self.bridges = Bridges()
        self._endpoints = Endpoints(
            registry, ports, ipv6=host.ipv6_rules, crossing=6 in proxies.versions
        )
        self._registry = registry
        self._host = host
        self._worker = worker
        self._ports = ports
        self._names = names
        self._proxies = proxies
        self._places = Places(registry)
        self._states: dict[str, SandboxState] = {}

    def get(self, container: str) -> SandboxState | None:
        return self._states.get(container)

    def find(self, reference: str) -> SandboxState | None:
        """By container id, or by its name."""
        found = self._states.get(reference)
        named = (state for state in self._states.values() if state.name == reference)
        return found or next(named, None)

    def __len__(self) -> int:
        return len(self._states)

    def ids(self) -> list[str]:
        """Of those that are whole and have a namespace."""
        return [state.id for state in self._states.values() if state.settled and state.id]

    def states_in(self, network: str) -> list[SandboxState]:
        """The sandboxes that have a place in a network: those that are whole and stay."""
        return [
            s
            for s in self._states.values()
            if s.settled and any(e.network == network for e in s.endpoints)
        ]

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
        state.settled = True
        return state

    async def _assemble(
        self, state: SandboxState, asked: Sequence[Asked], requests: Sequence[PortRequest]
    ) -> None:
        ordered = [
            await self._lease(state, one) for one in sorted(asked, key=lambda one: one.order)
        ]
        if state.mode == "host":
            state.endpoints = [self._endpoints.plain(state, one) for one in ordered]
            self.rows.write(state)
            return
        wired = bool(ordered[0].network.bridge)
        namespace = await self._namespace(wired=wired, host_users=state.host_users)
        try:
            state.id, state.path = namespace.id, namespace.path
            for number, one in enumerate(ordered):
                self._registry.refuse_closed(one.network)
                state.endpoints.append(self._endpoints.choose(state, one, number))
            self._endpoints.reserve(state, requests)
            self.rows.write(state)
            joined = await self._join(state, state.endpoints)
            plugs = self.bridges.plugs(state.endpoints, asked, joined)
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
        self._serve(state)
        await self._tell_way_out(state)

    async def _tell_way_out(self, state: SandboxState) -> None:
        """The plugin of the place that leads out is told so."""
        way = next((e for e in state.endpoints if e.gateway or e.gateway6), None)
        if way is not None and not way.external and self._places.is_remote(way):
            self._revise(state, replace(way, external=True))
            await self._places.lead_out(way, state.bindings)

    async def _lease(self, state: SandboxState, asked: Asked) -> Asked:
        network, leases = asked.network, state.leases.setdefault(asked.network.id, [])
        leased = await self._places.lease(network, asked.address)
        leases += [leased] if leased else []
        leased6 = await self._places.lease(network, asked.address6, sixth=True)
        leases += [leased6] if leased6 else []
        return replace(asked, leased=leased, leased6=leased6)

    async def _join(
        self, state: SandboxState, endpoints: Sequence[EndpointRecord]
    ) -> dict[str, Joined]:
        """What plugins made for their `endpoints`, whose rows are there already; by endpoint."""
        found = {}
        for endpoint in [e for e in endpoints if self._places.is_remote(e)]:
            made, found[endpoint.id] = await self._places.join(
                endpoint, str(state.path), state.bindings
            )
            self._revise(state, made)
        return found

    def names_of(self, state: SandboxState) -> dict[str, Any]:
        """What the resolver must know of a sandbox."""
        places = []
        for endpoint in state.endpoints:
            network = self._registry.get(endpoint.network)
            if endpoint.named and network is not None:
                places.append(endpoint.names_document(network.name))
        return {
            "sandbox": state.id,
            "path": str(state.path),
            "servers": state.reachable_servers(),
            "places": places,
        }

    async def _namespace(self, *, wired: bool, host_users: bool) -> Namespace:
        """A namespace from the stock, or made now: the stock is of the users that most have."""
        pool = self._host.pool
        found = pool.warm() if wired and not (host_users and pool.remapped) else None
        if found is not None:
            return found
        return await self._worker(pool.make, wired=wired, host_users=host_users)

    async def connect(self, state: SandboxState, asked: Asked) -> None:
        """One more place for a live sandbox. It gets the default route when there is none yet."""
        number = 1 + max((e.number for e in state.endpoints), default=-1)
        try:
            asked = await self._lease(state, asked)
            self._registry.refuse_closed(asked.network)
            endpoint = replace(self._endpoints.choose(state, asked, number), whole=False)
        except BaseException:
            await asyncio.shield(self._give_back(state, asked.network.id))
            raise
        first = (
            not any(e.gateway for e in state.endpoints),
            not any(e.gateway6 for e in state.endpoints),
        )
        state.endpoints.append(endpoint)
        try:
            self.rows.add(endpoint)
            joined = await self._join(state, [endpoint])
            endpoint = next(e for e in state.endpoints if e.id == endpoint.id)
            plug = self.bridges.plug(
                endpoint,
                asked.network,
                first,
                joined=joined.get(endpoint.id),
                sysctls=asked.sysctls,
            )
            await self._worker(self._host.connect, state.id, plug)
            self._revise(state, replace(endpoint, whole=True))
            self.rows.weigh_anchor(state.container)
            state.endpoints = [e for e in state.endpoints if e.network]
            await self._tell_way_out(state)
            await self._tell_names(state)
        except BaseException as error:
            await asyncio.shield(self.leave(state, endpoint))
            if isinstance(error, OSError):
                raise errors.Unavailable(f"network {asked.network.name}: {error}") from error
            raise

    async def disconnect(self, state: SandboxState, network: NetworkRecord) -> None:
        """Take a live sandbox out of a network."""
        endpoint = next(e for e in state.endpoints if e.network == network.id)
        self._revise(state, replace(endpoint, whole=False))
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
        self.rows.update(state.endpoints)
        await self._tell_names(state)

    async def leave(self, state: SandboxState, endpoint: EndpointRecord) -> None:
        """Take one place of a live sandbox away, with what is published through it.

        The default route goes through the first place left that has a way out.
        """
        published = state.ports_through(endpoint)
        endpoint = next((e for e in state.endpoints if e.id == endpoint.id), endpoint)
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
        anchor = None if rest else state.anchor()
        self.rows.remove(endpoint, published, anchor)
        await self._release(published)
        state.published = [port for port in state.published if port not in published]
        state.endpoints = rest if anchor is None else [anchor]
        self._registry.release(endpoint.network, endpoint.addresses)
        await self._lead_out(state, endpoint)
        try:
            await self._tell_way_out(state)
        except errors.BarqueError as error:
            log.warning("container %s: %s", state.name, error)

    async def _lead_out(self, state: SandboxState, gone: EndpointRecord) -> None:
        """Another place has the default route of each family that `gone` had."""
        for attribute in ("gateway", "gateway6"):
            routed = next((e for e in state.endpoints if getattr(e, attribute)), None)
            if routed is not None and getattr(gone, attribute):
                gateway = ip_address(getattr(routed, attribute))
                await self._worker(self._host.set_gateway, state.id, routed.inner_link, gateway)

    async def _give_back(self, state: SandboxState, network: str) -> None:
        await self._places.give_back(network, state.leases.pop(network, []))

    def _revise(self, state: SandboxState, endpoint: EndpointRecord) -> None:
        self.rows.update([endpoint])
        state.revised(endpoint)

    async def dismantle(self, container: str) -> None:
        """Remove a container's sandbox: kernel, rows, ports, addresses. Safe to run twice."""
        state = self._states.get(container)
        if state is None:
            return
        state.settled = False
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
        await self._release(state.published)
        self._forget(state)

    async def _release(self, published: Sequence[Published]) -> None:
        """Let go of host ports. Safe to run twice."""
        held = [held_port(port) for port in published]
        await self._proxies.withdraw(held)
        for port in held:
            self._ports.release(port)

    def _serve(self, state: SandboxState) -> None:
        """Let the proxy serve those host ports that are its."""
        for port in state.published:
            held = held_port(port)
            opened = self._ports.socket_of(held)
            if opened is not None and not port.is_opened:
                self._proxies.publish(held, opened, (str(port.container_ip), port.container_port))

    def _forget(self, state: SandboxState) -> None:
        self.rows.forget(state.container)
        for endpoint in state.endpoints:
            self._registry.release(endpoint.network, endpoint.addresses)
        self._states.pop(state.container, None)

    def take_over(self) -> list[SandboxState]:
        """All sandboxes that have rows, as they were; their addresses are marked, ports held."""
        by_container: dict[str, list[EndpointRecord]] = {}
        for endpoint in self.rows.all():
            by_container.setdefault(endpoint.container, []).append(endpoint)
        for container, endpoints in by_container.items():
            self._states[container] = self._revived(container, endpoints)
        return list(self._states.values())

    def _revived(self, container: str, endpoints: list[EndpointRecord]) -> SandboxState:
        first = endpoints[0]
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
            published=self.rows.published(container),
            settled=True,
        )
        for endpoint in endpoints:
            self._registry.take(endpoint.network, endpoint.addresses)
            if endpoint.addresses and self._registry.get(endpoint.network) is not None:
                state.leases[endpoint.network] = endpoint.addresses
        return state

    def hold_ports(self, state: SandboxState) -> None:
        """Hold the host ports of a sandbox that was taken over."""
        for port in state.published:
            held = held_port(port)
            if port.is_opened:
                continue
            if not self._ports.adopt(held, self._proxies.taken(held)):
                log.warning("host port %s of %s is held by another program", held, state.name)
        self._serve(state)

    def repair(self, state: SandboxState) -> None:
        """Make a live sandbox's links ports of their bridges again. In the worker thread."""
        for endpoint in state.endpoints:
            bridge = self.bridges.get(endpoint.network)
            network = self._registry.get(endpoint.network)
            if not (endpoint.host_link and endpoint.whole and bridge) or network is None:
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
