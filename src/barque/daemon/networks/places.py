"""Places of containers in networks that plugins keep: leased, joined, left, given back.

What a plugin refuses or leaves unanswered while a place goes is logged: the container goes all the
same, as with Docker.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from barque import errors
from barque.daemon.networks import plugins
from barque.daemon.networks.records import EndpointRecord, NetworkRecord
from barque.daemon.networks.registry import Registry

log = logging.getLogger(__name__)


class Places:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_remote(self, endpoint: EndpointRecord) -> bool:
        network = self._registry.get(endpoint.network)
        return network is not None and network.is_remote

    async def lease(self, network: NetworkRecord, address: str, *, sixth: bool = False) -> str:
        """An address of the network's pool where a plugin keeps it; "" where we do."""
        pool = network.ipam_pool6 if sixth else network.ipam_pool
        if not network.ipam_driver or (sixth and not network.subnet6):
            return ""
        return await plugins.request_address(network.ipam_driver, pool, address)

    async def give_back(self, network_id: str, addresses: Iterable[str]) -> None:
        """Undo `lease`."""
        network = self._registry.get(network_id)
        if network is None or not network.ipam_driver:
            return
        for address in addresses:
            pool = network.ipam_pool6 if ":" in address else network.ipam_pool
            await _logged(
                plugins.release_address(network.ipam_driver, pool, address),
                f"address {address} of network {network.name} is not released",
            )

    async def join(
        self, endpoint: EndpointRecord, sandbox: str, ports: Mapping[str, Any]
    ) -> tuple[EndpointRecord, plugins.Joined]:
        """The place as its driver made it, and what is to be moved into the sandbox."""
        network = self._registry.get(endpoint.network)
        assert network is not None
        joined = await plugins.join(
            network,
            endpoint.id,
            address=endpoint.address,
            address6=endpoint.address6,
            mac=endpoint.asked_mac,
            sandbox=sandbox,
            ports=_port_map(ports),
            options=endpoint.driver_options,
        )
        inner = f"{joined.prefix}{endpoint.number}"
        made = replace(
            endpoint,
            mac=joined.mac,
            gateway=joined.gateway,
            gateway6=joined.gateway6,
            inner_link=inner,
            source=joined.source,
        )
        return made, joined

    async def lead_out(self, endpoint: EndpointRecord, ports: Mapping[str, Any]) -> None:
        """The sandbox's way out is through this place. Undone by `leave`."""
        network = self._registry.get(endpoint.network)
        assert network is not None
        try:
            await plugins.lead_out(network, endpoint.id, _port_map(ports))
        except errors.BarqueError as error:
            raise type(error)(
                "driver failed programming external connectivity on endpoint "
                f"{endpoint.name} ({endpoint.id}): {error}"
            ) from error

    async def leave(self, endpoint: EndpointRecord) -> None:
        """Undo `join`, also half of it; nothing for a network of ours."""
        network = self._registry.get(endpoint.network)
        if network is not None and network.is_remote:
            what = f"network {network.name} is not told that {endpoint.name} left"
            await _logged(plugins.leave(network, endpoint.id, external=endpoint.external), what)


async def _logged(work: Awaitable[None], what: str) -> None:
    try:
        await work
    except errors.BarqueError as error:
        log.warning("%s: %s", what, error)


def _port_map(bindings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is published, as drivers are told of it. libnetwork: types.PortBinding."""
    numbers = {"tcp": 6, "udp": 17, "sctp": 132}
    found = []
    for key, wanted in bindings.items():
        port, _, protocol = key.partition("/")
        for binding in wanted or ():
            host = str(binding.get("HostPort") or "0").partition("-")[0]
            found.append(
                {
                    "Proto": numbers.get(protocol or "tcp", 6),
                    "Port": int(port),
                    "HostIP": binding.get("HostIp") or "",
                    "HostPort": int(host) if host.isdecimal() else 0,
                }
            )
    return found
