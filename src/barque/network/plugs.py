"""A sandbox's place on a network, and how its interface is named and addressed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Protocol

from barque import errors
from barque.network.uplinks import Uplink


class Hop(Protocol):
    """A route: to `destination` by way of `gateway`, or (None) straight out of the interface."""

    @property
    def destination(self) -> IPv4Network | IPv6Network: ...

    @property
    def gateway(self) -> IPv4Address | IPv6Address | None: ...


@dataclass(frozen=True, slots=True)
class Plug:
    """A sandbox's place on a bridge."""

    bridge: int  # interface index
    host_link: str
    inner_link: str
    mac: bytes
    address: IPv4Interface | None
    gateway: IPv4Address | None  # None: no default route through here
    mtu: int
    isolated: bool = False  # may not reach other ports of the bridge
    uplink: Uplink | None = None  # what it is a link on top of, when it is on no bridge
    device_route: bool = False  # the default route needs no gateway
    source: str = ""  # a link that another program made on the host, to be moved in
    routes: Sequence[Hop] = ()
    address6: IPv6Interface | None = None
    gateway6: IPv6Address | None = None
    device_route6: bool = False
    link_local: Sequence[IPv4Address | IPv6Address] = ()
    sysctls: Sequence[str] = ()  # net.KEY=VALUE, of its own interface

    @property
    def has_ipv6(self) -> bool:
        return self.address6 is not None or any(a.version == 6 for a in self.link_local)


def mac_of(address: IPv4Address) -> bytes:
    """The link address that goes with an IPv4 address: neighbours' caches stay right by design."""
    return b"\x02\x42" + address.packed


def random_mac() -> bytes:
    """Of an interface that has no IPv4 address."""
    return b"\x02\x42" + os.urandom(4)


def format_mac(mac: bytes) -> str:
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    try:
        mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        mac = b""
    if len(mac) != 6 or mac[0] & 1:
        raise errors.InvalidArgument(f"invalid MAC address: {text}")
    return mac


def sysctl_name(interface: str) -> str:
    """An interface's name within a sysctl's, where a dot parts words and a slash is a dot."""
    return interface.replace(".", "/")
