"""The IPAM of a request to make a network: subnets, ranges, gateways checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from barque import errors
from barque.daemon.networks.members import fold, strings, typed
from barque.network.ipam import (
    AddressSpace6,
    parse_address,
    parse_address6,
    parse_network,
    parse_network6,
)
from barque.volume import plugin_places


@dataclass(frozen=True, slots=True)
class Ipam:
    """What the request says of addresses; an empty subnet is ours to choose."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    driver: str = ""  # the plugin that keeps the addresses; the gateway is then its to choose
    options: Mapping[str, str] = field(default_factory=dict)
    subnet6: str = ""
    gateway6: str = ""
    ip_range6: str = ""
    auxiliary6: Mapping[str, str] = field(default_factory=dict)


def parse_ipam(document: Mapping[str, Any], *, builtin: bool = True) -> Ipam:
    """The IPAM of a request: at most one subnet of each family. `builtin`: no plugin's network."""
    ipam = fold(document)
    driver = typed(ipam, "Driver", str, "IPAM.") or "default"
    if driver == "null" and not builtin:
        raise errors.Unsupported("a plugin's network without addresses is not supported yet")
    if driver == "null":
        raise errors.InvalidArgument(
            "null ipam driver does not handle specific address pool requests"
            if ipam.get("config")
            else "ipv4 pool is empty"  # as Docker says of every driver of its own
        )
    if driver != "default" and not plugin_places.known(driver):
        raise errors.NotFound(f"could not find plugin {driver} in v1 plugin registry")
    options = strings(ipam, "Options", "IPAM.")
    if options and driver == "default":
        raise errors.Unsupported(f"IPAM option {min(options)} is not supported yet")
    configs: Sequence[Any] = typed(ipam, "Config", list, "IPAM.")
    found = Ipam()
    for config in map(fold, configs):
        sixth = is_sixth(config)
        if found.subnet6 if sixth else found.subnet:
            raise errors.Unsupported("a network with more than one subnet is not supported yet")
        found = replace(found, **(_ipam_config6(config) if sixth else _ipam_config(config)))
    if driver == "default":
        return found
    gateways = {
        is_sixth(config): typed(config, "Gateway", str, "IPAM.Config.")
        for config in map(fold, configs)
    }
    return replace(
        found,
        driver=driver,
        options=options,
        gateway=gateways.get(False, ""),
        gateway6=gateways.get(True, ""),
    )


def check_configs(configs: Sequence[Any]) -> list[dict[str, Any]]:
    """Of a configuration for others, which may name more subnets than a network has."""
    found = []
    for config in map(fold, configs):
        if is_sixth(config):
            _ipam_config6(config)
        else:
            _ipam_config(config)
        words = ("Subnet", "IPRange", "Gateway")
        kept: dict[str, Any] = {word: typed(config, word, str, "IPAM.Config.") for word in words}
        kept["AuxiliaryAddresses"] = strings(config, "AuxiliaryAddresses", "IPAM.Config.")
        found.append({word: value for word, value in kept.items() if value})
    return found


def is_sixth(config: Mapping[str, Any]) -> bool:
    return ":" in typed(config, "Subnet", str, "IPAM.Config.")


def _ipam_config6(config: Mapping[str, Any]) -> dict[str, Any]:
    network = parse_network6(config["subnet"])
    gateway = typed(config, "Gateway", str, "IPAM.Config.")
    ip_range = typed(config, "IPRange", str, "IPAM.Config.")
    auxiliary = strings(config, "AuxiliaryAddresses", "IPAM.Config.")
    within = parse_network6(ip_range) if ip_range else network
    if not within.subnet_of(network):
        raise errors.InvalidArgument(
            f"invalid network config: iprange {ip_range} is not inside subnet {network}"
        )
    for text in (*([gateway] if gateway else []), *auxiliary.values()):
        address = parse_address6(text)
        if address not in network or address == network.network_address:
            raise errors.InvalidArgument(
                f"invalid network config: address {address} is not usable in subnet {network}"
            )
    AddressSpace6(network)  # refuses one without room
    return {
        "subnet6": str(network),
        "gateway6": str(parse_address6(gateway)) if gateway else str(first_address6(within)),
        "ip_range6": str(within) if ip_range else "",
        "auxiliary6": {name: str(parse_address6(text)) for name, text in auxiliary.items()},
    }


def first_address6(network: IPv6Network) -> IPv6Address:
    """The gateway of a network whose creator names none: ::1 of it."""
    return network.network_address + 1


def _ipam_config(config: Mapping[str, Any]) -> dict[str, Any]:
    subnet = typed(config, "Subnet", str, "IPAM.Config.")
    if not subnet:
        if any(config.values()):
            raise errors.InvalidArgument("invalid network config: IPAM config without a subnet")
        return {}
    network = parse_network(subnet)
    if network.prefixlen > 30:
        raise errors.InvalidArgument(f"invalid network config: subnet {network} is too small")
    gateway = typed(config, "Gateway", str, "IPAM.Config.")
    ip_range = typed(config, "IPRange", str, "IPAM.Config.")
    auxiliary = strings(config, "AuxiliaryAddresses", "IPAM.Config.")
    for address in (*([gateway] if gateway else []), *auxiliary.values()):
        _check_inside(parse_address(address), network)
    if ip_range and not parse_network(ip_range).subnet_of(network):
        raise errors.InvalidArgument(
            f"invalid network config: iprange {ip_range} is not inside subnet {network}"
        )
    return {
        "subnet": str(network),
        "gateway": gateway or str(first_address(network, ip_range)),
        "ip_range": str(parse_network(ip_range)) if ip_range else "",
        "auxiliary": auxiliary,
    }


def first_address(network: IPv4Network, ip_range: str = "") -> IPv4Address:
    """The gateway of a network whose creator names none: the first address of its range."""
    within = parse_network(ip_range) if ip_range else network
    first = within.network_address
    return first + 1 if first == network.network_address else first


def _check_inside(address: IPv4Address, network: IPv4Network) -> None:
    if address not in network or address in {network.network_address, network.broadcast_address}:
        raise errors.InvalidArgument(
            f"invalid network config: address {address} is not usable in subnet {network}"
        )
