"""nftables by netlink: elements of sets and maps in one transaction (linux/netfilter/nf_tables.h).

The rules themselves are loaded as text when a daemon starts or a network is made; what changes with
each container is elements only, so no process runs and the cost does not grow with what is there.
Keys and data are the kernel's: each field of a concatenation padded to four bytes, network order.
"""

from __future__ import annotations

import struct

from barque.linux.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLMSG_ERROR,
    Message,
    attribute,
    attribute_list,
    attributes,
    error_of,
    nested,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from barque.linux.netlink import Netlink

NFPROTO_INET: Final = 1
NFNL_SUBSYS_NFTABLES: Final = 10
NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11
NFT_MSG_DELTABLE: Final = 2
NFT_MSG_NEWCHAIN: Final = 3
NFT_MSG_DELCHAIN: Final = 5
NFT_MSG_GETRULE: Final = 7
NFT_MSG_DELRULE: Final = 8
NFTA_RULE_TABLE: Final = 1
NFTA_RULE_CHAIN: Final = 2
NFT_MSG_NEWGEN: Final = 15
NFT_MSG_GETCHAIN: Final = 4
NFT_MSG_NEWSETELEM: Final = 12
NFT_MSG_GETSETELEM: Final = 13
NFT_MSG_DELSETELEM: Final = 14
NFNLGRP_NFTABLES: Final = 7

NFTA_TABLE_NAME: Final = 1
NFTA_CHAIN_TABLE: Final = 1
NFTA_CHAIN_NAME: Final = 3
NFTA_CHAIN_POLICY: Final = 5
NFTA_SET_ELEM_LIST_TABLE: Final = 1
NFTA_SET_ELEM_LIST_SET: Final = 2
NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
NFTA_LIST_ELEM: Final = 1
NFTA_SET_ELEM_KEY: Final = 1
NFTA_SET_ELEM_DATA: Final = 2
NFTA_DATA_VALUE: Final = 1
NF_DROP: Final = 0

_NFGENMSG = struct.Struct(">BBH")


def _kind(message: int) -> int:
    return NFNL_SUBSYS_NFTABLES << 8 | message


def _element(key: bytes, data: bytes) -> bytes:
    fields = nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key))
    if data:
        fields += nested(NFTA_SET_ELEM_DATA, attribute(NFTA_DATA_VALUE, data))
    return nested(NFTA_LIST_ELEM, fields)


def _elements(
    message: int, flags: int, table: str, name: str, elements: Iterable[tuple[bytes, bytes]]
) -> Message:
    body = b"".join(
        (
            _NFGENMSG.pack(NFPROTO_INET, 0, 0),
            text(NFTA_SET_ELEM_LIST_TABLE, table),
            text(NFTA_SET_ELEM_LIST_SET, name),
            nested(NFTA_SET_ELEM_LIST_ELEMENTS, *(_element(key, data) for key, data in elements)),
        )
    )
    return Message(_kind(message), flags, body, f"nftables: elements of {name} in table {table}")


def add_elements(table: str, name: str, elements: Iterable[tuple[bytes, bytes]]) -> Message:
    """Add (key, data) pairs to map `name`; a key that is there with other data is an error."""
    return _elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, name, elements)


def delete_elements(table: str, name: str, keys: Iterable[bytes]) -> Message:
    """Delete keys of a set or map; one that is not there is an error (ENOENT)."""
    return _elements(NFT_MSG_DELSETELEM, 0, table, name, ((key, b"") for key in keys))


def transaction(netlink: Netlink, *messages: Message) -> None:
    """Perform `messages` all or not at all. Raises the OSError of the first that failed."""
    first = netlink.reserve(len(messages) + 2)
    header = _NFGENMSG.pack(0, 0, NFNL_SUBSYS_NFTABLES)
    parts = [Message(NFNL_MSG_BATCH_BEGIN, 0, header, "begin").encode(first)]
    parts += [
        Message(m.kind, m.flags | NLM_F_ACK, m.body, m.what).encode(first + 1 + number)
        for number, m in enumerate(messages)
    ]
    parts.append(Message(NFNL_MSG_BATCH_END, 0, header, "end").encode(first + 1 + len(messages)))
    netlink.send(b"".join(parts))
    _await(netlink, first + 1, messages)


def _await(netlink: Netlink, first: int, messages: tuple[Message, ...]) -> None:
    """The kernel answers each message after the commit, an aborted batch maybe its frame only."""
    waiting = len(messages)
    while waiting:
        for reply in netlink.receive():
            number = reply.sequence - first
            if reply.kind != NLMSG_ERROR or not -1 <= number <= len(messages):
                continue
            inside = 0 <= number < len(messages)
            error = error_of(reply, messages[number].what if inside else "nftables transaction")
            if error is not None:
                raise error  # answers that follow have a sequence number nobody waits for
            waiting -= inside


def elements(netlink: Netlink, table: str, name: str) -> list[tuple[bytes, bytes]]:
    """The (key, data) pairs of set or map `name`."""
    body = _NFGENMSG.pack(NFPROTO_INET, 0, 0)
    body += text(NFTA_SET_ELEM_LIST_TABLE, table) + text(NFTA_SET_ELEM_LIST_SET, name)
    query = Message(_kind(NFT_MSG_GETSETELEM), 0, body, f"list {name} of table {table}")
    found: list[tuple[bytes, bytes]] = []
    for reply in netlink.dump(query):
        listed = attributes(reply.body, _NFGENMSG.size).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")
        for _, element in attribute_list(listed):
            fields = attributes(element)
            key = attributes(fields[NFTA_SET_ELEM_KEY])[NFTA_DATA_VALUE]
            data = attributes(fields.get(NFTA_SET_ELEM_DATA, b"")).get(NFTA_DATA_VALUE, b"")
            found.append((key, data))
    return found


def _chain(netlink: Netlink, family: int, table: str, chain: str) -> dict[int, bytes] | None:
    """A chain's attributes, None when it is not there."""
    body = _NFGENMSG.pack(family, 0, 0)
    body += text(NFTA_CHAIN_TABLE, table) + text(NFTA_CHAIN_NAME, chain)
    query = Message(_kind(NFT_MSG_GETCHAIN), 0, body, f"chain {chain} of table {table}")
    try:
        return attributes(netlink.get(query).body, _NFGENMSG.size)
    except FileNotFoundError:
        return None


def has_chain(netlink: Netlink, family: int, table: str, chain: str) -> bool:
    return _chain(netlink, family, table, chain) is not None


def rule_chains(netlink: Netlink, table: str) -> list[str]:
    """The chain of each rule of a table of family inet."""
    body = _NFGENMSG.pack(NFPROTO_INET, 0, 0) + text(NFTA_RULE_TABLE, table)
    query = Message(_kind(NFT_MSG_GETRULE), 0, body, f"list rules of table {table}")
    found = []
    for reply in netlink.dump(query):
        fields = attributes(reply.body, _NFGENMSG.size)
        if fields.get(NFTA_RULE_TABLE, b"").rstrip(b"\0").decode() == table:
            found.append(fields[NFTA_RULE_CHAIN].rstrip(b"\0").decode())
    return found


def lost_rules(kind: int, body: bytes) -> str | None:
    """The name of the table that this multicast message tells lost a rule or a chain, or None."""
    if kind not in (_kind(NFT_MSG_DELRULE), _kind(NFT_MSG_DELCHAIN)):
        return None
    return table_of(kind, body)


def drops_by_default(netlink: Netlink, family: int, table: str, chain: str) -> bool:
    """Whether what no rule of this chain decides is dropped; not when there is no such chain."""
    policy = (_chain(netlink, family, table, chain) or {}).get(NFTA_CHAIN_POLICY)
    return policy is not None and int.from_bytes(policy, "big") == NF_DROP


def add_verdicts(table: str, name: str, elements: Iterable[tuple[bytes, bytes]]) -> Message:
    """Add (key, verdict) pairs to verdict map `name`; the verdicts are of `nfrules.verdict`."""
    body = b"".join(
        (
            _NFGENMSG.pack(NFPROTO_INET, 0, 0),
            text(NFTA_SET_ELEM_LIST_TABLE, table),
            text(NFTA_SET_ELEM_LIST_SET, name),
            nested(
                NFTA_SET_ELEM_LIST_ELEMENTS,
                *(
                    nested(
                        NFTA_LIST_ELEM,
                        nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key)),
                        nested(NFTA_SET_ELEM_DATA, verdict),
                    )
                    for key, verdict in elements
                ),
            ),
        )
    )
    what = f"nftables: elements of {name} in table {table}"
    return Message(_kind(NFT_MSG_NEWSETELEM), NLM_F_CREATE, body, what)


def new_chain(kind: int, body: bytes) -> str | None:
    """The name of the chain that this multicast message tells was made or changed, or None."""
    if kind != _kind(NFT_MSG_NEWCHAIN):
        return None
    name = attributes(body, _NFGENMSG.size).get(NFTA_CHAIN_NAME, b"")
    return name.rstrip(b"\0").decode(errors="replace")


def table_of(kind: int, body: bytes) -> str:
    """The table that a multicast message is about: of nearly all kinds the first attribute."""
    if kind == _kind(NFT_MSG_NEWGEN):
        return ""
    try:
        name = attributes(body, _NFGENMSG.size).get(NFTA_CHAIN_TABLE, b"")
    except ValueError:  # a kind without attributes
        return ""
    return name.rstrip(b"\0").decode(errors="replace")


def deleted_table(kind: int, body: bytes) -> str | None:
    """The name of the table whose deletion this multicast message tells, or None."""
    if kind != _kind(NFT_MSG_DELTABLE):
        return None
    name = attributes(body, _NFGENMSG.size).get(NFTA_TABLE_NAME, b"")
    return name.rstrip(b"\0").decode(errors="replace")
