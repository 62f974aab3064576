"""Published ports at containers' own addresses, for who is trusted to route packets there. Pure.

Docker: `allow-direct-routing`, `com.docker.network.bridge.trusted_host_interfaces`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from barque.network.firewall.rules import Published, Segment


def direct(segments: Iterable[Segment], ports: Iterable[Published]) -> set[Published]:
    """What is opened beside the host's `ports` in those of the `segments` that trust somebody."""
    trusting = [segment for segment in segments if segment.trusted]
    if not trusting:
        return set()
    return {
        replace(port, host_ip=port.container_ip, host_port=port.container_port)
        for port in ports
        if any(_has(segment, port.container_ip) for segment in trusting)
    }


def _has(segment: Segment, address: IPv4Address | IPv6Address) -> bool:
    subnet = segment.subnet if address.version == 4 else segment.subnet6
    return subnet is not None and address in subnet
