"""Addresses of one network: host-local, the lowest free one first, so that a restart finds its own.

Pure bookkeeping; the owner writes the same facts to its database in the same step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    NetmaskValueError,
)

from barque import errors


def parse_network(text: str) -> IPv4Network:
    """A subnet in CIDR notation, host bits cleared. Raises InvalidArgument."""
    try:
        return IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise errors.InvalidArgument(f"invalid CIDR address: {text}") from None


def parse_address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except (AddressValueError, ValueError):
        raise errors.InvalidArgument(f"invalid IPv4 address: {text}") from None


class AddressSpace:
    """The addresses of `subnet`, given out from `within` (the whole subnet unless narrowed)."""

    def __init__(
        self,
        subnet: IPv4Network,
        *,
        within: IPv4Network | None = None,
        reserved: Iterable[IPv4Address] = (),
    ) -> None:
        """Raises InvalidArgument for a range outside the subnet or a subnet without room."""
        self.subnet = subnet
        self.within = within or subnet
        if not self.within.subnet_of(subnet):
            raise errors.InvalidArgument(f"range {within} is not inside subnet {subnet}")
        if subnet.prefixlen > 30:
            raise errors.InvalidArgument(f"subnet {subnet} has no room for containers")
        self._base = int(self.within.network_address)
        self._size = self.within.num_addresses
        self._reserved = {subnet.network_address, subnet.broadcast_address, *reserved}
        self._taken = 0  # one bit an address of `within`
        self._outside: set[IPv4Address] = set()  # taken in the subnet, not in `within`
        for address in self._reserved:
            self._mark(address)

    def _mark(self, address: IPv4Address) -> None:
        if address in self.within:
            self._taken |= 1 << (int(address) - self._base)
        else:
            self._outside.add(address)

    def is_free(self, address: IPv4Address) -> bool:
        if address in self.within:
            return not self._taken >> (int(address) - self._base) & 1
        return address not in self._outside

    def pick(self, wanted: IPv4Address | None = None) -> IPv4Address:
        """An address that is free, not yet taken: `wanted`, or the lowest.

        Raises InvalidArgument when `wanted` is not of the subnet, Forbidden when it is taken,
        ResourceExhausted when none is left. The words are Docker's.
        """
        if wanted is None:
            lowest = (~self._taken & (self._taken + 1)).bit_length() - 1
            if lowest >= self._size:
                raise errors.ResourceExhausted(
                    f"no available IPv4 addresses on this network's address pools: {self.within}"
                )
            return IPv4Address(self._base + lowest)
        if wanted not in self.subnet:
            raise errors.InvalidArgument(
                f"invalid address {wanted}: It does not belong to any of this network's subnets"
            )
        if not self.is_free(wanted):
            raise errors.Forbidden("Address already in use")
        return wanted

    def take(self, address: IPv4Address) -> None:
        """Mark `address`, which `pick` gave or a record names."""
        self._mark(address)

    def release(self, address: IPv4Address) -> None:
        """Free `address`. One that is free or reserved stays as it is."""
        if address in self._reserved:
            return
        if address in self.within:
            self._taken &= ~(1 << (int(address) - self._base))
        else:
            self._outside.discard(address)


class AddressSpace6:
    """The addresses of an IPv6 `subnet`, given out from `within`, the lowest free one first."""

    def __init__(
        self,
        subnet: IPv6Network,
        *,
        within: IPv6Network | None = None,
        reserved: Iterable[IPv6Address] = (),
    ) -> None:
        """Raises InvalidArgument for a range outside the subnet."""
        self.subnet = subnet
        self.within = within or subnet
        if not self.within.subnet_of(subnet):
            raise errors.InvalidArgument(f"range {within} is not inside subnet {subnet}")
        if subnet.prefixlen > 126:
            raise errors.InvalidArgument(f"subnet {subnet} has no room for containers")
        self._reserved = {subnet.network_address, *reserved}  # the first is all routers' (RFC 4291)
        self._taken = set(self._reserved)
        self._lowest = self.within.network_address  # none below it is free

    def is_free(self, address: IPv6Address) -> bool:
        return address not in self._taken

    def pick(self, wanted: IPv6Address | None = None) -> IPv6Address:
        """As `AddressSpace.pick`."""
        if wanted is not None:
            if wanted not in self.subnet:
                raise errors.InvalidArgument(
                    f"invalid address {wanted}: It does not belong to any of this network's subnets"
                )
            if wanted in self._taken:
                raise errors.Forbidden("Address already in use")
            return wanted
        while self._lowest in self._taken:
            self._lowest += 1
        if self._lowest not in self.within:
            raise errors.ResourceExhausted(
                f"no available IPv6 addresses on this network's address pools: {self.within}"
            )
        return self._lowest

    def take(self, address: IPv6Address) -> None:
        self._taken.add(address)

    def release(self, address: IPv6Address) -> None:
        """Free `address`. One that is free or reserved stays as it is."""
        if address not in self._reserved:
            self._taken.discard(address)
            if address in self.within:
                self._lowest = min(self._lowest, address)


def unique_local_pool(owner: str) -> IPv6Network:
    """The /48 of unique local addresses that is this owner's (RFC 4193): always the same one."""
    digest = hashlib.sha256(owner.encode()).digest()
    return IPv6Network((b"\xfd" + digest[:5] + bytes(10), 48))


def choose_subnet6(
    pools: Iterable[tuple[str, int]], occupied: Iterable[IPv6Network]
) -> IPv6Network:
    """As `choose_subnet`; a pool has any number of networks, so the free one is looked for."""
    taken = list(occupied)
    for base, prefix in pools:
        pool = parse_network6(base)
        size = 1 << (128 - max(prefix, pool.prefixlen))
        start, end = int(pool.network_address), int(pool.network_address) + pool.num_addresses
        while start < end:
            candidate = IPv6Network((start, max(prefix, pool.prefixlen)))
            other = next((o for o in taken if candidate.overlaps(o)), None)
            if other is None:
                return candidate
            past = int(other.network_address) + other.num_addresses
            start = max(start + size, -(-past // size) * size)
    raise errors.ResourceExhausted("all predefined address pools have been fully subnetted")


def parse_network6(text: str) -> IPv6Network:
    try:
        return IPv6Network(text, strict=False)
    except ValueError:
        raise errors.InvalidArgument(f"invalid CIDR address: {text}") from None


def parse_interface6(text: str) -> IPv6Interface:
    """An IPv6 address with its prefix. Raises InvalidArgument."""
    try:
        return IPv6Interface(text)
    except ValueError:
        raise errors.InvalidArgument(f"invalid CIDR address: {text}") from None


def parse_address6(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except ValueError:
        raise errors.InvalidArgument(f"invalid IPv6 address: {text}") from None


def choose_subnet(pools: Iterable[tuple[str, int]], occupied: Iterable[IPv4Network]) -> IPv4Network:
    """The first network of `pools` that overlaps nothing `occupied`.

    Raises ResourceExhausted with Docker's words when there is none.
    """
    taken = list(occupied)
    for base, prefix in pools:
        pool = parse_network(base)
        candidates = [pool] if prefix <= pool.prefixlen else pool.subnets(new_prefix=prefix)
        for candidate in candidates:
            if not any(candidate.overlaps(other) for other in taken):
                return candidate
    raise errors.ResourceExhausted("all predefined address pools have been fully subnetted")
