"""Which kind of rules is chosen, and what iptables is told."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from barque import errors
from barque.network.firewall.backends import check_backend, choose, parse_mark
from barque.network.firewall.iptables_rules import Family
from barque.network.firewall.rules import Published, Segment

SEGMENT = Segment("br-0123456789ab", IPv4Network("10.1.0.0/16"))


@pytest.mark.parametrize(
    ("there", "asked", "chosen"),
    [
        ({"nft", "iptables"}, "", "nftables"),
        ({"iptables"}, "", "iptables"),
        (set(), "", "nftables"),
        ({"nft", "iptables"}, "iptables", "iptables"),
        ({"iptables"}, "nftables", "nftables"),
    ],
)
def test_nftables_unless_only_iptables_is_there(there: set[str], asked: str, chosen: str) -> None:
    assert choose(asked, lambda name: name in there) == chosen


def test_a_backend_that_is_none_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid firewall-backend: 'ebtables'"):
        check_backend("ebtables")


def test_names_of_chains_fit() -> None:
    """iptables takes 28 characters."""
    text = Family("BQ01234567", 4).load([SEGMENT], [])
    chains = [line.split()[0][1:] for line in text.splitlines() if line.startswith(":")]
    assert len(chains) == 6
    assert all(len(chain) <= 28 for chain in chains)


def test_each_family_has_its_own_networks_and_ports() -> None:
    four, six = Family("BQx", 4), Family("BQx", 6)
    both = Segment("b2", IPv4Network("10.2.0.0/16"), subnet6=IPv6Network("fd00::/64"))
    ports = [
        Published("tcp", ip_address(host), 8080, ip_address(inner), 80)
        for host, inner in (("0.0.0.0", "10.2.0.2"), ("::", "fd00::2"), ("::1", "fd00::2"))
    ]
    assert "br-0123456789ab" not in six.load([SEGMENT, both], ports)
    assert "--to-destination 10.2.0.2:80" in four.load([SEGMENT, both], ports)
    assert "fd00" not in four.load([SEGMENT, both], ports)
    assert "-d ::1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::2]:80" in (
        six.load([SEGMENT, both], ports)
    )


def test_changes_are_of_the_tables_that_are_concerned() -> None:
    family = Family("BQx", 4)
    mapped = Published("udp", ip_address("192.0.2.1"), 53, ip_address("10.1.0.2"), 5353)
    opened = Published("tcp", ip_address("10.1.0.2"), 80, ip_address("10.1.0.2"), 80)
    assert family.changes("-A", []) == ""
    assert family.changes("-D", [mapped]).splitlines() == [
        "*nat",
        "-D BQx-P -d 192.0.2.1 -p udp -m udp --dport 53 -j DNAT --to-destination 10.1.0.2:5353",
        "COMMIT",
    ]
    assert family.changes("-A", [opened]).splitlines() == [
        "*filter",
        "-A BQx-O -d 10.1.0.2 -p tcp -m tcp --dport 80 -j ACCEPT",
        "COMMIT",
    ]


def test_an_internal_network_is_shut_before_anything_is_let_through() -> None:
    inner = Segment("b1", IPv4Network("10.3.0.0/16"), internal=True)
    rules = Family("BQx", 4).rules("filter", [SEGMENT, inner], [])
    shut = rules.index("-A BQx-F -i b1 ! -o b1 -j DROP")
    assert shut < min(n for n, rule in enumerate(rules) if "ACCEPT" in rule)
    assert not [rule for rule in rules if rule.startswith("-A BQx-G -i b1")]


@pytest.mark.parametrize(
    ("text", "mark"), [("2/3", "0x2/0x3"), ("0x1068", "0x1068/0xffffffff"), ("0/0", "0x0/0x0")]
)
def test_marks(text: str, mark: str) -> None:
    assert parse_mark(text) == mark


@pytest.mark.parametrize("text", ["", "x", "1/", "/1", "-1", "1/0x100000000", "1/2/3", "1;drop"])
def test_a_mark_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid firewall mark"):
        parse_mark(text)


def test_a_network_without_ipv4_is_shut_to_ipv4_all_the_same() -> None:
    segment = Segment("b6", None, subnet6=IPv6Network("fd00::/64"))
    text = Family("BQx", 4).load([segment], [])
    assert "-A BQx-R -i b6 -d 127.0.0.0/8 -j DROP" in text
    assert "-A BQx-F -o b6 -j DROP" in text
    assert "MASQUERADE" not in text
    assert "-s fd00::/64 ! -o b6 -j MASQUERADE" in Family("BQx", 6).load([segment], [])


def test_packets_leave_from_the_address_that_is_asked_for() -> None:
    segment = Segment(
        "b2",
        IPv4Network("10.2.0.0/16"),
        subnet6=IPv6Network("fd00::/64"),
        source="192.0.2.9",
        source6="2001:db8::9",
    )
    for version, subnet, source in (
        (4, "10.2.0.0/16", "192.0.2.9"),
        (6, "fd00::/64", "2001:db8::9"),
    ):
        text = Family("BQx", version).load([segment], [])
        assert f"-s {subnet} ! -o b2 -j SNAT --to-source {source}" in text
