"""`linux.netDevices`: interfaces of the runtime's network namespace become the container's.

config-linux.md, "Network Devices". An interface keeps its addresses; when the container cannot be
made it comes back under its own name.
"""

from __future__ import annotations

import os

from barque.errors import InvalidArgument
from barque.linux import namespaces as kinds
from barque.linux import netlink_route as route
from barque.linux.netlink import NETLINK_ROUTE, Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.undo import Undo


def move_all(devices: dict[str, str], pid: int, undo: Undo) -> None:
    """Move each device into the network namespace of process `pid`, and up."""
    inside = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    undo.add(os.close, outside)
    undo.add(os.close, inside)
    if os.path.samestat(os.fstat(inside), os.fstat(outside)):
        raise InvalidArgument("linux.netDevices need a network namespace of the container's own")
    for name, new_name in devices.items():
        try:
            index = move(name, new_name, inside, outside)
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(f"linux.netDevices: {name}: {text}") from error
        undo.add(move, new_name, name, outside, inside)
        assert index


def move(name: str, new_name: str, target: int, source: int) -> int:
    """Move the interface `name` of the namespace `source` into `target`; its number there."""
    route.check_name(new_name)
    here, there = socket_in(source), socket_in(target)
    try:
        link = route.get_link(here, name)
        if link is None:
            raise OSError(19, os.strerror(19))  # ENODEV
        addresses = route.addresses(here, link.index)
        here.request(
            route.set_link(link.index, up=False),
            route.move_link(link.index, target, new_name),
        )
        moved = route.get_link(there, new_name)
        if moved is None:
            raise OSError(19, os.strerror(19))
        there.request(
            *(
                route.add_address(moved.index, *address)
                for address in addresses
                if is_global(*address)
            ),
            route.set_link(moved.index, up=True),
        )
        return moved.index
    finally:
        here.close()
        there.close()


def is_global(address: bytes, prefix: int) -> bool:
    """Not of this link alone: the kernel makes those again."""
    return not (len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80)


def socket_in(namespace: int) -> Netlink:
    """An rtnetlink socket of another network namespace; this process comes back."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kinds.setns(namespace, kinds.CLONE_NEWNET)
        try:
            return Netlink(NETLINK_ROUTE)
        finally:
            kinds.setns(own, kinds.CLONE_NEWNET)
    finally:
        os.close(own)
