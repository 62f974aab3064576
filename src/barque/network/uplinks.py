"""Networks that are no bridge of this machine alone: macvlan, ipvlan, overlay. The kernel's part.

    macvlan, ipvlan   each place is a link on top of the network's parent, made in the sandbox
    overlay           a bridge as any other, without an address; a VXLAN link is one more port of
                      it, and carries frames to the other hosts that the network's options name

Every step may be done again: what is there already is taken as done, what is gone stays gone.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any

from barque import errors
from barque.linux import netlink_links as links
from barque.linux import netlink_route as route
from barque.linux.netlink import Message, Netlink
from barque.network.pool import Namespace

DEFAULT_PORT = 4789
OVERHEAD_BYTES = 50  # of VXLAN over IPv4
_NO_SUCH_KIND = (errno.EOPNOTSUPP, errno.ENOTSUP)


@dataclass(frozen=True, slots=True)
class Uplink:
    """What leads out of a network. `kind` is the driver; the rest as far as that has it."""

    kind: str
    parent: str = ""
    parent_made: bool = False  # by us, for this network: it goes with it
    mode: str = ""
    flag: str = ""
    link: str = ""  # of an overlay: its VXLAN link
    vni: int = 0
    local: str = ""
    peers: Sequence[str] = ()
    port: int = DEFAULT_PORT

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "peers": list(self.peers)}

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Uplink:
        return cls(**{**document, "peers": tuple(document.get("peers") or ())})


def vlan_of(name: str) -> tuple[str, int] | None:
    """`eth0.10` as (parent, VLAN id); None for a name that says no such thing."""
    parent, dot, number = name.rpartition(".")
    if not dot or not parent or not number.isascii() or not number.isdecimal():
        return None
    return parent, int(number)


class Uplinks:
    """`host` is a netlink socket in the host's namespace, used by one thread."""

    def __init__(self, host: Netlink) -> None:
        self._host = host

    def parent_is_there(self, name: str) -> bool:
        return route.get_link(self._host, name) is not None

    def ensure_parent(self, uplink: Uplink) -> None:
        """The parent of a macvlan or ipvlan network, made if it is ours to make.

        Raises NotFound, InvalidArgument, Unsupported.
        """
        if self.parent_is_there(uplink.parent):
            return
        if not uplink.parent_made:
            raise errors.NotFound(f"parent interface {uplink.parent} does not exist")
        found = vlan_of(uplink.parent)
        try:
            if found is None:
                self._host.request(links.add_dummy(uplink.parent))
                return
            below = route.get_link(self._host, found[0])
            if below is None:
                raise errors.InvalidArgument(
                    f"the requested parent interface {found[0]} was not found on this host"
                )
            self._host.request(links.add_vlan(uplink.parent, below.index, found[1]))
        except FileExistsError:
            return
        except OSError as error:
            if error.errno in _NO_SUCH_KIND:
                what = "dummy interfaces: name a parent" if found is None else "VLANs (8021q)"
                raise errors.Unsupported(
                    f"parent interface {uplink.parent} cannot be made: this kernel has no {what}"
                ) from error
            raise

    def drop_parent(self, uplink: Uplink) -> None:
        """Undo `ensure_parent`. Safe to run twice."""
        if uplink.parent_made:
            self.delete(uplink.parent)

    def delete(self, name: str) -> None:
        link = route.get_link(self._host, name)
        if link is None:
            return
        try:
            self._host.request(route.delete_link(link.index))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def plug(
        self, namespace: Namespace, uplink: Uplink, inner_link: str, mac: bytes, mtu: int
    ) -> int:
        """A sandbox's own link on the parent; returns its index inside, down.

        Raises Unsupported, Unavailable.
        """
        parent = route.get_link(self._host, uplink.parent)
        if parent is None:
            raise errors.Unavailable(f"parent interface {uplink.parent} is gone")
        try:
            self._host.request(_sublink(uplink, inner_link, parent.index, namespace.fd, mac, mtu))
        except OSError as error:
            if error.errno in _NO_SUCH_KIND:
                raise errors.Unsupported(
                    f"this kernel has no {uplink.kind} interfaces (CONFIG_{uplink.kind.upper()})"
                ) from error
            raise errors.Unavailable(
                f"{uplink.kind} interface on {uplink.parent}: {(error.strerror or '').lower()}"
            ) from error
        if not parent.up:
            self._host.request(route.set_link(parent.index, up=True))
        inner = route.get_link(namespace.netlink, inner_link)
        if inner is None:
            raise errors.Unavailable(f"interface {inner_link} is gone")
        return inner.index

    def ensure_vxlan(self, uplink: Uplink, bridge: int, mtu: int) -> None:
        """The overlay's link as a port of its bridge, with the peers that frames go to."""
        link = route.get_link(self._host, uplink.link)
        if link is None:
            local = IPv4Address(uplink.local).packed if uplink.local else b""
            message = links.add_vxlan(uplink.link, uplink.vni, local, uplink.port, bridge, mtu)
            try:
                with suppress(FileExistsError):
                    self._host.request(message)
            except OSError as error:
                if error.errno in _NO_SUCH_KIND:
                    raise errors.Unsupported("this kernel has no vxlan interfaces") from error
                raise errors.Unavailable(f"{message.what}: {error.strerror}") from error
            link = route.get_link(self._host, uplink.link)
        if link is None or link.kind != "vxlan":
            raise errors.Conflict(f"vxlan id {uplink.vni} or interface {uplink.link} is in use")
        if link.master != bridge or not link.up:
            self._host.request(route.set_link(link.index, up=True, master=bridge))
        for peer in uplink.peers:
            with suppress(FileExistsError):
                self._host.request(links.flood_to(link.index, IPv4Address(peer).packed))


def _sublink(uplink: Uplink, name: str, parent: int, netns: int, mac: bytes, mtu: int) -> Message:
    if uplink.kind == "ipvlan":
        return links.add_ipvlan(name, parent, netns, uplink.mode, uplink.flag, mtu)
    return links.add_macvlan(name, parent, netns, uplink.mode, mac, mtu)
