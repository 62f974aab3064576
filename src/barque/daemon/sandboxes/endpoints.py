"""Places of sandboxes in networks before the kernel makes them: addresses, names, host ports."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from barque import errors
from barque.daemon.networks.records import EndpointRecord
from barque.daemon.networks.registry import Registry
from barque.daemon.sandboxes.rows import published
from barque.daemon.sandboxes.state import ID_BYTES, Asked, SandboxState
from barque.network.firewall.rules import ROUTED, Published
from barque.network.ipam import parse_address, parse_address6
from barque.network.plugs import format_mac, mac_of, parse_mac, random_mac
from barque.network.pool import host_link_name
from barque.network.ports import HostPort, HostPorts, PortRequest


class Endpoints:
    def __init__(self, registry: Registry, ports: HostPorts, *, ipv6: bool, crossing: bool) -> None:
        """Not `ipv6`: no port is published in that family. `crossing`: a port of the host's IPv6
        may lead to a container's IPv4."""
        self._ipv6 = ipv6
        self._crossing = crossing
        self._registry = registry
        self._ports = ports

    def plain(self, state: SandboxState, asked: Asked) -> EndpointRecord:
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

    def choose(self, state: SandboxState, asked: Asked, number: int) -> EndpointRecord:
        """Choose and mark the address of a place in a network."""
        plain = self.plain(state, asked)
        network = asked.network
        if not network.has_addresses:
            return plain
        address, gateway = self._address(asked)
        address6, gateway6 = self._address6(asked)
        name = self._name(state, asked, number)
        ip = address.partition("/")[0]
        own_mac = mac_of(IPv4Address(ip)) if ip else random_mac()
        self._registry.take(network.id, [ip, address6.partition("/")[0]])
        return replace(
            plain,
            address=address,
            gateway=gateway,
            mac=format_mac(parse_mac(asked.mac) if asked.mac else own_mac),
            host_link=host_link_name(state.id, number) if network.bridge else "",
            inner_link=name,
            place=number,
            link_local=asked.link_local,
            address6=address6,
            gateway6=gateway6,
            asked_address6=asked.address6,
            asked_address=asked.address,
            asked_mac=asked.mac,
            gw_priority=asked.gw_priority,
        )

    def _name(self, state: SandboxState, asked: Asked, number: int) -> str:
        """What its interface is called; unique in the sandbox."""
        taken = {endpoint.inner_link for endpoint in state.endpoints}
        if asked.ifname:
            if asked.ifname in taken:
                raise errors.InvalidArgument(
                    f"interface name {asked.ifname} is given twice in container {state.name}"
                )
            return asked.ifname
        prefix = asked.network.prefix
        while f"{prefix}{number}" in taken:
            number += 1
        return f"{prefix}{number}"

    def _address(self, asked: Asked) -> tuple[str, str]:
        """The IPv4 address of a place, with its prefix, not yet marked, and its gateway."""
        space = self._registry.space(asked.network.id)
        if space is None:
            return _no_address(asked, asked.address, "IPv4")
        wanted = asked.leased or asked.address
        address = space.pick(parse_address(wanted) if wanted else None)
        return _placed(address, space.subnet, asked.network.gateway_of_containers())

    def _address6(self, asked: Asked) -> tuple[str, str]:
        """As `_address`, of IPv6."""
        space = self._registry.space6(asked.network.id)
        if space is None:
            return _no_address(asked, asked.address6, "IPv6")
        wanted = asked.leased6 or asked.address6
        address = space.pick(parse_address6(wanted) if wanted else None)
        return _placed(address, space.subnet, asked.network.gateway6_of_containers())

    def reserve(self, state: SandboxState, requests: Sequence[PortRequest]) -> None:
        """Hold the host's ports, those that were chosen first: no other is to be given one of them.

        Raises BarqueError with Docker's words.
        """
        ways = [way for version in (4, 6) if (way := self._way(state, version))]
        if not ways:
            return
        targets = {way.version: way for way in ways if way.version == 4 or self._ipv6}
        if self._crossing and 4 in targets:
            targets.setdefault(6, targets[4])
        for request in sorted(requests, key=lambda request: not request.first):
            self._check_family(request, targets)
            state.published += _opened(request, ways)
            for port in self._hold(request, state, targets):
                target = targets[port.host_ip.version].ip
                state.published.append(published(port, target, request.container_port))

    def _check_family(self, request: PortRequest, targets: Mapping[int, _Way]) -> None:
        version = request.host_ip.version
        if version in targets or (request.anywhere and targets):
            return
        why = f"the container is in no IPv{version} network"
        if version == 6 and not self._ipv6:
            why = "--ip6tables=false is set"
        raise errors.Unsupported(
            f"port {request.container_port}/{request.protocol} on the IPv{version} address "
            f"{request.host_ip}: {why}"
        )

    def _way(self, state: SandboxState, version: int) -> _Way | None:
        """The way into the sandbox by a family: through the place that leads out in it."""
        for endpoint in state.endpoints:
            network = self._registry.get(endpoint.network)
            if network is None or not network.publishes:
                continue
            if version == 4 and endpoint.gateway:
                return _Way(4, endpoint, endpoint.ip, network.mode)
            if version == 6 and endpoint.gateway6:
                return _Way(6, endpoint, endpoint.ip6, network.mode6)
        return None

    def _hold(
        self, request: PortRequest, state: SandboxState, targets: Mapping[int, _Way]
    ) -> list[HostPort]:
        """The host's ports, of those families in which the network translates addresses."""
        translated = {version for version, way in targets.items() if way.mode != ROUTED}
        sixth = 6 in translated
        if 4 not in translated and request.anywhere and sixth:
            request = replace(request, host_ip=IPv6Address(0), anywhere=False)
        elif request.host_ip.version not in translated:
            return []
        try:
            return self._ports.reserve(request, sixth=sixth)
        except errors.BarqueError as error:
            raise errors.BarqueError(
                "driver failed programming external connectivity on endpoint "
                f"{state.name} ({next(iter(targets.values())).endpoint.id}): {error}"
            ) from error


def _no_address(asked: Asked, wanted: str, family: str) -> tuple[str, str]:
    """Of a network without the family, in which none can be wanted."""
    if wanted:
        raise errors.InvalidArgument(
            f"network {asked.network.name} has no {family}: address {wanted} is not possible in it"
        )
    return "", ""


def _placed(
    address: IPv4Address | IPv6Address,
    subnet: IPv4Network | IPv6Network,
    gateway: IPv4Address | IPv6Address | None,
) -> tuple[str, str]:
    return f"{address}/{subnet.prefixlen}", str(gateway or "")


@dataclass(frozen=True, slots=True)
class _Way:
    """Into a sandbox by one family: to the address `ip`, in a network of this mode."""

    version: int
    endpoint: EndpointRecord
    ip: str
    mode: str


def _opened(request: PortRequest, ways: Sequence[_Way]) -> list[Published]:
    """What is opened at the container's own addresses: in families that are routed."""
    number, protocol = request.container_port, request.protocol
    wanted = {request.host_ip.version} | ({6} if request.anywhere else set())
    return [
        Published(protocol, ip_address(way.ip), number, ip_address(way.ip), number)
        for way in ways
        if way.mode == ROUTED and way.version in wanted
    ]
