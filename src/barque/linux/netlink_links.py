"""rtnetlink: links on top of other links: macvlan, ipvlan, VLANs, VXLAN (linux/if_link.h)."""

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
    nested,
    text,
    u32,
)
from barque.linux.netlink_route import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    RT_SCOPE_LINK,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_OIF,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTN_UNICAST,
    RTPROT_BOOT,
    check_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

RTM_NEWNEIGH: Final = 28
IFLA_LINK: Final = 5
IFLA_MACVLAN_MODE: Final = 1
IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2
IFLA_VLAN_ID: Final = 1
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT = 1, 4, 7, 15
NDA_DST, NDA_LLADDR = 1, 2
NTF_SELF: Final = 2
NUD_NOARP_PERMANENT: Final = 0xC0
NLM_F_APPEND: Final = 0x800
AF_BRIDGE: Final = 7

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

_IFINFO = struct.Struct("=BxHiII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")


def _add(name: str, kind: str, data: bytes, rest: bytes, *, up: bool = False) -> Message:
    state = IFF_UP if up else 0
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, data))
    body = _IFINFO.pack(0, 0, 0, state, state) + text(IFLA_IFNAME, check_name(name)) + rest + info
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add {kind} {name}")


def _inside(parent: int, netns: int, mac: bytes, mtu: int) -> bytes:
    return b"".join(
        (
            u32(IFLA_LINK, parent),
            u32(IFLA_NET_NS_FD, netns),
            attribute(IFLA_ADDRESS, mac) if mac else b"",
            u32(IFLA_MTU, mtu) if mtu else b"",
        )
    )


def add_macvlan(
    name: str, parent: int, netns: int, mode: str, mac: bytes = b"", mtu: int = 0
) -> Message:
    """A macvlan of link `parent`, down, in the namespace fd `netns`."""
    data = u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])
    return _add(name, "macvlan", data, _inside(parent, netns, mac, mtu))


def add_ipvlan(name: str, parent: int, netns: int, mode: str, flag: str, mtu: int = 0) -> Message:
    """An ipvlan of link `parent`, down, in the namespace fd `netns`; it has its parent's MAC."""
    data = attribute(IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODES[mode]))
    data += attribute(IFLA_IPVLAN_FLAGS, struct.pack("=H", IPVLAN_FLAGS[flag]))
    return _add(name, "ipvlan", data, _inside(parent, netns, b"", mtu))


def add_vlan(name: str, parent: int, vlan_id: int) -> Message:
    """The 802.1q sub-interface of link `parent`, up."""
    if not 1 <= vlan_id <= 4094:
        raise InvalidArgument(f"invalid VLAN id: {vlan_id}")
    data = attribute(IFLA_VLAN_ID, struct.pack("=H", vlan_id))
    return _add(name, "vlan", data, u32(IFLA_LINK, parent), up=True)


def add_dummy(name: str) -> Message:
    return _add(name, "dummy", b"", b"", up=True)


def add_device_route(
    index: int, destination: bytes = b"", prefix: int = 0, *, sixth: bool = False
) -> Message:
    """A route out of link `index`, whoever is behind it; by default the default one.

    Of IPv6 where `destination` is, or with `sixth`.
    """
    body = _RTMSG.pack(
        int(_socket.AF_INET6 if sixth or len(destination) == 16 else _socket.AF_INET),
        prefix,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        RT_SCOPE_LINK,
        RTN_UNICAST,
        0,
    )
    body += (attribute(RTA_DST, destination) if destination else b"") + u32(RTA_OIF, index)
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return Message(RTM_NEWROUTE, flags, body, f"add default route of link {index}")


def add_vxlan(
    name: str, vni: int, local: bytes, port: int, master: int = 0, mtu: int = 0
) -> Message:
    """A VXLAN link, up, that learns who is where; `local` is packed IPv4, b"" for any address."""
    if not 0 <= vni < 1 << 24:
        raise InvalidArgument(f"invalid VXLAN id: {vni}")
    data = b"".join(
        (
            u32(IFLA_VXLAN_ID, vni),
            attribute(IFLA_VXLAN_LOCAL, local) if local else b"",
            attribute(IFLA_VXLAN_LEARNING, b"\x01"),
            attribute(IFLA_VXLAN_PORT, struct.pack(">H", port)),
        )
    )
    rest = (u32(IFLA_MASTER, master) if master else b"") + (u32(IFLA_MTU, mtu) if mtu else b"")
    return _add(name, "vxlan", data, rest, up=True)


def flood_to(index: int, peer: bytes) -> Message:
    """What has no known place behind VXLAN link `index` goes to the host `peer`, among others."""
    body = _NDMSG.pack(AF_BRIDGE, index, NUD_NOARP_PERMANENT, NTF_SELF, 0)
    body += attribute(NDA_LLADDR, bytes(6)) + attribute(NDA_DST, peer)
    flags = NLM_F_CREATE | NLM_F_APPEND
    return Message(RTM_NEWNEIGH, flags, body, f"add peer of link {index}")
