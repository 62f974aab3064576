from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.network.ipam import (
    AddressSpace,
    AddressSpace6,
    choose_subnet,
    choose_subnet6,
    parse_address,
    parse_network,
    unique_local_pool,
)
from barque.network.options import DEFAULT_POOLS

NET = IPv4Network("10.1.2.0/28")


def space(**named: IPv4Network) -> AddressSpace:
    return AddressSpace(NET, reserved=[IPv4Address("10.1.2.1")], **named)


def test_the_lowest_free_address_comes_first_and_comes_again() -> None:
    addresses = space()
    first = addresses.pick()
    assert str(first) == "10.1.2.2"
    addresses.take(first)
    assert str(addresses.pick()) == "10.1.2.3"
    addresses.release(first)
    assert addresses.pick() == first


def test_network_gateway_and_broadcast_are_never_given() -> None:
    addresses = space()
    given_out = []
    for _ in range(13):
        given_out.append(str(addresses.pick()))
        addresses.take(addresses.pick())
    with pytest.raises(errors.ResourceExhausted, match="no available IPv4 addresses"):
        addresses.pick()
    assert given_out == [f"10.1.2.{n}" for n in range(2, 15)]


def test_reserved_addresses_stay_when_released() -> None:
    addresses = space()
    addresses.release(IPv4Address("10.1.2.1"))
    assert not addresses.is_free(IPv4Address("10.1.2.1"))


def test_a_range_narrows_what_is_chosen_but_not_what_may_be_asked_for() -> None:
    addresses = space(within=IPv4Network("10.1.2.8/30"))
    assert str(addresses.pick()) == "10.1.2.8"
    asked = addresses.pick(IPv4Address("10.1.2.3"))
    addresses.take(asked)
    with pytest.raises(errors.Forbidden, match="Address already in use"):
        addresses.pick(asked)
    addresses.release(asked)
    assert addresses.pick(asked) == asked


def test_an_address_of_another_subnet_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="does not belong"):
        space().pick(IPv4Address("10.9.9.9"))


@pytest.mark.parametrize("text", ["10.0.0.0/33", "x", "", "10.0.0/8/8", "::1/64"])
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_network(text)


@pytest.mark.parametrize("text", ["10.0.0.256", "x", "", "::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_address(text)


def test_subnets_without_room_and_ranges_outside_are_refused() -> None:
    with pytest.raises(errors.InvalidArgument):
        AddressSpace(IPv4Network("10.0.0.0/31"))
    with pytest.raises(errors.InvalidArgument):
        AddressSpace(NET, within=IPv4Network("10.9.0.0/28"))


def test_the_first_pool_that_collides_with_nothing_is_chosen() -> None:
    assert str(choose_subnet(DEFAULT_POOLS, [])) == "172.17.0.0/16"
    occupied = [IPv4Network("172.17.5.0/24"), IPv4Network("172.18.0.0/15")]
    assert str(choose_subnet(DEFAULT_POOLS, occupied)) == "172.20.0.0/16"
    occupied = [IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/19")]
    assert str(choose_subnet(DEFAULT_POOLS, occupied)) == "192.168.32.0/20"
    with pytest.raises(errors.ResourceExhausted, match="fully subnetted"):
        choose_subnet(DEFAULT_POOLS, [IPv4Network("0.0.0.0/0")])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=60))
def test_it_agrees_with_a_plain_set(steps: list[tuple[bool, int]]) -> None:
    addresses = space()
    taken = {0, 1, 15}
    for take, number in steps:
        address = NET[number]
        if take:
            addresses.take(address)
            taken.add(number)
        else:
            addresses.release(address)
            taken -= {number} - {0, 1, 15}
        free = sorted(set(range(16)) - taken)
        if free:
            assert addresses.pick() == NET[free[0]]
        else:
            with pytest.raises(errors.ResourceExhausted):
                addresses.pick()


def test_the_lowest_ipv6_address_first_and_again_when_released() -> None:
    subnet = IPv6Network("fd00::/64")
    space = AddressSpace6(subnet, reserved=[IPv6Address("fd00::1")])
    first = space.pick()
    assert first == IPv6Address("fd00::2")
    space.take(first)
    assert space.pick() == IPv6Address("fd00::3")
    with pytest.raises(errors.Forbidden, match="Address already in use"):
        space.pick(first)
    with pytest.raises(errors.InvalidArgument, match="does not belong"):
        space.pick(IPv6Address("fd01::2"))
    space.release(first)
    space.release(IPv6Address("fd00::1"))
    assert space.pick() == first
    with pytest.raises(errors.Forbidden):
        space.pick(IPv6Address("fd00::1"))


def test_an_ipv6_range_is_exhausted() -> None:
    space = AddressSpace6(IPv6Network("fd00::/64"), within=IPv6Network("fd00::4/127"))
    for text in ("fd00::4", "fd00::5"):
        address = space.pick()
        assert address == IPv6Address(text)
        space.take(address)
    with pytest.raises(errors.ResourceExhausted, match="no available IPv6 addresses"):
        space.pick()
    assert space.pick(IPv6Address("fd00::9")) == IPv6Address("fd00::9")


def test_ipv6_subnets_are_chosen_past_what_is_taken() -> None:
    pools = [("fd00::/63", 64), ("fd01::/16", 64)]
    taken: list[IPv6Network] = []
    for text in ("fd00::/64", "fd00:0:0:1::/64", "fd01::/64", "fd01:0:0:1::/64"):
        found = choose_subnet6(pools, taken)
        assert found == IPv6Network(text)
        taken.append(found)
    assert choose_subnet6(pools, [*taken, IPv6Network("fd01::/32")]) == IPv6Network("fd01:1::/64")
    with pytest.raises(errors.ResourceExhausted):
        choose_subnet6(pools[:1], taken)


def test_an_owners_ipv6_pool_is_always_the_same_and_nobody_elses() -> None:
    pool = unique_local_pool("/var/lib/a")
    assert pool == unique_local_pool("/var/lib/a") != unique_local_pool("/var/lib/b")
    assert pool.prefixlen == 48
    assert pool.subnet_of(IPv6Network("fd00::/8"))
