"""The networks service: what containers, routes and the composition root call.

start    bridge of the default network, warm namespaces; before anything else
restore  sandboxes of live containers taken over, all others removed, rules loaded
attach   a sandbox for a container that is about to start
detach   gone; safe to call again
close    at the daemon's end: containers that run keep what they have
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from barque import errors
from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.names import Names
from barque.daemon.networks.asked import asked_of, parse_asked, plain_mode, refuse_template
from barque.daemon.networks.builtin import Builtin
from barque.daemon.networks.configurations import named_by
from barque.daemon.networks.filters import LIST_KEYS, check_keys, matches
from barque.daemon.networks.making import Making
from barque.daemon.networks.members import fold
from barque.daemon.networks.parts import Parts
from barque.daemon.networks.records import EndpointRecord, NetworkRecord, sandbox_settings
from barque.daemon.networks.registry import Registry
from barque.daemon.networks.texts import NameFiles, Texts
from barque.daemon.networks.upkeep import Upkeep
from barque.daemon.networks.worker import Worker
from barque.daemon.proxies import Proxies
from barque.daemon.proxy_link import ProxyLink
from barque.daemon.sandboxes.service import Sandboxes
from barque.daemon.sandboxes.state import Asked, SandboxState, held_port
from barque.network import files
from barque.network.examination import Fault
from barque.network.host import Host
from barque.network.ipam import parse_address
from barque.network.options import NO_BRIDGE, DnsOptions, NetworkOptions
from barque.network.pool import Pool
from barque.network.ports import HostPorts, local_port_range, parse_bindings

CONTAINER_MODE = "container:"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a container gets. `netns` is None in the host's namespace."""

    netns: str | None
    settings: dict[str, Any]  # the API's NetworkSettings
    hosts: str  # contents of /etc/hosts
    resolv_conf: str  # contents of /etc/resolv.conf


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
        proxy: ProxyLink,
        options: NetworkOptions | None = None,
    ) -> None:
        """`owner` is what tells this daemon's bridges and rules from others': its data root."""
        self._events = events
        self._options = options or NetworkOptions()
        self._registry = Registry(database)
        self.no_default = self._options.bridge == NO_BRIDGE
        self._host = Host(owner, netns, maker_argv, self._options)
        self._worker = Worker()
        self._proxies = Proxies(proxy, self._options.proxied_versions)
        self._ports = HostPorts(local_port_range(), self._proxies.versions)
        self._names = names
        self._sandboxes = Sandboxes(
            database, self._registry, self._host, self._worker, self._ports, names, self._proxies
        )
        self._builtin = Builtin(self._registry, self._host, self._worker, self._options)
        self._texts = Texts(self._options)
        parts = Parts(
            registry=self._registry,
            sandboxes=self._sandboxes,
            host=self._host,
            worker=self._worker,
            options=self._options,
        )
        self._upkeep = Upkeep(parts)
        self._making = Making(parts, self._upkeep, events)

    # -- the daemon's own life

    async def start(self) -> None:
        """Make the default bridge, begin to fill the pool, remove stale namespaces."""
        rows = self._sandboxes.rows.all()
        self._builtin.put_plain()
        kept = [endpoint.sandbox for endpoint in rows if endpoint.sandbox]
        links = [endpoint.host_link for endpoint in rows if endpoint.host_link]
        default = await self._builtin.default_bridge(settled=bool(kept))
        bridges = [record.bridge for record in self._registry if record.bridge]
        await self._worker(self._host.start, default, kept, bridges, links)
        if default is not None:
            record = self._builtin.put_default(default)
            self._sandboxes.bridges.set(record.id, self._host.pool.bridge)

    async def restore(self, live: Iterable[str]) -> None:
        """Take over the sandboxes of the `live` containers, remove all others, load the rules."""
        alive = set(live)
        states = self._sandboxes.take_over()
        await self._proxies.settle(
            held_port(port)
            for state in states
            if state.container in alive
            for port in state.published
        )
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
        self._upkeep.start(kept)

    async def wait_ready(self) -> None:
        """Until the rules are there; raises what kept them from loading."""
        await self._upkeep.wait_ready()

    async def examine(self, *, repair: bool) -> list[Fault]:
        """What of networks is not as it should be, and whether it was put right."""
        return await self._upkeep.examine(repair=repair)

    def sandboxes(self) -> list[str]:
        """The ids of the sandboxes of running containers that have a namespace of their own."""
        return self._sandboxes.ids()

    async def close(self) -> None:
        """Leave: the stock of namespaces goes, running containers keep theirs."""
        await self._upkeep.close()
        bridge = self._registry.named("bridge")
        await self._worker(
            self._host.close,
            bridge=bridge.bridge if bridge else "",
            empty=not len(self._sandboxes)
            and all(not r.bridge or r is bridge for r in self._registry),
        )
        await self._names.close()
        await self._proxies.close()
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
        host_users: bool = True,
    ) -> Sandbox:
        """A sandbox for a container that is about to start; on failure nothing is left.

        `mode` is HostConfig.NetworkMode; `endpoints` NetworkingConfig.EndpointsConfig, which
        decides when it names any network; `ports` HostConfig.PortBindings (null for what is
        exposed only). `host_users`: its user namespace is the machine's, whatever others have.
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
        extra = [line for entry in extra_hosts for line in self._extra_hosts(entry)]
        state = SandboxState(
            container=container_id,
            name=name,
            hostname=hostname,
            domainname=domainname,
            mode={"host": "host", "null": "none"}.get(kind, asked[0].network.name),
            bindings={} if kind in {"host", "null"} else dict(ports or {}),
            servers=self._texts.servers(own),
            host_users=host_users,
        )
        extra += self._legacy_links(links)
        requests = parse_bindings(state.bindings, self._default_host_ip(asked))
        if kind not in {"host", "null"}:
            await self.wait_ready()
        await self._sandboxes.build(state, asked, requests)
        for one in asked:
            self._announce("connect", one.network, container_id)
        return self._sandbox(state, own, extra)

    def _legacy_links(self, links: Sequence[str]) -> list[tuple[str, str]]:
        """`container:alias` of the default network, as lines of /etc/hosts."""
        found, default = [], self._registry.resolve("bridge").id if links else ""
        for link in links:
            other, _, alias = link.partition(":")
            state = self._sandboxes.find(other)
            if state is None:
                raise errors.Conflict(f"Cannot link to a non running container: {other}")
            address = next((e.ip for e in state.endpoints if e.network == default), "")
            if not address:
                raise errors.Conflict(
                    f"Cannot link to /{state.name}, as it does not belong to the default network"
                )
            words = dict.fromkeys((alias or other, state.hostname, state.name))
            found.append((address, " ".join(word for word in words if word)))
        return found

    def asked(self, mode: str, endpoints: Mapping[str, Mapping[str, Any] | None]) -> list[Asked]:
        """Which networks a container is to be in; refuses what is wrong or not there yet."""
        return parse_asked(self._registry, mode, endpoints)

    def _default_host_ip(self, asked: Sequence[Asked]) -> IPv4Address:
        first = min(asked, key=lambda one: one.order).network
        return parse_address(first.host_ip or self._options.default_host_ip)

    def _extra_hosts(self, entry: str) -> list[tuple[str, str]]:
        """The lines that an --add-host makes: as many as "host-gateway" has addresses."""
        if not entry.endswith(files.HOST_GATEWAY):
            return [files.extra_host(entry, "")]
        bridge = self._registry.named("bridge")
        gateways = self._options.host_gateway_ips or (bridge.gateway if bridge else "",)
        return [files.extra_host(entry, gateway) for gateway in gateways]

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
        netns = None if state.path is None else str(state.path)
        return Sandbox(netns, self._sandboxes.settings(state), *self._texts.of(state, dns, extra))

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
        options = DnsOptions(tuple(dns), tuple(dns_search), tuple(dns_options))
        return self._texts.names_of(state, options)

    async def detach(self, container_id: str) -> None:
        """Remove a container's sandbox. Safe to call twice, and for one that never had any."""
        state = self._sandboxes.get(container_id)
        if state is None:
            return
        await self._upkeep.settled()
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
            (self._registry.find(plain_mode(key)), given)
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

    def inspect(self, reference: str, *, status: bool = False) -> dict[str, Any]:
        """The API's NetworkInspect, with its `status` where wanted. Raises NotFound."""
        record = self._registry.resolve(reference)
        places = self._sandboxes.rows.members(record.id)
        found = record.document({place.container: place.member() for place in places})
        if status and record.has_addresses:
            found["Status"] = record.status(places)
        return found

    def summaries(self, filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """The API's Networks that match, without their containers."""
        check_keys(filters, LIST_KEYS)
        used = self._sandboxes.rows.networks_in_use()
        return [
            record.document({})
            for record in self._registry
            if matches(record, filters, in_use=record.id in used)
        ]

    async def create(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """Make a network; returns its id and a warning or "". On failure nothing is left."""
        defaults = self._options.driver_options.get(str(body.get("Driver") or "bridge"))
        given = body.get("Options") or {}
        own = not named_by(fold(body))  # else its options are the other's
        if defaults and isinstance(given, Mapping) and own:
            body = {**body, "Options": {**defaults, **given}}
        return await self._making.create(body)

    async def remove(self, reference: str) -> None:
        """Remove a network nobody is in. Raises NotFound, Forbidden with Docker's words."""
        await self._making.remove(reference)

    async def prune(
        self, filters: Mapping[str, Sequence[str]], *, before: str | None = None
    ) -> list[str]:
        """Remove the networks of users that nobody is in; returns their names."""
        return await self._making.prune(filters, before=before)

    def name_of(self, reference: str) -> str:
        """The name of the network `reference` (a NetworkMode too). Raises NotFound."""
        return self._registry.resolve(plain_mode(reference)).name

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
        await self._sandboxes.connect(state, asked_of(record, settings))
        self._announce("connect", record, container_id)

    def check_addition(self, record: NetworkRecord, mode: str) -> None:
        """Raises Forbidden when a container of `mode` cannot be in network `record` too."""
        refuse_template(record)
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
        await self._upkeep.settled()
        await self._sandboxes.disconnect(state, record)
        self._announce("disconnect", record, container_id)
