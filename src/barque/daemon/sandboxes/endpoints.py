"""Places of sandboxes in networks before the kernel makes them: addresses, names, host ports."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

from barque import errors
from barque.daemon.networks.records import EndpointRecord, NetworkRecord
from barque.daemon.networks.registry import Registry
from barque.daemon.sandboxes.rows import published
from barque.daemon.sandboxes.state import ID_BYTES, Asked, SandboxState
from barque.network.ipam import parse_address, parse_address6
from barque.network.pool import host_link_name
from barque.network.ports import HostPort, HostPorts, PortRequest
from barque.network.rules import ROUTED, Published
from barque.network.wiring import format_mac, mac_of, parse_mac


class Endpoints:
    def __init__(self, registry: Registry, ports: HostPorts, *, ipv6: bool) -> None:
        """Not `ipv6`: no port is published in that family."""
        self._ipv6 = ipv6
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
        if not network.subnet:
            return plain
        space = self._registry.space(network.id)
        wanted = asked.leased or asked.address
        address = space.pick(parse_address(wanted) if wanted else None)
        mac = parse_mac(asked.mac) if asked.mac else mac_of(address)
        gateway = network.gateway_of_containers()
        address6, gateway6 = self._address6(asked)
        name = self._name(state, asked, number)
        self._registry.take(network.id, [str(address), address6.partition("/")[0]])
        return replace(
            plain,
            address=f"{address}/{space.subnet.prefixlen}",
            gateway=str(gateway) if gateway else "",
            mac=format_mac(mac),
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
        while f"eth{number}" in taken:
            number += 1
        return f"eth{number}"

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
        wanted = asked.leased6 or asked.address6
        address = space.pick(parse_address6(wanted) if wanted else None)
        gateway = asked.network.gateway6_of_containers()
        return f"{address}/{space.subnet.prefixlen}", str(gateway) if gateway else ""

    def reserve(self, state: SandboxState, requests: Sequence[PortRequest]) -> None:
        """Hold the host's ports. Raises BarqueError with Docker's words."""
        exposed = [e for e in state.endpoints if e.gateway and self._publishes(e)]
        if not requests or not exposed:
            return
        endpoint = exposed[0]
        network = self._registry.get(endpoint.network)
        assert network is not None
        for request in requests:
            _check_family(request, endpoint, sixth=self._ipv6)
            state.published += _opened(request, endpoint, network)
            held = self._hold(request, state, endpoint, network)
            for port in held:
                target = endpoint.ip if port.host_ip.version == 4 else endpoint.ip6
                state.published.append(published(port, target, request.container_port))

    def _hold(
        self,
        request: PortRequest,
        state: SandboxState,
        endpoint: EndpointRecord,
        network: NetworkRecord,
    ) -> list[HostPort]:
        """The host's ports, of those families in which the network translates addresses."""
        sixth = bool(endpoint.ip6) and network.mode6 != ROUTED and self._ipv6
        if network.mode == ROUTED and request.anywhere and sixth:
            request = replace(request, host_ip=IPv6Address(0))
        elif (network.mode if request.host_ip.version == 4 else network.mode6) == ROUTED:
            return []
        try:
            return self._ports.reserve(request, sixth=sixth)
        except errors.BarqueError as error:
            raise errors.BarqueError(
                "driver failed programming external connectivity on endpoint "
                f"{state.name} ({endpoint.id}): {error}"
            ) from error

    def _publishes(self, endpoint: EndpointRecord) -> bool:
        network = self._registry.get(endpoint.network)
        return network is not None and network.publishes


def _check_family(request: PortRequest, endpoint: EndpointRecord, *, sixth: bool) -> None:
    if request.host_ip.version == 6 and not (endpoint.ip6 and sixth):
        why = "the container is in no IPv6 network" if sixth else "--ip6tables=false is set"
        raise errors.Unsupported(
            f"port {request.container_port}/{request.protocol} on the IPv6 address "
            f"{request.host_ip}: {why}"
        )


def _opened(
    request: PortRequest, endpoint: EndpointRecord, network: NetworkRecord
) -> list[Published]:
    """What is opened at the container's own addresses: in families that are routed."""
    number, protocol = request.container_port, request.protocol
    wanted = {request.host_ip.version} | ({6} if request.anywhere else set())
    targets = ((4, network.mode, endpoint.ip), (6, network.mode6, endpoint.ip6))
    return [
        Published(protocol, ip_address(ip), number, ip_address(ip), number)
        for version, mode, ip in targets
        if mode == ROUTED and ip and version in wanted
    ]
