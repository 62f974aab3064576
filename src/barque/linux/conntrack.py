"""ctnetlink: forget connections the kernel tracks (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import struct

from barque.linux.netlink import Message, attribute, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from barque.linux.netlink import Netlink

NFNL_SUBSYS_CTNETLINK: Final = 1
IPCTNL_MSG_CT_GET: Final = 1
IPCTNL_MSG_CT_DELETE: Final = 2
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_TUPLE_IP: Final = 1
CTA_TUPLE_PROTO: Final = 2
CTA_IP_V4_SRC: Final = 1
CTA_PROTO_NUM: Final = 1
NLA_F_NESTED: Final = 0x8000
AF_INET: Final = 2

_NFGENMSG = struct.Struct(">BBH")


def _kind(message: int) -> int:
    return NFNL_SUBSYS_CTNETLINK << 8 | message


def redirected_to(netlink: Netlink, protocol: int, address: bytes) -> list[bytes]:
    """The original tuples of IPv4 connections of `protocol` whose answers come from `address`."""
    query = Message(_kind(IPCTNL_MSG_CT_GET), 0, _NFGENMSG.pack(AF_INET, 0, 0), "list connections")
    found = []
    for reply in netlink.dump(query):
        fields = attributes(reply.body, _NFGENMSG.size)
        back = attributes(fields.get(CTA_TUPLE_REPLY, b""))
        source = attributes(back.get(CTA_TUPLE_IP, b"")).get(CTA_IP_V4_SRC)
        number = attributes(back.get(CTA_TUPLE_PROTO, b"")).get(CTA_PROTO_NUM, b"\0")[0]
        if source == address and number == protocol and CTA_TUPLE_ORIG in fields:
            found.append(fields[CTA_TUPLE_ORIG])
    return found


def forget(original: bytes) -> Message:
    """Forget the connection with this original tuple."""
    body = _NFGENMSG.pack(AF_INET, 0, 0) + attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, original)
    return Message(_kind(IPCTNL_MSG_CT_DELETE), 0, body, "forget a connection")
