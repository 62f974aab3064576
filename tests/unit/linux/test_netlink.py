from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from barque.errors import InvalidArgument
from barque.linux import netlink_route as route
from barque.linux.netlink import (
    NLMSG_ERROR,
    Message,
    Reply,
    attribute,
    attribute_list,
    attributes,
    error_of,
    nested,
    replies,
    text,
)

ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=200)), max_size=20)


@given(ATTRIBUTES)
def test_attributes_come_back_as_they_went(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, payload) for kind, payload in pairs)
    assert len(data) % 4 == 0
    assert list(attribute_list(data)) == pairs
    assert attributes(data) == dict(pairs)


@given(st.integers(0, 70000))
def test_a_payload_that_does_not_fit_its_length_is_refused(size: int) -> None:
    """CVE-2021-43784: a wrapped length would turn payload into attributes."""
    if size > 0xFFFF - 4:
        with pytest.raises(InvalidArgument):
            attribute(1, b"x" * size)
    else:
        (length,) = struct.unpack_from("=H", attribute(1, b"x" * size))
        assert length == size + 4


def test_many_attributes_that_do_not_fit_their_nest_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        nested(1, *(attribute(2, b"x" * 1000) for _ in range(70)))


def test_a_string_with_nul_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        text(1, "a\0b")


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_raise_value_error(data: bytes) -> None:
    for parse in (lambda: list(attribute_list(data)), lambda: list(replies(data))):
        try:
            parse()
        except ValueError:
            continue


def test_an_error_names_what_was_asked_and_the_kernels_reason() -> None:
    told = attribute(1, b"bad link\0")
    body = struct.pack("=i", -22) + struct.pack("=IHHII", 16, 0, 0, 0, 0) + told
    reply = Reply(NLMSG_ERROR, 0x300, 1, body)
    error = error_of(reply, "add bridge x")
    assert error is not None
    assert error.errno == 22
    assert "add bridge x" in str(error)
    assert "bad link" in str(error)
    assert error_of(Reply(NLMSG_ERROR, 0, 1, struct.pack("=i", 0) + bytes(16)), "x") is None


def _as_pyroute2_reads(message: Message) -> ifinfmsg:
    decoded = ifinfmsg(message.encode(1))
    decoded.decode()
    return decoded


def test_a_bridge_is_what_pyroute2_reads() -> None:
    decoded = _as_pyroute2_reads(route.add_bridge("br-test", b"\x02\x42\0\0\0\1", 1400))
    assert decoded.get_attr("IFLA_IFNAME") == "br-test"
    assert decoded.get_attr("IFLA_ADDRESS") == "02:42:00:00:00:01"
    assert decoded.get_attr("IFLA_MTU") == 1400
    assert decoded.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == "bridge"
    assert decoded["flags"] == decoded["change"] == 1


def test_a_veth_pair_is_what_pyroute2_reads() -> None:
    decoded = _as_pyroute2_reads(route.add_veth("veth0", "eth0", netns=7, master=5))
    assert decoded.get_attr("IFLA_MASTER") == 5
    info = decoded.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_NET_NS_FD") == 7


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 16, "a:b", "a\nb"])
def test_interface_names_the_kernel_refuses_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        route.check_name(name)


@pytest.mark.parametrize("address", [b"", b"abc", b"x" * 17])
def test_addresses_have_four_or_sixteen_bytes(address: bytes) -> None:
    with pytest.raises(InvalidArgument):
        route.add_address(1, address, 8)


def test_a_prefix_longer_than_the_address_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        route.add_address(1, b"\x0a\0\0\1", 33)
