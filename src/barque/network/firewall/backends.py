"""Which kind of rules a daemon keeps: nftables, or iptables where only that is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from barque import errors
from barque.linux.netlink import NETLINK_NETFILTER, Netlink
from barque.linux.nfnetlink import NFPROTO_INET, has_chain, transaction
from barque.linux.nfrules import NFPROTO_IPV4, NFPROTO_IPV6, delete_table
from barque.network.firewall.iptables import LEGACY_TABLES
from barque.network.firewall.iptables_firewall import IptablesFirewall
from barque.network.firewall.nftables import Firewall

MAX_MARK = (1 << 32) - 1
NFTABLES, IPTABLES = "nftables", "iptables"


def check_backend(name: str) -> str:
    """--firewall-backend; "" leaves the choice to us. Raises InvalidArgument."""
    if name not in {"", NFTABLES, IPTABLES}:
        raise errors.InvalidArgument(
            f"invalid firewall-backend: {name!r} (nftables and iptables are there)"
        )
    return name


def parse_mark(text: str) -> str:
    """--bridge-accept-fwmark: MARK or MARK/MASK, decimal or 0x, as hexadecimal MARK/MASK.

    Raises InvalidArgument.
    """
    mark, slash, mask = text.partition("/")
    try:
        numbers = [int(mark, 0), int(mask, 0) if slash else MAX_MARK]
    except ValueError:
        numbers = [-1]
    if not all(0 <= number <= MAX_MARK for number in numbers):
        raise errors.InvalidArgument(f"invalid firewall mark {text!r}: MARK/MASK is wanted")
    return f"{numbers[0]:#x}/{numbers[1]:#x}"


def choose(asked: str, which: Callable[[str], object] = shutil.which) -> str:
    """The backend that was asked for, or nftables unless only iptables is there."""
    if asked:
        return check_backend(asked)
    return IPTABLES if not which("nft") and which("iptables") else NFTABLES


def make(
    backend: str, table: str, *, enabled: bool, ipv6: bool, policy: bool
) -> Firewall | IptablesFirewall:
    """`policy`: published ports honour the host's input policy. Raises InvalidArgument."""
    if backend == NFTABLES:
        return Firewall(table, enabled=enabled, ipv6=ipv6, policy=policy)
    if policy:
        raise errors.InvalidArgument("publish-host-policy needs the firewall backend nftables")
    return IptablesFirewall(table, enabled=enabled, ipv6=ipv6)


def purge_other(backend: str, table: str) -> bool:
    """Remove what a daemon of this name left of the other kind; whether anything was there."""
    if backend == IPTABLES:
        return _drop_table(table)
    left = IptablesFirewall(table)
    if not _has_iptables(f"BQ{table.rpartition('_')[2]}-F"):
        return False
    left.purge()
    return True


def _drop_table(table: str) -> bool:
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        transaction(netlink, delete_table(NFPROTO_INET, table))
    except OSError:  # it is not there, or nothing of nftables is
        return False
    finally:
        netlink.close()
    return True


def _has_iptables(chain: str) -> bool:
    """Looks without a program where it can, and without making a table."""
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        families = (NFPROTO_IPV4, NFPROTO_IPV6)
        if any(has_chain(netlink, family, "filter", chain) for family in families):
            return True
    finally:
        netlink.close()
    try:
        return "raw" in LEGACY_TABLES.read_text().split()
    except OSError:
        return False
