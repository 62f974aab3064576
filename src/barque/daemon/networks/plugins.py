"""Networks and addresses that other programs keep: the protocols NetworkDriver and IpamDriver.

Found and asked as volume plugins are. Source: libnetwork, "Remote Drivers" and "IPAM Driver". Each
call is a request that may wait for the plugin: never in the thread of the kernel's part.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any

from barque import errors
from barque.daemon.networks.records import NetworkRecord
from barque.linux.netlink_route import check_name
from barque.network.plugs import parse_mac
from barque.volume import plugins

NETWORK, IPAM = "NetworkDriver", "IpamDriver"
GENERIC = "com.docker.network.generic"
INTERNAL = "com.docker.network.internal"
PORTS = "com.docker.network.portmap"
GATEWAY_OPTION = {"RequestAddressType": "com.docker.network.gateway"}
MAX_PREFIX_BYTES = 10
MAX_ROUTES = 256

log = logging.getLogger(__name__)

# A plugin that was started again may have lost what it knew; the protocol has no code for that.
_FORGOTTEN = re.compile(
    r"network.*(not found|not exist|no such|unknown)|(unknown|no such) network", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Route:
    """To `destination` by way of `gateway`, or straight out of the interface."""

    destination: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True)
class Joined:
    """What a driver made for a place: the link to be moved in, and how the place leads out."""

    source: str
    prefix: str
    mac: str = ""
    gateway: str = ""
    gateway6: str = ""
    routes: tuple[Route, ...] = ()


async def call(name: str, protocol: str, method: str, **request: Any) -> dict[str, Any]:
    """Raises NotFound, Unavailable, BarqueError with the plugin's own words."""

    def ask() -> dict[str, Any]:
        kind = "network" if protocol == NETWORK else "ipam"
        plugin = plugins.find(name, implements=protocol, what=kind)
        return plugin.call(f"{protocol}.{method}", **request)

    return await asyncio.to_thread(ask)


# -- networks


async def create_network(record: NetworkRecord) -> None:
    options: dict[str, Any] = {GENERIC: dict(record.options)}
    if record.internal:
        options[INTERNAL] = True
    await call(
        record.driver,
        NETWORK,
        "CreateNetwork",
        NetworkID=record.id,
        Options=options,
        IPv4Data=[_pool(record.subnet, record.gateway)] if record.subnet else [],
        IPv6Data=[_pool(record.subnet6, record.gateway6)] if record.subnet6 else [],
    )


def _pool(subnet: str, gateway: str) -> dict[str, Any]:
    """libnetwork: driverapi.IPAMData."""
    prefix = ip_network(subnet).prefixlen
    given = f"{gateway}/{prefix}" if gateway else ""
    return {
        "AddressSpace": "LocalDefault",
        "Pool": subnet,
        "AuxAddresses": None,
        "Gateway": given,
    }


async def delete_network(record: NetworkRecord) -> None:
    """One that its driver does not know (any more) is deleted."""
    try:
        await call(record.driver, NETWORK, "DeleteNetwork", NetworkID=record.id)
    except errors.BarqueError as error:
        if not _FORGOTTEN.search(str(error)):
            raise


async def join(
    record: NetworkRecord,
    endpoint: str,
    *,
    address: str,
    address6: str,
    mac: str,
    sandbox: str,
    ports: Sequence[Mapping[str, Any]],
    options: Mapping[str, str],
) -> Joined:
    """A place made and joined; `leave` undoes it, also half of it."""
    interface = {"Address": address, "AddressIPv6": address6, "MacAddress": mac}
    more = {GENERIC: dict(options), PORTS: list(ports)}
    place = {"NetworkID": record.id, "EndpointID": endpoint}
    wanted = {**place, "Interface": interface, "Options": more}
    try:
        made = await call(record.driver, NETWORK, "CreateEndpoint", **wanted)
    except errors.BarqueError as error:
        if not _FORGOTTEN.search(str(error)):
            raise
        log.warning("plugin %s has forgotten network %s: told again", record.driver, record.name)
        await create_network(record)
        made = await call(record.driver, NETWORK, "CreateEndpoint", **wanted)
    given = (made.get("Interface") or {}).get("MacAddress") or mac
    joined = await call(record.driver, NETWORK, "Join", **place, SandboxKey=sandbox, Options=more)
    return parse_join(record.driver, joined, given)


def parse_join(driver: str, answer: Mapping[str, Any], mac: str) -> Joined:
    """A driver's answer, which is not to be trusted with what reaches the kernel."""
    try:
        name = answer.get("InterfaceName") or {}
        source, prefix = str(name.get("SrcName") or ""), str(name.get("DstPrefix") or "eth")
        check_name(source)
        check_name(prefix)
        gateway = str(answer.get("Gateway") or "")
        gateway6 = str(answer.get("GatewayIPv6") or "")
        listed = answer.get("StaticRoutes") or []
        if len(prefix) > MAX_PREFIX_BYTES or prefix[-1].isdigit() or len(listed) > MAX_ROUTES:
            raise errors.InvalidArgument(f"interface prefix {prefix!r} or too many routes")
        if mac:
            parse_mac(mac)
        return Joined(
            source,
            prefix,
            mac,
            str(IPv4Interface(gateway).ip) if gateway else "",
            str(IPv6Address(gateway6.partition("/")[0])) if gateway6 else "",
            tuple(_route(item) for item in listed),
        )
    except (errors.InvalidArgument, ValueError, AttributeError, TypeError) as error:
        raise errors.BarqueError(f"plugin {driver}: {NETWORK}.Join: {error}") from error


def _route(item: Mapping[str, Any]) -> Route:
    hop = str(item.get("NextHop") or "")
    destination = ip_network(str(item.get("Destination")), strict=False)
    gateway = ip_address(hop) if hop else None
    if gateway is not None and gateway.version != destination.version:
        raise ValueError(f"route to {destination} by way of {gateway}")
    return Route(destination, gateway)


async def lead_out(
    record: NetworkRecord, endpoint: str, ports: Sequence[Mapping[str, Any]]
) -> None:
    """A sandbox's way out, and in to its published ports, is through this place.

    A plugin that has no such method does it its own way. Undone by `leave`.
    """
    place = {"NetworkID": record.id, "EndpointID": endpoint}
    with suppress(errors.NotFound):
        await call(
            record.driver,
            NETWORK,
            "ProgramExternalConnectivity",
            **place,
            Options={PORTS: list(ports)},
        )


async def leave(record: NetworkRecord, endpoint: str, *, external: bool = False) -> None:
    """Undo `join`, and `lead_out` where it was.

    All calls are made whatever the first says. Safe to run twice.
    """
    place = {"NetworkID": record.id, "EndpointID": endpoint}
    try:
        if external:
            with suppress(errors.NotFound):
                await call(record.driver, NETWORK, "RevokeExternalConnectivity", **place)
    finally:
        try:
            await call(record.driver, NETWORK, "Leave", **place)
        finally:
            await call(record.driver, NETWORK, "DeleteEndpoint", **place)


# -- addresses


@dataclass(frozen=True, slots=True)
class PoolGiven:
    """A pool of a plugin's: what it calls it, its subnet, the gateway's address."""

    id: str
    subnet: str
    gateway: str


async def request_pool(
    driver: str,
    options: Mapping[str, str],
    *,
    subnet: str,
    ip_range: str,
    gateway: str,
    sixth: bool = False,
) -> PoolGiven:
    """`gateway` is asked for too; "" is the plugin's to choose. Undone by `release_pool`."""
    spaces = await call(driver, IPAM, "GetDefaultAddressSpaces")
    found = await call(
        driver,
        IPAM,
        "RequestPool",
        AddressSpace=str(spaces.get("LocalDefaultAddressSpace") or ""),
        Pool=subnet,
        SubPool=ip_range,
        Options=dict(options),
        V6=sixth,
    )
    pool = str(found.get("PoolID") or "")
    try:
        given = ip_network(str(found.get("Pool")), strict=False)
        if (given.version == 6) != sixth:
            raise ValueError(f"pool {given} is of the other family")
        if given.num_addresses < 4:
            raise ValueError(f"pool {given} has no room for containers")
        chosen = await request_address(driver, pool, gateway, GATEWAY_OPTION)
        return PoolGiven(pool, str(given), chosen)
    except ValueError as error:
        await call(driver, IPAM, "ReleasePool", PoolID=pool)
        raise errors.BarqueError(f"plugin {driver}: {IPAM}.RequestPool: {error}") from error
    except BaseException:
        await call(driver, IPAM, "ReleasePool", PoolID=pool)
        raise


async def release_pool(driver: str, pool: str, gateway: str) -> None:
    try:
        await release_address(driver, pool, gateway)
    finally:
        await call(driver, IPAM, "ReleasePool", PoolID=pool)


async def request_address(
    driver: str, pool: str, address: str, options: Mapping[str, str] | None = None
) -> str:
    """An address of the pool, without prefix; `address` or one that the plugin chooses."""
    found = await call(
        driver, IPAM, "RequestAddress", PoolID=pool, Address=address, Options=dict(options or {})
    )
    try:
        return str(ip_interface(str(found.get("Address"))).ip)
    except ValueError as error:
        raise errors.BarqueError(f"plugin {driver}: {IPAM}.RequestAddress: {error}") from error


async def release_address(driver: str, pool: str, address: str) -> None:
    await call(driver, IPAM, "ReleaseAddress", PoolID=pool, Address=address)
