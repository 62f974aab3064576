"""Which networks a container is to be in, read from HostConfig and NetworkingConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barque import errors
from barque.daemon.networks.endpoint_options import parse_endpoint_options, parse_link_local
from barque.daemon.networks.records import NetworkRecord
from barque.daemon.networks.registry import Registry
from barque.daemon.sandboxes.state import Asked


def plain_mode(mode: str) -> str:
    return "bridge" if mode in {"", "default"} else mode


def parse_asked(
    registry: Registry, mode: str, endpoints: Mapping[str, Mapping[str, Any] | None]
) -> list[Asked]:
    """`endpoints` decide when they name any network. Refuses what is wrong or not there yet."""
    wanted = {
        registry.resolve(plain_mode(key)): settings or {}
        for key, settings in (endpoints or {mode: {}}).items()
    }
    for one in wanted:
        refuse_template(one)
    alone = next((one for one in wanted if one.driver in {"host", "null"}), None)
    if alone is not None and len(wanted) > 1:
        raise errors.InvalidArgument(
            "container cannot be connected to multiple networks with one of the networks in "
            + ("private (none) mode" if alone.driver == "null" else "host mode")
        )
    return [asked_of(record, settings) for record, settings in wanted.items()]


def refuse_template(network: NetworkRecord) -> None:
    if network.template:
        raise errors.Forbidden("cannot create endpoint on configuration-only network")


def asked_of(network: NetworkRecord, settings: Mapping[str, Any]) -> Asked:
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
    driver_options = dict(settings.get("DriverOpts") or {})
    given = parse_endpoint_options(driver_options, network.name, remote=network.is_remote)
    ipam = settings.get("IPAMConfig") or {}
    address = str(ipam.get("IPv4Address") or "")
    address6 = str(ipam.get("IPv6Address") or "")
    link_local = parse_link_local(ipam.get("LinkLocalIPs") or ())
    if not network.has_addresses and (link_local or given.ifname or given.sysctls):
        raise errors.InvalidArgument(f"network {network.name} gives a container no interface")
    if (address and network.subnet_chosen) or (address6 and network.subnet6_chosen):
        raise errors.InvalidArgument(
            "user specified IP address is supported "
            + (
                "on user defined networks only"
                if network.is_builtin
                else "only when connecting to networks with user configured subnets"
            )
        )
    mac = str(settings.get("MacAddress") or "") or given.mac
    priority = int(settings.get("GwPriority") or 0)
    return Asked(
        network,
        address,
        address6,
        mac,
        priority,
        aliases,
        links,
        driver_options,
        link_local=link_local,
        ifname=given.ifname,
        sysctls=given.sysctls,
    )
