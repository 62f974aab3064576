"""Rules sent by netlink are the rules that nft would have made of text."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from barque.linux.netlink import NETLINK_NETFILTER, Netlink
from barque.linux.nfnetlink import drops_by_default, transaction
from barque.linux.nfrules import NFPROTO_IPV4
from barque.network.firewall import rules, segment_messages
from barque.network.firewall.nftables import run_nft
from barque.network.firewall.rules import Segment
from tests.support.netns_host import isolated, run

pytestmark = pytest.mark.root
NET = IPv4Network("172.18.0.0/16")


def listed(table: str) -> str:
    return run("nft", "list", "table", "inet", table).replace(table, "TABLE")


@isolated
@pytest.mark.parametrize(
    "segment",
    [
        Segment("br-1", NET),
        Segment("br.2", NET, masquerade=False),
        Segment("x", NET, icc=False),
        Segment("br-0123456789ab", NET, internal=True),
        Segment("six", NET, subnet6=IPv6Network("fd00:1::/64")),
        Segment("odd", NET, subnet6=IPv6Network("fd00:1::/61")),
    ],
    ids=lambda segment: segment.bridge,
)
def test_both_ways_make_the_same_table(segment: Segment) -> None:
    other = Segment("other", IPv4Network("10.0.0.0/8"))
    run_nft(rules.base("text", [other, segment], []))
    run_nft(rules.base("sent", [other], []))
    before = listed("sent")
    netlink = Netlink(NETLINK_NETFILTER)
    transaction(netlink, *segment_messages.add("sent", segment))
    assert listed("sent") == listed("text")
    transaction(netlink, *segment_messages.delete("sent", segment))
    assert listed("sent") == before
    netlink.close()


@isolated
def test_the_policy_of_a_chain() -> None:
    netlink = Netlink(NETLINK_NETFILTER)
    assert not drops_by_default(netlink, NFPROTO_IPV4, "filter", "FORWARD")
    run("nft", "add", "table", "ip", "filter")
    for chain, policy in (("FORWARD", "drop"), ("OTHER", "accept")):
        hook = f"{{ type filter hook forward priority 0; policy {policy}; }}"
        run("nft", "add", "chain", "ip", "filter", chain, hook)
    run("nft", "add", "chain", "ip", "filter", "PLAIN")
    found = [
        drops_by_default(netlink, NFPROTO_IPV4, "filter", chain)
        for chain in ("FORWARD", "OTHER", "PLAIN", "NONE")
    ]
    assert found == [True, False, False, False]
    netlink.close()
