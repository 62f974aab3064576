"""The networks service: what containers, routes and the composition root call.

start    bridge of the default network, warm namespaces; before anything else
restore  sandboxes of live containers taken over, all others removed, rules loaded
attach   a sandbox for a container that is about to start
detach   gone; safe to call again
close    at the daemon's end: containers that run keep what they have
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon import network_filters, network_plugins
from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.moments import rfc3339_now
from barque.daemon.names import Names
from barque.daemon.network_create import first_address, first_address6, parse_create
from barque.daemon.network_records import (
    BRIDGE_OPTION,
    MTU_OPTION,
    EndpointRecord,
    NetworkRecord,
    sandbox_settings,
)
from barque.daemon.network_registry import Registry
from barque.daemon.sandboxes import Asked, Sandboxes, SandboxState, Worker
from barque.network import files
from barque.network.host import DefaultBridge, Host
from barque.network.ipam import parse_address, parse_network
from barque.network.options import NO_BRIDGE, DnsOptions, NetworkOptions
from barque.network.pool import Pool
from barque.network.ports import HostPorts, local_port_range, parse_bindings
from barque.network.uplinks import Uplink, vlan_of
from barque.network.watch import AddressWatch, RulesWatch

log = logging.getLogger(__name__)

CONTAINER_MODE = "container:"
ID_BYTES = 32
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"
HOST_RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
HOST_HOSTS = Path("/etc/hosts")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a container gets. `netns` is None in the host's namespace."""

    netns: str | None
    settings: dict[str, Any]  # the API's NetworkSettings
    hosts: str  # contents of /etc/hosts
    resolv_conf: str  # contents of /etc/resolv.conf


@dataclass(frozen=True, slots=True)
class NameFiles:
    """What a container's files say because of the networks it is in now."""

    hosts: tuple[str, ...]  # lines of /etc/hosts: its own addresses
    resolv_conf: str


class Networks:
    def __init__(
        self,
        database: Database,
        events: Events,
        *,
        owner: str,
        netns: Path,
        maker_argv: Sequence[str],
        names: Names,
        options: NetworkOptions | None = None,
    ) -> None:
        """`owner` is what tells this daemon's bridges and rules from others': its data root."""
        self._database = database
        self._events = events
        self._options = options or NetworkOptions()
        self._registry = Registry(database)
        self._host = Host(owner, netns, maker_argv, self._options)
        self._worker = Worker()
        self._ports = HostPorts(local_port_range())
        self._names = names
        self._sandboxes = Sandboxes(
            database, self._registry, self._host, self._worker, self._ports, names
        )
        self._loading: asyncio.Task[None] | None = None
        self._watch: RulesWatch | None = None
        self._addresses: AddressWatch | None = None
        self._repairs: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()  # one network is made or removed at a time

    # -- the daemon's own life

    async def start(self) -> None:
        """Make the default bridge, begin to fill the pool, remove stale namespaces."""
        rows = self._sandboxes.sandbox_ids()
        for name, driver in (("host", "host"), ("none", "null")):
            if self._registry.named(name) is None:
                record = NetworkRecord(secrets.token_hex(ID_BYTES), name, driver, rfc3339_now())
                self._registry.put(record)
        default = await self._default_bridge(settled=bool(rows))
        bridges = [record.bridge for record in self._registry if record.bridge]
        links = self._sandboxes.host_links()
        await self._worker(self._host.start, default, rows, bridges, links)
        if default is not None:
            record = self._put_default(default)
            self._sandboxes.set_bridge(record.id, self._host.pool.bridge)

    async def _default_bridge(self, *, settled: bool) -> DefaultBridge | None:
        known = self._registry.named("bridge")
        if self._options.bridge == NO_BRIDGE:
            if known is not None:
                self._registry.delete(known)
            return None
        before = DefaultBridge(known.bridge, known.interface, known.interface6) if known else None
        besides = [known.id] if known else []
        taken, taken6 = self._registry.subnets(besides), self._registry.subnets6(besides)
        return await self._worker(self._host.default_bridge, before, taken, taken6, settled=settled)

    def _put_default(self, default: DefaultBridge) -> NetworkRecord:
        """The record of the default network as the options and the machine make it today."""
        options, known = self._options, self._registry.named("bridge")
        subnet, mtu = default.interface.network, options.mtu
        sixth = default.interface6
        record = NetworkRecord(
            id=known.id if known else secrets.token_hex(ID_BYTES),
            name="bridge",
            driver="bridge",
            created=known.created if known else rfc3339_now(),
            bridge=default.name,
            subnet=str(subnet),
            gateway=str(default.interface.ip),
            ip_range=str(parse_network(options.fixed_cidr)) if options.fixed_cidr else "",
            default_gateway=options.default_gateway,
            subnet_chosen=True,
            subnet6=str(sixth.network) if sixth else "",
            gateway6=str(sixth.ip) if sixth else "",
            default_gateway6=options.default_gateway_v6 if sixth else "",
            subnet6_chosen=sixth is not None,
            icc=options.icc,
            masquerade=options.ip_masq,
            mtu=mtu,
            host_ip=options.default_host_ip,
            options={
                BRIDGE_OPTION + "default_bridge": "true",
                BRIDGE_OPTION + "enable_icc": _word(options.icc),
                BRIDGE_OPTION + "enable_ip_masquerade": _word(options.ip_masq),
                BRIDGE_OPTION + "host_binding_ipv4": options.default_host_ip,
                BRIDGE_OPTION + "name": default.name,
                MTU_OPTION: str(mtu),
            },
        )
        record.space(), record.space6()  # refuses what does not fit before it is stored
        if record != known:
            self._registry.put(record)
        return record

    async def restore(self, live: Iterable[str]) -> None:
        """Take over the sandboxes of the `live` containers, remove all others, load the rules."""
        alive = set(live)
        states = self._sandboxes.take_over()
        for state in states:
            if state.container not in alive:
                await self._sandboxes.dismantle(state.container)
        kept = [state for state in states if state.container in alive]
        for state in kept:
            for endpoint in [e for e in state.endpoints if not e.whole]:
                await self._sandboxes.leave(state, endpoint)
            self._sandboxes.hold_ports(state)
        await self._names.settle(
            self._sandboxes.names_of(state) for state in kept if state.has_names
        )
        self._loading = asyncio.create_task(self._load(kept))
        self._watch_rules()
        self._watch_addresses()

    async def _load(self, states: Sequence[SandboxState]) -> None:
        for record in self._registry:
            if record.leads is not None:
                await self._restore_uplink(record, record.leads)
            elif record.bridge and record.name != "bridge":
                index = await self._worker(
                    self._host.ensure_bridge,
                    record.bridge,
                    record.interface,
                    record.mtu,
                    record.interface6,
                )
                self._sandboxes.set_bridge(record.id, index)
        for state in states:
            await self._worker(self._sandboxes.repair, state)
        published = [port for state in states for port in state.published]
        segments = [record.segment for record in self._registry if record.bridge]
        await self._worker(self._host.load, segments, published)

    async def _restore_uplink(self, record: NetworkRecord, uplink: Uplink) -> None:
        """A parent that is not there (yet) harms only those who want to be on it."""
        try:
            index = await self._worker(self._host.restore_uplink, uplink, record.bridge, record.mtu)
        except (errors.BarqueError, OSError) as error:
            log.warning("network %s is not restored: %s", record.name, error)
            return
        if index:
            self._sandboxes.set_bridge(record.id, index)

    def _watch_rules(self) -> None:
        """Load the rules again whenever somebody flushes them."""
        if not self._options.firewall:
            return
        self._watch = RulesWatch(self._host.firewall.table)
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._rules_changed)

    def _rules_changed(self) -> None:
        if self._watch is not None and self._watch.changed():
            task = asyncio.create_task(self._repair_rules())
            self._repairs.add(task)
            task.add_done_callback(self._repairs.discard)

    async def _repair_rules(self) -> None:
        try:
            if await self._worker(self._host.repair):
                log.warning("the firewall rules were flushed by another program: loaded again")
        except Exception:
            log.exception("the firewall rules are gone and cannot be loaded again")

    def _watch_addresses(self) -> None:
        """Make the bridges again that somebody deletes or takes the address of."""
        self._addresses = AddressWatch()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._addresses.fileno(), self._addresses_changed)

    def _addresses_changed(self) -> None:
        if self._addresses is None:
            return
        indexes, more = self._addresses.lost()
        harmed = [
            record
            for record in self._registry
            if record.bridge
            and record.leads is None
            and (more or self._sandboxes.bridge(record.id) in indexes)
        ]
        if harmed:
            task = asyncio.create_task(self._repair_bridges(harmed))
            self._repairs.add(task)
            task.add_done_callback(self._repairs.discard)

    async def _repair_bridges(self, records: Sequence[NetworkRecord]) -> None:
        await self._settled()
        for record in records:
            async with self._changing:  # it may be we who are taking it away
                if self._registry.get(record.id) is not None:
                    await self._repair_bridge(record)

    async def _repair_bridge(self, record: NetworkRecord) -> None:
        try:
            index = await self._worker(
                self._host.repair_bridge,
                record.bridge,
                record.interface,
                record.mtu,
                record.interface6,
            )
            if not index:
                return
            self._sandboxes.set_bridge(record.id, index)
            if record.name == "bridge":
                self._host.pool.bridge = index
            for state in self._sandboxes.states_in(record.id):
                await self._worker(self._sandboxes.repair, state)
            log.warning("bridge %s was changed by another program: made again", record.bridge)
        except (errors.BarqueError, OSError) as error:
            log.warning("bridge %s of network %s is harmed: %s", record.bridge, record.name, error)

    async def wait_ready(self) -> None:
        """Until the rules are there; raises what kept them from loading."""
        if self._loading is None:
            raise errors.Unavailable("networks are not restored yet")
        await asyncio.shield(self._loading)

    async def _settled(self) -> None:
        """Until the rules are loaded, or could not be: what is being loaded must not change."""
        if self._loading is not None:
            await asyncio.wait([self._loading])

    async def close(self) -> None:
        """Leave: the stock of namespaces goes, running containers keep theirs."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
        if self._addresses is not None:
            asyncio.get_running_loop().remove_reader(self._addresses.fileno())
            self._addresses.close()
            self._addresses = None
        if self._loading is not None:
            await asyncio.gather(self._loading, *self._repairs, return_exceptions=True)
        bridge = self._registry.named("bridge")
        await self._worker(
            self._host.close,
            bridge=bridge.bridge if bridge else "",
            empty=not len(self._sandboxes)
            and all(not r.bridge or r is bridge for r in self._registry),
        )
        await self._names.close()
        self._ports.close()
        self._worker.close()

    @property
    def warnings(self) -> list[str]:
        """What keeps packets of containers from passing and is not ours to change; for /info."""
        return list(self._host.warnings)

    @property
    def pool(self) -> Pool:
        """The warm namespaces."""
        return self._host.pool

    # -- containers

    async def attach(
        self,
        container_id: str,
        name: str,
        hostname: str,
        mode: str = "",
        endpoints: Mapping[str, Mapping[str, Any] | None] | None = None,
        ports: Mapping[str, Sequence[Mapping[str, str]] | None] | None = None,
        *,
        dns: Sequence[str] = (),
        dns_search: Sequence[str] = (),
        dns_options: Sequence[str] = (),
        extra_hosts: Sequence[str] = (),
        domainname: str = "",
        links: Sequence[str] = (),
    ) -> Sandbox:
        """A sandbox for a container that is about to start; on failure nothing is left.

        `mode` is HostConfig.NetworkMode; `endpoints` NetworkingConfig.EndpointsConfig, which
        decides when it names any network; `ports` HostConfig.PortBindings (null for what is
        exposed only).
        Raises NotFound, InvalidArgument, Conflict, Unsupported, ResourceExhausted, BarqueError.
        """
        own = DnsOptions(
            tuple(files.check_server(server) for server in dns),
            tuple(files.check_word(word, "dns search domain") for word in dns_search),
            tuple(files.check_word(word, "dns option") for word in dns_options),
            tuple(extra_hosts),
            domainname,
        )
        if mode.startswith(CONTAINER_MODE):
            return self._shared(mode.removeprefix(CONTAINER_MODE), own)
        asked = self.asked(mode, endpoints or {})
        kind = asked[0].network.driver
        extra = [files.extra_host(entry, self._host_gateway()) for entry in extra_hosts]
        state = SandboxState(
            container=container_id,
            name=name,
            hostname=hostname,
            domainname=domainname,
            mode={"host": "host", "null": "none"}.get(kind, asked[0].network.name),
            bindings={} if kind in {"host", "null"} else dict(ports or {}),
            servers=self._servers(own),
        )
        extra += self._legacy_links(links)
        requests = parse_bindings(state.bindings, self._default_host_ip(asked))
        if kind not in {"host", "null"}:
            await self.wait_ready()
        await self._sandboxes.build(state, asked, requests)
        for one in asked:
            self._announce("connect", one.network, container_id)
        return self._sandbox(state, own, extra)

    def _servers(self, own: DnsOptions) -> list[tuple[str, bool]]:
        """Who answers what is no container's name: (address, whether the host asks it).

        The container asks itself, from its own networks; what only the host reaches, the host.
        """
        given = own.servers or self._options.dns
        if given:
            return [(server, False) for server in given]
        return files.forwarders(_read(HOST_RESOLV_CONF))

    def _legacy_links(self, links: Sequence[str]) -> list[tuple[str, str]]:
        """`container:alias` of the default network, as lines of /etc/hosts."""
        found = []
        for link in links:
            other, _, alias = link.partition(":")
            state = self._sandboxes.find(other)
            if state is None:
                raise errors.Conflict(f"Cannot link to a non running container: {other}")
            address = next((e.ip for e in state.endpoints if e.ip), "")
            if address:
                words = dict.fromkeys((alias or other, state.hostname, state.name))
                found.append((address, " ".join(word for word in words if word)))
        return found

    def asked(self, mode: str, endpoints: Mapping[str, Mapping[str, Any] | None]) -> list[Asked]:
        """Which networks a container is to be in; refuses what is wrong or not there yet."""
        wanted = {
            self._registry.resolve(_plain_mode(key)): settings or {}
            for key, settings in (endpoints or {mode: {}}).items()
        }
        alone = next((one for one in wanted if one.driver in {"host", "null"}), None)
        if alone is not None and len(wanted) > 1:
            raise errors.InvalidArgument(
                "container cannot be connected to multiple networks with one of the networks in "
                + ("private (none) mode" if alone.driver == "null" else "host mode")
            )
        return [_asked(record, settings) for record, settings in wanted.items()]

    def _default_host_ip(self, asked: Sequence[Asked]) -> IPv4Address:
        first = min(asked, key=lambda one: one.order).network
        return parse_address(first.host_ip or self._options.default_host_ip)

    def _host_gateway(self) -> str:
        bridge = self._registry.named("bridge")
        return self._options.host_gateway_ip or (bridge.gateway if bridge else "")

    def _shared(self, other: str, dns: DnsOptions) -> Sandbox:
        """The sandbox of container `other`, by id or name."""
        state = self._sandboxes.find(other)
        if state is None:
            raise errors.Conflict(f"cannot join network of a non running container: {other}")
        found = self._sandbox(state, dns, [])
        return replace(found, settings=sandbox_settings())

    def _sandbox(
        self, state: SandboxState, dns: DnsOptions, extra: Sequence[tuple[str, str]]
    ) -> Sandbox:
        own = files.own_names(state.hostname, state.domainname)
        names = [(address, own) for e in state.endpoints for address in e.addresses]
        if state.mode == "host":
            hosts = files.hosts(names, extra, head=_read(HOST_HOSTS))
            resolv_conf = _read(HOST_RESOLV_CONF)
            if dns.servers or dns.search or dns.options:
                resolv_conf = self._resolv_conf(resolv_conf, dns)
        else:
            hosts = files.hosts(names, extra)
            resolv_conf = self._own_resolv_conf(state, dns)
        netns = None if state.path is None else str(state.path)
        return Sandbox(netns, self._sandboxes.settings(state), hosts, resolv_conf)

    def _own_resolv_conf(self, state: SandboxState, dns: DnsOptions) -> str:
        """Of a sandbox that is not the host's: asks our resolver when it is in a named network."""
        host = _read(HOST_RESOLV_CONF)
        if state.has_names:
            return files.internal_resolv_conf(
                host,
                search=dns.search or self._options.dns_search,
                options=dns.options or self._options.dns_options,
            )
        if not files.usable_servers(host):
            host = _read(SYSTEMD_RESOLV_CONF) or host
        return self._resolv_conf(host, dns)

    def name_files(
        self,
        container_id: str,
        *,
        dns: Sequence[str] = (),
        dns_search: Sequence[str] = (),
        dns_options: Sequence[str] = (),
    ) -> NameFiles:
        """Of a running container, with its own options as `attach` was given them."""
        state = self._sandboxes.get(container_id)
        if state is None:
            raise errors.Conflict(f"container {container_id} is not running")
        own = files.own_names(state.hostname, state.domainname)
        lines = (f"{address}\t{own}" for e in state.endpoints for address in e.addresses)
        options = DnsOptions(tuple(dns), tuple(dns_search), tuple(dns_options))
        return NameFiles(tuple(lines), self._own_resolv_conf(state, options))

    def _resolv_conf(self, host: str, dns: DnsOptions) -> str:
        return files.resolv_conf(
            host,
            servers=dns.servers or self._options.dns,
            search=dns.search or self._options.dns_search,
            options=dns.options or self._options.dns_options,
        )

    async def detach(self, container_id: str) -> None:
        """Remove a container's sandbox. Safe to call twice, and for one that never had any."""
        state = self._sandboxes.get(container_id)
        if state is None:
            return
        await self._settled()
        await self._sandboxes.dismantle(container_id)
        for endpoint in state.endpoints:
            record = self._registry.get(endpoint.network)
            if record is not None:
                self._announce("disconnect", record, container_id)

    def settings(
        self,
        container_id: str,
        mode: str | None = None,
        endpoints: Mapping[str, Mapping[str, Any] | None] | None = None,
    ) -> dict[str, Any]:
        """The API's NetworkSettings of a container as they are now.

        Of one that does not run, the networks that `mode` and `endpoints` say it will be in, as
        far as they exist, without addresses; none when `mode` is not given.
        """
        state = self._sandboxes.get(container_id)
        if state is not None:
            return self._sandboxes.settings(state)
        if mode is None or mode.startswith(CONTAINER_MODE):
            return sandbox_settings()
        found = [
            (self._registry.find(_plain_mode(key)), given)
            for key, given in (endpoints or {mode: {}}).items()
        ]
        return sandbox_settings(
            endpoints={
                record.name: EndpointRecord.absent(record, container_id, given or {})
                for record, given in found
                if record
            }
        )

    def _announce(self, action: str, network: NetworkRecord, container_id: str) -> None:
        attributes = {"container": container_id, "name": network.name, "type": network.driver}
        self._events.publish("network", action, network.id, attributes)

    # -- networks

    def inspect(self, reference: str) -> dict[str, Any]:
        """The API's Network with its containers. Raises NotFound."""
        record = self._registry.resolve(reference)
        members = {e.container: e.member() for e in self._sandboxes.members(record.id)}
        return record.document(members)

    def summaries(self, filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """The API's Networks that match, without their containers."""
        network_filters.check_keys(filters, network_filters.LIST_KEYS)
        used = self._sandboxes.networks_in_use()
        return [
            record.document({})
            for record in self._registry
            if network_filters.matches(record, filters, in_use=record.id in used)
        ]

    async def create(self, body: Mapping[str, Any]) -> str:
        """Make a network; returns its id. On failure nothing is left."""
        record = parse_create(body, network_id=secrets.token_hex(ID_BYTES), created=rfc3339_now())
        await self.wait_ready()
        async with self._changing:
            if self._registry.named(record.name) is not None:
                raise errors.AlreadyExists(f"network with name {record.name} already exists")
            record = await self._with_subnet(await self._with_parent(record))
            await self._refuse_taken(record.bridge)
            self._registry.put(record)
            try:
                index = await self._make(record)
            except BaseException:
                await asyncio.shield(self._give_up_pool(record))
                self._registry.delete(record)
                raise
            if record.is_remote:
                self._registry.put(replace(record, is_made=True))
            self._sandboxes.set_bridge(record.id, index)
        self._events.publish(
            "network", "create", record.id, {"name": record.name, "type": record.driver}
        )
        return record.id

    async def _refuse_taken(self, bridge: str) -> None:
        if bridge and await self._worker(self._host.wiring.link, bridge) is not None:
            raise errors.Forbidden(f"bridge device {bridge} already exists")

    async def _make(self, record: NetworkRecord) -> int:
        """Its part of the machine. The index of its bridge, 0 for none."""
        if record.is_remote:
            await network_plugins.create_network(record)
            return 0
        if record.leads is None:
            return await self._worker(
                self._host.add_network,
                record.segment,
                record.interface,
                record.mtu,
                record.interface6,
            )
        segment = record.segment if record.bridge else None
        return await self._worker(self._host.add_on_uplink, record.leads, segment, None, record.mtu)

    async def _with_parent(self, record: NetworkRecord) -> NetworkRecord:
        """Whether the parent is ours to make is decided, and stored, before it is made."""
        uplink = record.leads
        if uplink is None or not uplink.parent:
            return record
        other = next((r for r in self._registry if r.uplink.get("parent") == uplink.parent), None)
        if other is not None:
            raise errors.Forbidden(
                f"network {other.name} is already using parent interface {uplink.parent}"
            )
        if await self._worker(self._host.wiring.uplinks.parent_is_there, uplink.parent):
            return record
        if vlan_of(uplink.parent) is None and not uplink.parent.startswith("dm-"):
            raise errors.InvalidArgument(
                f"invalid subinterface vlan name {uplink.parent}, example formatting is eth0.10"
            )
        return replace(record, uplink=replace(uplink, parent_made=True).document())

    async def _with_pool(self, record: NetworkRecord) -> NetworkRecord:
        """The subnet and the gateway that a plugin gives."""
        pool = await network_plugins.request_pool(
            record.ipam_driver,
            record.ipam_options,
            subnet=record.subnet,
            ip_range=record.ip_range,
            gateway=record.gateway,
        )
        made = replace(record, subnet=pool.subnet, gateway=pool.gateway, ipam_pool=pool.id)
        taken = self._registry.subnets()
        if any(IPv4Network(pool.subnet).overlaps(other) for other in taken):
            await self._give_up_pool(made)
            raise errors.Forbidden(
                "invalid pool request: Pool overlaps with other one on this address space"
            )
        return made

    async def _give_up_pool(self, record: NetworkRecord) -> None:
        if record.ipam_driver:
            try:
                await network_plugins.release_pool(
                    record.ipam_driver, record.ipam_pool, record.gateway
                )
            except errors.BarqueError as error:
                log.warning("the pool of network %s is not released: %s", record.name, error)

    async def _with_subnet(self, record: NetworkRecord) -> NetworkRecord:
        if record.ipam_driver:
            return await self._with_pool(record)
        taken = self._registry.subnets()
        if not record.subnet:
            subnet = await self._worker(self._host.choose_subnet, taken)
            record = replace(record, subnet=str(subnet), gateway=str(first_address(subnet)))
        elif any(IPv4Network(record.subnet).overlaps(other) for other in taken):
            raise errors.Forbidden(OVERLAP)
        taken6 = self._registry.subnets6()
        if record.subnet6_chosen:
            subnet6 = await self._worker(self._host.choose_subnet6, taken6)
            return replace(record, subnet6=str(subnet6), gateway6=str(first_address6(subnet6)))
        if record.subnet6 and any(IPv6Network(record.subnet6).overlaps(o) for o in taken6):
            raise errors.Forbidden(OVERLAP)
        return record

    async def remove(self, reference: str) -> None:
        """Remove a network nobody is in. Raises NotFound, Forbidden with Docker's words."""
        await self._settled()  # else what is being restored would be made again
        async with self._changing:
            record = self._registry.resolve(reference)
            if record.is_builtin:
                raise errors.Forbidden(
                    f"{record.name} is a pre-defined network and cannot be removed"
                )
            members = self._sandboxes.members(record.id)
            if members:
                who = ", ".join(f'name:"{m.name}" id:"{m.container[:12]}"' for m in members)
                raise errors.Forbidden(
                    f"error while removing network: network {record.name} has active endpoints "
                    f"({who})"
                )
            if record.is_remote:
                await self._delete_remote(record)
            elif record.leads is not None:
                await self._worker(self._host.delete_on_uplink, record.leads, record.bridge)
            else:
                await self._worker(self._host.delete_network, record.bridge)
            await self._give_up_pool(record)
            self._registry.delete(record)
            self._sandboxes.forget_bridge(record.id)
        self._events.publish(
            "network", "destroy", record.id, {"name": record.name, "type": record.driver}
        )

    async def _delete_remote(self, record: NetworkRecord) -> None:
        """What its driver may not know, since a crash broke its creation off, is no failure."""
        try:
            await network_plugins.delete_network(record)
        except errors.BarqueError as error:
            if record.is_made:
                raise
            log.warning("network %s was never whole: %s", record.name, error)

    async def prune(
        self, filters: Mapping[str, Sequence[str]], *, before: str | None = None
    ) -> list[str]:
        """Remove the networks of users that nobody is in; returns their names."""
        network_filters.check_keys(filters, network_filters.PRUNE_KEYS)
        used = self._sandboxes.networks_in_use()
        removed: list[str] = []
        for record in list(iter(self._registry)):
            if record.id in used or not network_filters.prunable(record, filters, before=before):
                continue
            try:
                await self.remove(record.id)
            except (errors.Forbidden, errors.NotFound):  # came into use, or went, meanwhile
                continue
            removed.append(record.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    def name_of(self, reference: str) -> str:
        """The name of the network `reference` (a NetworkMode too). Raises NotFound."""
        return self._registry.resolve(_plain_mode(reference)).name

    async def rename(self, container_id: str, name: str) -> None:
        """Others in its networks find a container by its new name."""
        await self._sandboxes.rename(container_id, name)

    def attached(self, container_id: str) -> bool:
        """Whether the container has a sandbox, so runs."""
        return self._sandboxes.get(container_id) is not None

    def check_together(self, first: str, second: str) -> None:
        """Raises Forbidden when no container can be in both networks."""
        self.check_addition(self._registry.resolve(second), self._registry.resolve(first).name)

    async def connect(self, reference: str, container_id: str, settings: Mapping[str, Any]) -> None:
        """Put a running container into one more network."""
        record = self._registry.resolve(reference)
        state = self._sandboxes.get(container_id)
        if state is None:
            raise errors.Conflict(f"container {container_id} is not running")
        self.check_addition(record, state.mode)
        if any(endpoint.network == record.id for endpoint in state.endpoints):
            raise errors.Forbidden(
                f"endpoint with name {state.name} already exists in network {record.name}"
            )
        await self.wait_ready()
        await self._sandboxes.connect(state, _asked(record, settings))
        self._announce("connect", record, container_id)

    def check_addition(self, record: NetworkRecord, mode: str) -> None:
        """Raises Forbidden when a container of `mode` cannot be in network `record` too."""
        if "host" in {mode, record.driver}:
            raise errors.Forbidden(
                "container cannot be disconnected from host network or connected to host network"
            )
        if mode == "none" or record.driver == "null":
            raise errors.Forbidden(
                "container cannot be connected to multiple networks with one of the networks in "
                "private (none) mode"
            )

    async def disconnect(self, reference: str, container_id: str) -> None:
        """Take a running container out of a network."""
        record = self._registry.resolve(reference)
        state = self._sandboxes.get(container_id)
        if state is None or not any(e.network == record.id for e in state.endpoints):
            raise errors.Forbidden(
                f"container {container_id} is not connected to network {record.name}"
            )
        if record.driver == "host":
            raise errors.Forbidden(
                "container cannot be disconnected from host network or connected to host network"
            )
        await self._settled()
        await self._sandboxes.disconnect(state, record)
        self._announce("disconnect", record, container_id)


def _word(value: bool) -> str:
    return "true" if value else "false"


def _plain_mode(mode: str) -> str:
    return "bridge" if mode in {"", "default"} else mode


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _asked(network: NetworkRecord, settings: Mapping[str, Any]) -> Asked:
    """An EndpointSettings for `network`; what is not there yet is refused by its name."""
    aliases, links = tuple(settings.get("Aliases") or ()), tuple(settings.get("Links") or ())
    if aliases and not network.has_names:
        raise errors.InvalidArgument(
            "network-scoped alias is supported only for containers in user defined networks"
        )
    if links and not network.has_names:
        raise errors.InvalidArgument(
            f"links of an endpoint need a user-defined network, not {network.name}"
        )
    for option in settings.get("DriverOpts") or {}:
        raise errors.Unsupported(
            f"driver option {option} of the endpoint in network {network.name} is not supported yet"
        )
    ipam = settings.get("IPAMConfig") or {}
    address = str(ipam.get("IPv4Address") or "")
    address6 = str(ipam.get("IPv6Address") or "")
    if ipam.get("LinkLocalIPs"):
        raise errors.Unsupported(f"link-local addresses in {network.name} are not there yet")
    if (address and network.subnet_chosen) or (address6 and network.subnet6_chosen):
        raise errors.InvalidArgument(
            "user specified IP address is supported "
            + (
                "on user defined networks only"
                if network.is_builtin
                else "only when connecting to networks with user configured subnets"
            )
        )
    mac = str(settings.get("MacAddress") or "")
    priority = int(settings.get("GwPriority") or 0)
    return Asked(network, address, address6, mac, priority, aliases, links)
