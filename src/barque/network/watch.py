"""Notice when somebody else removes our table (`nft flush ruleset`, a firewall's reload).

CVE-2025-54388, CVE-2025-54410: rules that are gone open what they shut. The kernel tells of every
change by multicast; what matters here is only that a table of ours was deleted.
"""

from __future__ import annotations

import errno

from barque.linux.netlink import NETLINK_NETFILTER, Netlink
from barque.linux.nfnetlink import NFNLGRP_NFTABLES, deleted_table

MAX_DATAGRAMS = 256


class TableWatch:
    """A non-blocking multicast socket: register `fileno`, call `deleted` when it is readable."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._netlink = Netlink(NETLINK_NETFILTER)
        self._netlink.join(NFNLGRP_NFTABLES)
        self._netlink.set_blocking(False)

    def fileno(self) -> int:
        return self._netlink.fileno()

    def deleted(self) -> bool:
        """Whether what came tells of our table's deletion, or so much came that some was lost.

        Loading the table whole deletes it too, in the same transaction: look before acting.
        """
        found = False
        for _ in range(MAX_DATAGRAMS):
            try:
                replies = self._netlink.receive()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True
                continue
            found = found or any(deleted_table(r.kind, r.body) == self._table for r in replies)
        return found

    def close(self) -> None:
        self._netlink.close()
