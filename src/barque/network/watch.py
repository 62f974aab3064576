"""Notice what others do to the rules ours depend on, and to our bridges.

`nft flush ruleset` or a firewall's reload removes our table (CVE-2025-54388, CVE-2025-54410: rules
that are gone open what they shut). A Docker that starts later makes a FORWARD chain that drops. The
kernel tells of every change by multicast.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from barque.linux.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink, Reply
from barque.linux.netlink_route import RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, deleted_address
from barque.linux.nfnetlink import (
    NFNLGRP_NFTABLES,
    deleted_table,
    lost_rules,
    new_chain,
    table_of,
)

MAX_DATAGRAMS = 256
OUR_TABLES = "barque_"
FORWARD_CHAINS = frozenset({"FORWARD", "DOCKER-USER"})


def _waiting(netlink: Netlink) -> tuple[list[Reply], bool]:
    """What has come by now, and whether so much came that some was lost."""
    found: list[Reply] = []
    lost = False
    for _ in range(MAX_DATAGRAMS):
        try:
            found += netlink.receive()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            lost = True
    return found, lost


class RulesWatch:
    """A non-blocking multicast socket: register `fileno`, call `changed` when it is readable."""

    def __init__(self, table: str, ours: Callable[[], int]) -> None:
        """`ours`: the netlink port that our own changes of rules come from; 0 for none yet."""
        self._table = table
        self._ours = ours
        self.foreign = False  # whether others' rules changed; whoever looks sets it back
        self._netlink = Netlink(NETLINK_NETFILTER)
        self._netlink.join(NFNLGRP_NFTABLES)
        self._netlink.set_blocking(False)

    def fileno(self) -> int:
        return self._netlink.fileno()

    def changed(self) -> bool:
        """Whether what came concerns us, or so much came that some was lost.

        Loading our own table whole deletes it too, in the same transaction: look before acting.
        """
        replies, lost = _waiting(self._netlink)
        return any([*map(self._concerns, replies)]) or lost

    def _concerns(self, reply: Reply) -> bool:
        kind, body = reply.kind, reply.body
        if reply.port and reply.port == self._ours():
            return False
        table = table_of(kind, body)
        self.foreign = self.foreign or (bool(table) and not table.startswith(OUR_TABLES))
        if self._table in (deleted_table(kind, body), lost_rules(kind, body)):
            return True
        return new_chain(kind, body) in FORWARD_CHAINS

    def close(self) -> None:
        self._netlink.close()


class AddressWatch:
    """Which interfaces of this host lose an address: a bridge that is deleted loses its own.

    Addresses only: links come and go with every container, and nobody is to be woken for them.
    """

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_ROUTE)
        self._netlink.join(RTNLGRP_IPV4_IFADDR)
        self._netlink.join(RTNLGRP_IPV6_IFADDR)
        self._netlink.set_blocking(False)

    def fileno(self) -> int:
        return self._netlink.fileno()

    def lost(self) -> tuple[set[int], bool]:
        """Interface indexes, and whether so much came that there may be more."""
        replies, more = _waiting(self._netlink)
        return {deleted_address(reply.kind, reply.body) for reply in replies} - {0}, more

    def close(self) -> None:
        self._netlink.close()
