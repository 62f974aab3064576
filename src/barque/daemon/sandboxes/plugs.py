"""How the kernel is to plug sandboxes in: the places of records as `Plug`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

from barque import errors
from barque.daemon.networks.plugins import Joined
from barque.daemon.networks.records import EndpointRecord, NetworkRecord
from barque.daemon.sandboxes.state import Asked
from barque.network.plugs import Plug, parse_mac, sysctl_name


class Bridges:
    """The interface indexes of networks' bridges, as they are since the daemon started."""

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}

    def set(self, network: str, index: int) -> None:
        self._indexes[network] = index

    def get(self, network: str) -> int:
        """0 for none."""
        return self._indexes.get(network, 0)

    def forget(self, network: str) -> None:
        self._indexes.pop(network, None)

    def plugs(
        self,
        endpoints: Sequence[EndpointRecord],
        asked: Sequence[Asked],
        joined: Mapping[str, Joined],
    ) -> list[Plug]:
        """Of the places of a sandbox; the first that can has the default route."""
        networks = {one.network.id: one.network for one in asked}
        plugs: list[Plug] = []
        routed = routed6 = False
        for endpoint in endpoints:
            network = networks[endpoint.network]
            if network.has_addresses:
                made = joined.get(endpoint.id)
                first = (not routed, not routed6)
                settings = next(one.sysctls for one in asked if one.network.id == network.id)
                plugs.append(self.plug(endpoint, network, first, joined=made, sysctls=settings))
                routed = routed or bool(endpoint.gateway)
                routed = routed or (network.is_routed and bool(endpoint.address))
                routed6 = routed6 or bool(endpoint.gateway6)
                routed6 = routed6 or (network.is_routed and bool(endpoint.address6))
        return plugs

    def plug(
        self,
        endpoint: EndpointRecord,
        network: NetworkRecord,
        leads: tuple[bool, bool],
        *,
        joined: Joined | None = None,
        sysctls: Sequence[str] = (),
    ) -> Plug:
        """`leads`: whether the default route, and that of IPv6, goes through here if it can."""
        first, first6 = leads
        bridge = self.get(network.id) if network.bridge else 0
        if network.bridge and not bridge:
            raise errors.Unavailable(f"network {network.name} could not be made on this host")
        return Plug(
            bridge=bridge,
            host_link=endpoint.host_link,
            inner_link=endpoint.inner_link,
            mac=parse_mac(endpoint.mac) if endpoint.mac else b"",
            address=IPv4Interface(endpoint.address) if endpoint.address else None,
            gateway=IPv4Address(endpoint.gateway) if endpoint.gateway and first else None,
            mtu=network.mtu,
            isolated=not network.icc,
            uplink=None if network.bridge else network.leads,
            device_route=network.is_routed and first and bool(endpoint.address),
            device_route6=network.is_routed and first6 and bool(endpoint.address6),
            link_local=[ip_address(text) for text in endpoint.link_local],
            sysctls=[word.replace("IFNAME", sysctl_name(endpoint.inner_link)) for word in sysctls],
            source=joined.source if joined else "",
            routes=joined.routes if joined else (),
            address6=IPv6Interface(endpoint.address6) if endpoint.address6 else None,
            gateway6=IPv6Address(endpoint.gateway6) if endpoint.gateway6 and first6 else None,
        )
