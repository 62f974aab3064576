from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.network.firewall import rules
from barque.network.firewall.rules import Published, Segment

NET = IPv4Network("172.17.0.0/16")
PORT = Published("tcp", IPv4Address("127.0.0.1"), 8080, IPv4Address("172.17.0.2"), 80)
ANYWHERE = Published("udp", IPv4Address(0), 53, IPv4Address("172.17.0.2"), 5353)


def test_keys_are_the_kernels_padded_fields() -> None:
    assert PORT.key.hex() == "7f000001060000001f900000"
    assert PORT.data.hex() == "ac11000200500000"
    assert PORT.map_name == "ports"
    assert ANYWHERE.key.hex() == "1100000000350000"
    assert ANYWHERE.map_name == "ports_any"


def test_ports_of_ipv6() -> None:
    port = Published("tcp", IPv6Address("::1"), 8080, IPv6Address("fd00::2"), 80)
    assert port.map_name == "ports6"
    assert port.key.hex() == "00" * 15 + "01060000001f900000"
    assert port.data.hex() == "fd00" + "00" * 13 + "0200500000"
    assert replace(port, host_ip=IPv6Address("::")).map_name == "ports6_any"


def test_elements_as_text() -> None:
    assert PORT.element == "127.0.0.1 . tcp . 8080 : 172.17.0.2 . 80"
    assert ANYWHERE.element == "udp . 53 : 172.17.0.2 . 5353"


@given(st.text(min_size=1, max_size=15))
def test_chain_names_are_identifiers(bridge: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]+", rules.chain_suffix(bridge))


@given(st.lists(st.text(alphabet="ab-._2d", min_size=1, max_size=6), min_size=2, unique=True))
def test_two_bridges_never_share_chains(bridges: list[str]) -> None:
    assert len({rules.chain_suffix(bridge) for bridge in bridges}) == len(bridges)


def test_tables_of_two_daemons_differ() -> None:
    assert rules.table_name("/var/lib/a") != rules.table_name("/var/lib/b")
    assert re.fullmatch(r"barque_[0-9a-f]{8}", rules.table_name("/any where;drop"))


def test_only_our_own_table_is_named() -> None:
    text = rules.base("barque_x", [Segment("br0", NET), Segment("br1", NET, internal=True)], [PORT])
    assert set(re.findall(r"(?:inet|ip|ip6) (\w+)(?: |$)", text)) >= {"barque_x"}
    for line in text.splitlines():
        if re.match(r"(add|delete|flush|table)\b", line):
            assert " inet barque_x" in line


@pytest.mark.parametrize(
    ("segment", "word", "there"),
    [
        (Segment("br0", NET), "ct status dnat accept", True),
        (Segment("br0", NET, internal=True), "ct status dnat accept", False),
        (Segment("br0", NET, internal=True), 'oifname != "br0" drop', True),
        (Segment("br0", NET, icc=False), 'iifname "br0" drop', True),
        (Segment("br0", NET, masquerade=False), 'oifname != "br0" masquerade', False),
        (Segment("br0", NET), 'oifname != "br0" masquerade', True),
    ],
)
def test_options_of_a_network_become_rules(segment: Segment, word: str, there: bool) -> None:
    assert (word in rules.add_segment("t", segment)) is there
