"""nftables by netlink: tables, chains and rules (linux/netfilter/nf_tables.h).

What `nft` compiles from text, as messages for `nfnetlink.transaction`: no process runs. Only the
few expressions that networks need. `nft list table` shows the result as if written as text.
"""

from __future__ import annotations

import struct

from barque.linux.netlink import NLM_F_CREATE, Message, attribute, nested, text
from barque.linux.nfnetlink import NFNL_SUBSYS_NFTABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

NFPROTO_IPV4: Final = 2
NFPROTO_IPV6: Final = 10
NLM_F_APPEND: Final = 0x800

NFT_MSG_NEWTABLE: Final = 0
NFT_MSG_DELTABLE: Final = 2
NFT_MSG_NEWCHAIN: Final = 3
NFT_MSG_DELCHAIN: Final = 5
NFT_MSG_NEWRULE: Final = 6
NFT_MSG_DELRULE: Final = 8

REGISTER_1: Final = 1  # 16 bytes each
REGISTER_2: Final = 2

NETWORK_HEADER: Final = 1
TRANSPORT_HEADER: Final = 2

META_IIFNAME: Final = 6
META_OIFNAME: Final = 7
META_NFPROTO: Final = 15
META_L4PROTO: Final = 16

CT_STATE: Final = 0
CT_STATUS: Final = 2
CT_ESTABLISHED_OR_RELATED: Final = 2 | 4
IPS_DST_NAT: Final = 1 << 5

DROP: Final = 0
ACCEPT: Final = 1
JUMP: Final = -3

HOOK_LOCAL_OUT: Final = 3
PRIORITY_NAT_DST: Final = -100
IFNAME_BYTES: Final = 16

_NFGENMSG = struct.Struct(">BBH")


def _message(kind: int, flags: int, family: int, what: str, *parts: bytes) -> Message:
    body = _NFGENMSG.pack(family, 0, 0) + b"".join(parts)
    return Message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, body, f"nftables: {what}")


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def add_table(family: int, table: str) -> Message:
    """Add a table; one that is there stays."""
    return _message(NFT_MSG_NEWTABLE, NLM_F_CREATE, family, f"table {table}", text(1, table))


def delete_table(family: int, table: str) -> Message:
    """Delete a table with all that is in it."""
    return _message(NFT_MSG_DELTABLE, 0, family, f"table {table}", text(1, table))


def add_chain(family: int, table: str, chain: str) -> Message:
    """A chain that others jump to."""
    what = f"chain {chain} of table {table}"
    return _message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, family, what, text(1, table), text(3, chain))


def add_nat_chain(family: int, table: str, chain: str, hook: int, priority: int) -> Message:
    """A chain that the kernel calls for the first packet of a connection."""
    return _message(
        NFT_MSG_NEWCHAIN,
        NLM_F_CREATE,
        family,
        f"chain {chain} of table {table}",
        text(1, table),
        text(3, chain),
        nested(4, _be32(1, hook), _be32(2, priority)),
        text(7, "nat"),
    )


def delete_chain(family: int, table: str, chain: str) -> Message:
    """Delete a chain that is empty and that nothing jumps to."""
    what = f"chain {chain} of table {table}"
    return _message(NFT_MSG_DELCHAIN, 0, family, what, text(1, table), text(3, chain))


def flush_chain(family: int, table: str, chain: str) -> Message:
    what = f"rules of chain {chain} of table {table}"
    return _message(NFT_MSG_DELRULE, 0, family, what, text(1, table), text(2, chain))


def add_rule(family: int, table: str, chain: str, *expressions: bytes) -> Message:
    """A rule at the chain's end."""
    return _message(
        NFT_MSG_NEWRULE,
        NLM_F_CREATE | NLM_F_APPEND,
        family,
        f"rule of chain {chain} of table {table}",
        text(1, table),
        text(2, chain),
        nested(4, *(nested(1, expression) for expression in expressions)),
    )


def _expression(name: str, *parts: bytes) -> bytes:
    return text(1, name) + nested(2, *parts)


def verdict(code: int, chain: str = "") -> bytes:
    """The data of a verdict: NFTA_DATA_VERDICT."""
    return nested(2, _be32(1, code), *((text(2, chain),) if chain else ()))


def decide(code: int, chain: str = "") -> bytes:
    """Accept, drop, jump."""
    return _expression("immediate", _be32(1, 0), nested(2, verdict(code, chain)))


def immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", _be32(1, register), nested(2, attribute(1, value)))


def payload(base: int, offset: int, length: int) -> bytes:
    """Load bytes of a header into register 1."""
    return _expression(
        "payload", _be32(1, REGISTER_1), _be32(2, base), _be32(3, offset), _be32(4, length)
    )


def meta(key: int) -> bytes:
    return _expression("meta", _be32(1, REGISTER_1), _be32(2, key))


def conntrack(key: int) -> bytes:
    return _expression("ct", _be32(1, REGISTER_1), _be32(2, key))


def mask(value: bytes) -> bytes:
    """Register 1 and `value`."""
    return _expression(
        "bitwise",
        _be32(1, REGISTER_1),
        _be32(2, REGISTER_1),
        _be32(3, len(value)),
        nested(4, attribute(1, value)),
        nested(5, attribute(1, bytes(len(value)))),
    )


def compare(value: bytes, *, equal: bool = True) -> bytes:
    """Go on only if register 1 is (or is not) `value`."""
    return _expression(
        "cmp", _be32(1, REGISTER_1), _be32(2, 0 if equal else 1), nested(3, attribute(1, value))
    )


def masquerade() -> bytes:
    return _expression("masq")


def dnat(family: int, address: bytes, port: int) -> Iterable[bytes]:
    """Redirect to `address` and `port`."""
    return (
        immediate(REGISTER_1, address),
        immediate(REGISTER_2, port.to_bytes(2, "big")),
        _expression("nat", _be32(1, 1), _be32(2, family), _be32(3, 1), _be32(5, 2)),
    )


def any_bit(value: int) -> Iterable[bytes]:
    """Go on only if register 1 has one of these bits (a number in the machine's order)."""
    return mask(struct.pack("=I", value)), compare(bytes(4), equal=False)


def interface(name: str) -> bytes:
    """An interface's name as sets and rules have it."""
    return name.encode().ljust(IFNAME_BYTES, b"\0")


def source_in(address: bytes, prefix: int) -> Iterable[bytes]:
    """Go on only for packets of table family inet whose source is in this subnet."""
    bits = 8 * len(address)
    family, offset = (NFPROTO_IPV4, 12) if bits == 32 else (NFPROTO_IPV6, 8)
    whole = (1 << bits) - 1
    netmask = (whole << (bits - prefix) & whole).to_bytes(len(address), "big")
    if prefix % 8 == 0 and prefix:  # as nft does: whole bytes are compared without a mask
        size = prefix // 8
        return (
            meta(META_NFPROTO),
            compare(bytes((family,))),
            payload(NETWORK_HEADER, offset, size),
            compare(address[:size]),
        )
    return (
        meta(META_NFPROTO),
        compare(bytes((family,))),
        payload(NETWORK_HEADER, offset, len(address)),
        mask(netmask),
        compare(address),
    )
