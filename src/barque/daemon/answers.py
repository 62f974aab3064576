"""What a version of the Engine API has that another has not, where an answer is one document.

Source: Docker Engine API, "Engine API version history".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

Version = tuple[int, int]
Document = dict[str, Any]

TRIMMED_SINCE = (1, 52)
MOST = (1 << 64) - 1
_SETTINGS = """
Bridge HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen SecondaryIPAddresses
SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress
IPPrefixLen IPv6Gateway MacAddress
"""
OLD_SETTINGS = frozenset(_SETTINGS.split())
OLD_EVENT = ("status", "id", "from")
IMAGE_FIELDS = ("Parent", "Comment", "DockerVersion", "Author")
IMAGE_CONFIG = (
    *("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"),
)


def container(found: Document, version: Version) -> Document:
    """ContainerInspectResponse: since 1.52 addresses are told of each network alone."""
    if version >= TRIMMED_SINCE:
        settings = found["NetworkSettings"]
        found["NetworkSettings"] = {k: v for k, v in settings.items() if k not in OLD_SETTINGS}
        _drop_empty(found["Config"], ("OnBuild",))
    return found


def image(found: Document, version: Version) -> Document:
    """ImageInspect: since 1.52 without what is empty."""
    if version >= TRIMMED_SINCE:
        _drop_empty(found, IMAGE_FIELDS)
        found["Config"] = dict(found["Config"])
        _drop_empty(found["Config"], IMAGE_CONFIG)
    return found


def _drop_empty(document: Document, names: Iterable[str]) -> None:
    for name in names:
        if not document.get(name):
            document.pop(name, None)


def event(found: Document, version: Version) -> Document:
    """EventMessage: until 1.51 with the names of API 1.21."""
    if version < TRIMMED_SINCE:
        return found
    return {key: value for key, value in found.items() if key not in OLD_EVENT}


def subnet_status(
    subnet: str, within: str, reserved: Iterable[str], members: Iterable[str]
) -> Document:
    """SubnetStatus: how many addresses are taken, and how many may still be given out.

    `within` is the range that they come from, "" for the whole; addresses that are none are "".
    """
    network, pool = ip_network(subnet), ip_network(within or subnet)
    taken = {ip_address(one.partition("/")[0]) for one in (*reserved, *members) if one}
    taken.add(network.network_address)
    if isinstance(network, IPv4Network):
        taken.add(network.broadcast_address)
    inside = [one for one in taken if one in network]
    free = pool.num_addresses - sum(one in pool for one in inside)
    return {"IPsInUse": len(inside), "DynamicIPsAvailable": min(max(free, 0), MOST)}


def empty_bindings(bindings: Mapping[str, Any] | None) -> list[str]:
    """Ports with an empty list of bindings, which stand for one on any port: warned of."""
    return sorted(
        port for port, given in (bindings or {}).items() if given is not None and not given
    )
