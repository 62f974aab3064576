"""Notice what others do to the rules ours depend on.

`nft flush ruleset` or a firewall's reload removes our table (CVE-2025-54388, CVE-2025-54410: rules
that are gone open what they shut). A Docker that starts later makes a FORWARD chain that drops. The
kernel tells of every change by multicast.
"""

from __future__ import annotations

import errno

from barque.linux.netlink import NETLINK_NETFILTER, Netlink
from barque.linux.nfnetlink import NFNLGRP_NFTABLES, deleted_table, new_chain

MAX_DATAGRAMS = 256
FORWARD_CHAINS = frozenset({"FORWARD", "DOCKER-USER"})


class RulesWatch:
    """A non-blocking multicast socket: register `fileno`, call `changed` when it is readable."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._netlink = Netlink(NETLINK_NETFILTER)
        self._netlink.join(NFNLGRP_NFTABLES)
        self._netlink.set_blocking(False)

    def fileno(self) -> int:
        return self._netlink.fileno()

    def changed(self) -> bool:
        """Whether what came concerns us, or so much came that some was lost.

        Loading our own table whole deletes it too, in the same transaction: look before acting.
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
            found = found or any(self._concerns(reply.kind, reply.body) for reply in replies)
        return found

    def _concerns(self, kind: int, body: bytes) -> bool:
        return deleted_table(kind, body) == self._table or new_chain(kind, body) in FORWARD_CHAINS

    def close(self) -> None:
        self._netlink.close()
