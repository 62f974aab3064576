"""rtnetlink: links, addresses, routes (linux/rtnetlink.h, if_link.h, if_addr.h).

The functions that change something return a `Message`, so that a caller sends several in one
datagram; those that look something up take the socket. Addresses are packed: 4 or 16 bytes.
"""

from __future__ import annotations

import _socket
import struct

from barque.errors import InvalidArgument
from barque.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    attribute,
    attributes,
    nested,
    text,
    u32,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from barque.linux.netlink import Netlink

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_BRPORT_MODE: Final = 4
IFLA_BRPORT_ISOLATED: Final = 33
VETH_INFO_PEER: Final = 1
RTEXT_FILTER_SKIP_STATS: Final = 8

RTNLGRP_IPV4_IFADDR: Final = 5
RTNLGRP_IPV6_IFADDR: Final = 9

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
IFA_F_NODAD: Final = 2
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5

IFF_UP: Final = 1
RT_TABLE_MAIN: Final = 254
RTPROT_BOOT: Final = 3
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253
RTN_UNICAST: Final = 1

MAX_NAME_BYTES: Final = 15
MAX_MTU: Final = 65535

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")


class Link:
    """What the kernel tells of an interface. `master` is 0 for none, `kind` "" for hardware."""

    __slots__ = ("address", "alias", "flags", "index", "kind", "master", "mtu", "name")

    def __init__(self, body: bytes) -> None:
        fields: tuple[int, ...] = _IFINFO.unpack_from(body)
        self.index, self.flags = fields[2], fields[3]
        found = attributes(body, _IFINFO.size)
        self.name = _string(found.get(IFLA_IFNAME, b""))
        self.alias = _string(found.get(IFLA_IFALIAS, b""))
        self.address = found.get(IFLA_ADDRESS, b"")
        self.mtu = _number(found.get(IFLA_MTU))
        self.master = _number(found.get(IFLA_MASTER))
        self.kind = _string(attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b""))

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None) -> int:
    if value is None:
        return 0
    number: int = struct.unpack("=I", value)[0]
    return number


def check_name(name: str) -> str:
    """A name the kernel takes: 1 to 15 bytes, no slash, colon or space, not "." or ".."."""
    raw = name.encode()
    if not 0 < len(raw) <= MAX_NAME_BYTES or name in {".", ".."}:
        raise InvalidArgument(f"invalid interface name: {name!r}")
    if any(byte <= 0x20 or byte in b"/:\x7f" for byte in raw):
        raise InvalidArgument(f"invalid interface name: {name!r}")
    return name


def _mtu(value: int) -> bytes:
    if value == 0:
        return b""
    if not 68 <= value <= MAX_MTU:
        raise InvalidArgument(f"invalid MTU: {value}")
    return u32(IFLA_MTU, value)


def add_bridge(name: str, mac: bytes, mtu: int = 0) -> Message:
    """A bridge, up, with a fixed address, so that ports that come and go do not change it."""
    body = b"".join(
        (
            _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP),
            text(IFLA_IFNAME, check_name(name)),
            attribute(IFLA_ADDRESS, mac),
            _mtu(mtu),
            nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge")),
        )
    )
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add bridge {name}")


def add_veth(name: str, peer: str, netns: int, master: int = 0, mtu: int = 0) -> Message:
    """A veth pair: `name` here, up, a port of `master`; `peer`, down, in namespace fd `netns`."""
    peer_info = b"".join(
        (
            _IFINFO.pack(0, 0, 0, 0, 0),
            text(IFLA_IFNAME, check_name(peer)),
            u32(IFLA_NET_NS_FD, netns),
            _mtu(mtu),
        )
    )
    info = nested(
        IFLA_LINKINFO,
        text(IFLA_INFO_KIND, "veth"),
        nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer_info)),
    )
    body = b"".join(
        (
            _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP),
            text(IFLA_IFNAME, check_name(name)),
            u32(IFLA_MASTER, master) if master else b"",
            _mtu(mtu),
            info,
        )
    )
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add veth {name}")


def set_link(
    index: int,
    *,
    up: bool | None = None,
    mac: bytes = b"",
    name: str = "",
    master: int | None = None,
    mtu: int = 0,
    alias: str | None = None,
) -> Message:
    """Change an interface: the address before it goes up; `master` 0 frees a port."""
    body = b"".join(
        (
            _IFINFO.pack(0, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP),
            attribute(IFLA_ADDRESS, mac) if mac else b"",
            text(IFLA_IFNAME, check_name(name)) if name else b"",
            _mtu(mtu),
            u32(IFLA_MASTER, master) if master is not None else b"",
            attribute(IFLA_IFALIAS, alias.encode()) if alias is not None else b"",
        )
    )
    return Message(RTM_NEWLINK, 0, body, f"set link {name or index}")


def move_link(index: int, netns: int, name: str) -> Message:
    """Give an interface (which is down) to the network namespace `netns`, under this name."""
    body = b"".join(
        (
            _IFINFO.pack(0, 0, index, 0, 0),
            u32(IFLA_NET_NS_FD, netns),
            text(IFLA_IFNAME, check_name(name)),
        )
    )
    return Message(RTM_NEWLINK, 0, body, f"move link {name}")


def set_port(index: int, *, isolated: bool = False) -> Message:
    """Options of bridge port `index`: an isolated port reaches no other isolated one.

    Hairpin is on: where bridged frames pass the packet filter (bridge-nf-call-iptables), one that
    is redirected back to its sender leaves by the port it came in.
    """
    options = nested(
        IFLA_INFO_SLAVE_DATA,
        attribute(IFLA_BRPORT_MODE, b"\x01"),
        attribute(IFLA_BRPORT_ISOLATED, bytes((isolated,))),
    )
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), options)
    body = _IFINFO.pack(0, 0, index, 0, 0) + info
    return Message(RTM_NEWLINK, 0, body, f"set bridge port {index}")


def delete_link(index: int) -> Message:
    return Message(RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0), f"delete link {index}")


def get_link(netlink: Netlink, name: str) -> Link | None:
    """The interface `name`, or None."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    body += text(IFLA_IFNAME, check_name(name))
    try:
        return Link(netlink.get(Message(RTM_GETLINK, 0, body, f"get link {name}")).body)
    except OSError as error:
        if error.errno == 19:  # ENODEV
            return None
        raise


def links(netlink: Netlink, master: int = 0) -> list[Link]:
    """All interfaces, or the ports of bridge `master`."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    if master:
        body += u32(IFLA_MASTER, master)
    found = [
        Link(reply.body) for reply in netlink.dump(Message(RTM_GETLINK, 0, body, "list links"))
    ]
    return [link for link in found if not master or link.master == master]


def _family(address: bytes) -> int:
    if len(address) == 4:
        return int(_socket.AF_INET)
    if len(address) == 16:
        return int(_socket.AF_INET6)
    raise InvalidArgument(f"an address has 4 or 16 bytes, not {len(address)}")


def _prefix(address: bytes, prefix: int) -> int:
    if not 0 <= prefix <= 8 * len(address):
        raise InvalidArgument(f"invalid prefix length: {prefix}")
    return prefix


def _address(kind: int, flags: int, index: int, address: bytes, prefix: int, what: str) -> Message:
    given = IFA_F_NODAD if len(address) == 16 else 0  # ours alone by design: usable at once
    body = _IFADDR.pack(_family(address), _prefix(address, prefix), given, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, address) + attribute(IFA_ADDRESS, address)
    if len(address) == 4 and prefix < 31:
        number = int.from_bytes(address, "big") | (0xFFFFFFFF >> prefix)
        body += attribute(IFA_BROADCAST, number.to_bytes(4, "big"))
    return Message(kind, flags, body, what)


def add_address(index: int, address: bytes, prefix: int) -> Message:
    """An address with its broadcast address. An address that is there already is replaced."""
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return _address(RTM_NEWADDR, flags, index, address, prefix, f"add address to link {index}")


def delete_address(index: int, address: bytes, prefix: int) -> Message:
    return _address(RTM_DELADDR, 0, index, address, prefix, f"delete address of link {index}")


def addresses(netlink: Netlink, index: int) -> list[tuple[bytes, int]]:
    """The addresses of interface `index` with their prefix lengths, both families."""
    body = _IFADDR.pack(0, 0, 0, 0, index)
    found: list[tuple[bytes, int]] = []
    for reply in netlink.dump(Message(RTM_GETADDR, 0, body, f"list addresses of link {index}")):
        _, prefix, _flags, _scope, owner = _IFADDR.unpack_from(reply.body)
        if owner == index:
            values = attributes(reply.body, _IFADDR.size)
            found.append((values.get(IFA_LOCAL) or values[IFA_ADDRESS], prefix))
    return found


def deleted_address(kind: int, body: bytes) -> int:
    """The interface that a multicast message says has lost an address; 0 for another message."""
    return int(_IFADDR.unpack_from(body)[4]) if kind == RTM_DELADDR else 0


def add_route(index: int, gateway: bytes, destination: bytes = b"", prefix: int = 0) -> Message:
    """A route through `gateway` on interface `index`; with no destination the default route."""
    body = _RTMSG.pack(
        _family(gateway),
        prefix,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
        0,
    )
    if destination:
        body += attribute(RTA_DST, destination)
    body += attribute(RTA_GATEWAY, gateway) + u32(RTA_OIF, index)
    what = f"add route through link {index}"
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, what)


def routes(netlink: Netlink) -> list[tuple[bytes, int, int]]:
    """The IPv4 routes of the main table: destination (b"" for the default), prefix, interface."""
    return _routes(netlink, int(_socket.AF_INET))


def routes6(netlink: Netlink) -> list[tuple[bytes, int, int]]:
    """The same of IPv6."""
    return _routes(netlink, int(_socket.AF_INET6))


def _routes(netlink: Netlink, family: int) -> list[tuple[bytes, int, int]]:
    body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    found: list[tuple[bytes, int, int]] = []
    for reply in netlink.dump(Message(RTM_GETROUTE, 0, body, "list routes")):
        fields = _RTMSG.unpack_from(reply.body)
        values = attributes(reply.body, _RTMSG.size)
        if fields[4] == RT_TABLE_MAIN and fields[7] == RTN_UNICAST:
            found.append((values.get(RTA_DST, b""), fields[1], _number(values.get(RTA_OIF))))
    return found
