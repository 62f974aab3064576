"""POST /networks/create: the request checked, as a record. Pure.

What Docker knows and Barque does not do yet is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from barque import errors
from barque.daemon.networks import kinds
from barque.daemon.networks.records import BRIDGE_OPTION, BUILTIN_NAMES, MTU_OPTION, NetworkRecord
from barque.linux.netlink_route import check_name
from barque.network.ipam import (
    AddressSpace6,
    parse_address,
    parse_address6,
    parse_network,
    parse_network6,
)
from barque.network.rules import ISOLATED, MODES
from barque.volume import plugins

DRIVERS = frozenset({"bridge", "macvlan", "ipvlan", "overlay"})
NOT_YET_DRIVERS = frozenset({"none", "remote"})
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
MAX_NAME_BYTES = 255
GATEWAY_MODES = {
    BRIDGE_OPTION + "gateway_mode_ipv4": "mode",
    BRIDGE_OPTION + "gateway_mode_ipv6": "mode6",
}
HOST_BINDING = BRIDGE_OPTION + "host_binding_ipv4"

_NOT_YET = ("ConfigOnly", "Ingress")


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


def _fold(document: Mapping[str, Any]) -> dict[str, Any]:
    """Keys in lower case: Go's decoder does not tell case apart."""
    return {key.lower(): value for key, value in document.items()}


def _typed(document: Mapping[str, Any], key: str, kind: type, what: str) -> Any:
    value = document.get(key.lower())
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise errors.InvalidArgument(f"invalid network: {what}{key} has the wrong type")
    return value


def _strings(document: Mapping[str, Any], key: str, what: str = "") -> dict[str, str]:
    found: dict[str, Any] = _typed(document, key, dict, what)
    if not all(isinstance(value, str) for value in found.values()):
        raise errors.InvalidArgument(f"invalid network: {what}{key} has the wrong type")
    return dict(found)


def check_network_name(name: str) -> str:
    if not name.strip():
        raise errors.InvalidArgument("invalid network name: name is empty")
    if not NAME.match(name) or len(name) > MAX_NAME_BYTES:
        raise errors.InvalidArgument(
            f"invalid network name {name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    if name in BUILTIN_NAMES or name == "default":
        raise errors.Forbidden(f"operation is not permitted on predefined {name} network")
    return name


def parse_create(body: Mapping[str, Any], *, network_id: str, created: str) -> NetworkRecord:
    """The record a create request asks for; `subnet` and `gateway` are empty when ours to choose.

    Raises InvalidArgument, Forbidden, NotFound, Unsupported.
    """
    request = _fold(body)
    name = check_network_name(_typed(request, "Name", str, ""))
    driver = _check_kind(name, request)
    ipam = parse_ipam(_typed(request, "IPAM", dict, ""))
    builtin = driver in DRIVERS
    ipv6 = _typed(request, "EnableIPv6", bool, "")
    _check_ipv6(ipam, wanted=ipv6)
    options = _strings(request, "Options")
    return NetworkRecord(
        id=network_id,
        name=name,
        driver=driver,
        created=created,
        subnet=ipam.subnet,
        gateway=ipam.gateway,
        ip_range=ipam.ip_range,
        auxiliary=ipam.auxiliary,
        subnet_chosen=not ipam.subnet,
        subnet6=ipam.subnet6,
        gateway6=ipam.gateway6,
        ip_range6=ipam.ip_range6,
        auxiliary6=ipam.auxiliary6,
        subnet6_chosen=ipv6 and not ipam.subnet6,
        attachable=_typed(request, "Attachable", bool, ""),
        labels=_strings(request, "Labels"),
        options=options,
        is_remote=not builtin,
        is_made=builtin,
        ipam_driver=ipam.driver,
        ipam_options=ipam.options,
        **_of_driver(driver, network_id, options, internal=_typed(request, "Internal", bool, "")),
    )


def _check_ipv6(ipam: Ipam, *, wanted: bool) -> None:
    if ipam.subnet6 and not wanted:
        raise errors.InvalidArgument(
            f"invalid network config: subnet {ipam.subnet6} needs IPv6 to be enabled"
        )


def _of_driver(
    driver: str, network_id: str, options: Mapping[str, str], *, internal: bool
) -> dict[str, Any]:
    """The fields of a record that its driver's options decide."""
    if driver not in DRIVERS:  # the plugin's to understand
        return {"internal": internal}
    if driver != "bridge":
        return kinds.parse(driver, network_id, options, internal=internal)
    bridge = check_name(options.get(BRIDGE_OPTION + "name") or f"br-{network_id[:12]}")
    return {"bridge": bridge, "internal": internal, **parse_options(options, internal=internal)}


def _check_kind(name: str, request: Mapping[str, Any]) -> str:
    """The driver."""
    driver = _typed(request, "Driver", str, "") or "bridge"
    if driver in {"host", "null"}:
        raise errors.Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver in NOT_YET_DRIVERS:
        raise errors.Unsupported(f"network {name}: driver {driver} is not supported yet")
    if driver not in DRIVERS and not plugins.known(driver):
        raise errors.NotFound(f"could not find plugin {driver} in v1 plugin registry")
    for key in _NOT_YET:
        if _typed(request, key, bool, ""):
            raise errors.Unsupported(f"network {name}: {key} is not supported yet")
    if request.get("enableipv4") is False:
        raise errors.Unsupported(f"network {name}: a network without IPv4 is not supported yet")
    if (request.get("configfrom") or {}).get("Network"):
        raise errors.Unsupported(f"network {name}: ConfigFrom is not supported yet")
    if (request.get("scope") or "local") != "local":
        raise errors.Unsupported(f"network {name}: scope {request['scope']} is not supported yet")
    return driver


def parse_ipam(document: Mapping[str, Any]) -> Ipam:
    """The IPAM of a request: at most one subnet of each family."""
    ipam = _fold(document)
    driver = _typed(ipam, "Driver", str, "IPAM.") or "default"
    if driver != "default" and not plugins.known(driver):
        raise errors.NotFound(f"could not find plugin {driver} in v1 plugin registry")
    options = _strings(ipam, "Options", "IPAM.")
    if options and driver == "default":
        raise errors.Unsupported(f"IPAM option {min(options)} is not supported yet")
    configs: Sequence[Any] = _typed(ipam, "Config", list, "IPAM.")
    found = Ipam()
    for config in map(_fold, configs):
        sixth = ":" in _typed(config, "Subnet", str, "IPAM.Config.")
        if found.subnet6 if sixth else found.subnet:
            raise errors.Unsupported("a network with more than one subnet is not supported yet")
        found = replace(found, **(_ipam_config6(config) if sixth else _ipam_config(config)))
    if driver == "default":
        return found
    gateways = {
        ":" in str(config.get("subnet") or ""): _typed(config, "Gateway", str, "IPAM.Config.")
        for config in map(_fold, configs)
    }
    return replace(
        found,
        driver=driver,
        options=options,
        gateway=gateways.get(False, ""),
        gateway6=gateways.get(True, ""),
    )


def _ipam_config6(config: Mapping[str, Any]) -> dict[str, Any]:
    network = parse_network6(config["subnet"])
    gateway = _typed(config, "Gateway", str, "IPAM.Config.")
    ip_range = _typed(config, "IPRange", str, "IPAM.Config.")
    auxiliary = _strings(config, "AuxiliaryAddresses", "IPAM.Config.")
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
    subnet = _typed(config, "Subnet", str, "IPAM.Config.")
    if not subnet:
        if any(config.values()):
            raise errors.InvalidArgument("invalid network config: IPAM config without a subnet")
        return {}
    network = parse_network(subnet)
    if network.prefixlen > 30:
        raise errors.InvalidArgument(f"invalid network config: subnet {network} is too small")
    gateway = _typed(config, "Gateway", str, "IPAM.Config.")
    ip_range = _typed(config, "IPRange", str, "IPAM.Config.")
    auxiliary = _strings(config, "AuxiliaryAddresses", "IPAM.Config.")
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


def parse_options(options: Mapping[str, str], *, internal: bool = False) -> dict[str, Any]:
    """The bridge driver's options as fields of a record. Raises for one we do not do."""
    fields: dict[str, Any] = {"mtu": 0}
    for key, value in options.items():
        if key == BRIDGE_OPTION + "name":
            continue
        if key == BRIDGE_OPTION + "enable_icc":
            fields["icc"] = _flag(key, value)
        elif key == BRIDGE_OPTION + "enable_ip_masquerade":
            fields["masquerade"] = _flag(key, value)
        elif key == HOST_BINDING:
            fields["host_ip"] = str(parse_address(value))
        elif key == MTU_OPTION:
            fields["mtu"] = kinds.parse_mtu(value)
        elif key in GATEWAY_MODES:
            fields[GATEWAY_MODES[key]] = _gateway_mode(value, internal=internal)
        else:
            raise errors.Unsupported(f"network option {key}={value} is not supported yet")
    return fields


def _gateway_mode(value: str, *, internal: bool) -> str:
    if value not in MODES:
        raise errors.InvalidArgument(f"unknown gateway mode {value}")
    if value == ISOLATED and not internal:
        raise errors.InvalidArgument(
            "gateway mode 'isolated' can only be used for an internal network"
        )
    return value


def _flag(key: str, value: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if value.lower() not in known:
        raise errors.InvalidArgument(f"invalid value for {key}: {value!r}")
    return known[value.lower()]
