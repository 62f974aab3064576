"""What a new container names beside itself: other containers, hosts, addresses. Looked up early.

A wrong one is InvalidArgument, and never NotFound: of that the docker command makes that the image
is missing, and pulls it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import HostConfig
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.record import DEFAULT_NETWORK

HOST_GATEWAY = "host-gateway"
MAC_ADDRESS = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", re.ASCII)


def check(engine: Engine, host: HostConfig, endpoints: Mapping[str, Any]) -> None:
    """Raises InvalidArgument in Docker's words. Links are by ids from here on."""
    for mode in (host.ipc_mode, host.pid_mode):
        if mode.startswith("container:"):
            find(engine, mode.partition(":")[2])
    on_default = host.network_mode in DEFAULT_NETWORK
    host.links = [_link(engine, link, there=on_default) for link in host.links or ()] or None
    for entry in host.extra_hosts or ():
        _check_extra_host(entry)
    for settings in endpoints.values():
        if isinstance(settings, Mapping):
            _check_addresses(settings)


def find(engine: Engine, reference: str) -> Container:
    """The container that another one shall share something with."""
    try:
        return engine.catalogue.find(reference)
    except errors.NotFound as error:
        raise errors.InvalidArgument(str(error)) from None


def _link(engine: Engine, link: str, *, there: bool) -> str:
    """`container[:alias]`, by the container's id: it may get another name.

    On a user's network it is a name that need not be there.
    """
    if not link:
        raise errors.InvalidArgument("empty string specified for links")
    parts = link.split(":")
    if len(parts) > 2 or not parts[0]:
        raise errors.InvalidArgument(f"bad format for links: {link}")
    if not there:
        return link
    try:
        return f"{find(engine, parts[0]).id}:{parts[-1].removeprefix('/')}"
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(f"could not get container for {parts[0]}: {error}") from None


def _check_extra_host(entry: str) -> None:
    """`name:address`, or `name=address` as newer clients write it."""
    name, cut, address = re.split("([:=])", entry, maxsplit=1) if _cut(entry) else (entry, "", "")
    if not cut or not name:
        raise errors.InvalidArgument(f'bad format for add-host: "{entry}"')
    if address != HOST_GATEWAY and not _is_address(address.removeprefix("[").removesuffix("]")):
        raise errors.InvalidArgument(f'invalid IP address in add-host: "{address}"')


def _cut(entry: str) -> bool:
    return ":" in entry or "=" in entry


def _is_address(text: str, version: int = 0) -> bool:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return version in {0, found.version}


def _check_addresses(settings: Mapping[str, Any]) -> None:
    """API: EndpointSettings, what a client may ask for."""
    ipam = settings.get("IPAMConfig") or {}
    if not isinstance(ipam, Mapping):
        raise errors.InvalidArgument("invalid request body: IPAMConfig is not an object")
    for key, version in (("IPv4Address", 4), ("IPv6Address", 6)):
        given = ipam.get(key)
        if given and not (isinstance(given, str) and _is_address(given, version)):
            raise errors.InvalidArgument(f"invalid IPv{version} address: {given}")
    for given in ipam.get("LinkLocalIPs") or ():
        if not (isinstance(given, str) and _is_address(given)):
            raise errors.InvalidArgument(f"invalid link-local IP address: {given}")
    mac = settings.get("MacAddress")
    if mac and not (isinstance(mac, str) and MAC_ADDRESS.fullmatch(mac)):
        raise errors.InvalidArgument(f"invalid MAC address: {mac}")
