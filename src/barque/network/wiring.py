"""Bridges, and the places of sandboxes on them: the kernel's part. One thread at a time.

Every step may be done again: what is there already is taken as done, what is gone stays gone.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path

from barque import errors
from barque.linux import netlink_route as route
from barque.linux.netlink import NETLINK_ROUTE, Netlink
from barque.linux.netlink_links import add_device_route
from barque.network.plugs import Plug, mac_of, random_mac, sysctl_name
from barque.network.pool import INNER_NAME, Namespace, host_link_name
from barque.network.uplinks import Uplinks

log = logging.getLogger(__name__)

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
CONF6 = Path("/proc/sys/net/ipv6/conf")
ALIAS_PREFIX = "barque:"
FREE_NAMES = 100
LINK_LOCAL_PREFIX = {4: 16, 6: 64}


def set_interface_sysctl(family: str, interface: str, key: str, value: str) -> None:
    """net.<family>.conf.<interface>.<key>; a kernel without that family is left alone."""
    with suppress(FileNotFoundError):
        Path(f"/proc/sys/net/{family}/conf", interface, key).write_text(value)


class Going:
    """Interfaces on their way out: one thread deletes them in the background."""

    def __init__(self) -> None:
        self._names: dict[str, Future[None]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="links")
        self._netlink: Netlink | None = None

    def add(self, name: str, index: int) -> None:
        self._names[name] = self._executor.submit(self._delete, index)

    def _delete(self, index: int) -> None:
        if self._netlink is None:
            self._netlink = Netlink(NETLINK_ROUTE)
        try:
            self._netlink.request(route.delete_link(index))
        except OSError as error:
            if error.errno != errno.ENODEV:
                log.warning("link %d is not deleted: %s", index, error)

    def wait(self, name: str) -> None:
        """Until the interface `name`, if it is going, is gone."""
        going = self._names.pop(name, None)
        if going is not None:
            going.result()

    def close(self) -> None:
        self._executor.shutdown()
        if self._netlink is not None:
            self._netlink.close()


def alias_of(owner: str) -> str:
    """The alias that marks the bridges which this owner made."""
    return ALIAS_PREFIX + hashlib.sha256(owner.encode()).hexdigest()[:16]


class Wiring:
    """The host's side of sandboxes: bridges and their ports. `owner` marks the bridges we make."""

    def __init__(self, owner: str) -> None:
        self.alias = alias_of(owner)
        self._host = Netlink(NETLINK_ROUTE)
        self.uplinks = Uplinks(self._host)
        self._going = Going()

    def close(self) -> None:
        """Returns when all that was to go is gone."""
        self._going.close()
        self._host.close()

    def link(self, name: str) -> route.Link | None:
        self._going.wait(name)
        return route.get_link(self._host, name)

    def sweep(
        self, bridges: Iterable[str], sandboxes: Iterable[str], host_links: Iterable[str]
    ) -> list[str]:
        """Delete what a crash left, and return its names.

        That is: bridges of ours that no network has, and links of the `sandboxes` that go on
        which none of their places has.
        """
        kept = {*bridges, *host_links}
        stems = {host_link_name(sandbox) for sandbox in sandboxes}
        stale = [
            link
            for link in route.links(self._host)
            if link.name not in kept
            and (
                (link.kind == "bridge" and self.owns(link))
                or (link.kind == "veth" and link.name.partition("_")[0] in stems)
            )
        ]
        for link in stale:
            self._delete(link.index)
        return [link.name for link in stale]

    def owns(self, link: route.Link) -> bool:
        return link.alias == self.alias

    def free_bridge_name(self, wanted: str) -> str:
        """`wanted`, or with another number at its end when that belongs to somebody else."""
        stem = wanted.rstrip("0123456789")
        for number in range(FREE_NAMES):
            name = f"{stem}{number}"
            link = self.link(name)
            if link is None or self.owns(link):
                return name
        raise errors.ResourceExhausted(f"no free bridge name like {wanted}")

    def bridge_address(self, name: str) -> IPv4Interface | None:
        """The first IPv4 address of an interface that is there."""
        link = self.link(name)
        if link is None:
            return None
        for packed, prefix in route.addresses(self._host, link.index):
            if len(packed) == 4:
                return IPv4Interface((packed, prefix))
        return None

    def addresses(self, index: int) -> set[tuple[bytes, int]]:
        """An interface's addresses, packed, with their prefixes."""
        return set(route.addresses(self._host, index))

    def ensure_bridge(
        self,
        name: str,
        address: IPv4Interface | None,
        mtu: int,
        *,
        ours: bool = False,
        address6: IPv6Interface | None = None,
    ) -> int:
        """Make bridge `name` or take the one that is there; give it `address`. Returns its index.

        With no address the host is not on it: its own link address is then of no use to anybody.
        `ours`: whoever made it, it was one of us, who may have died before it was marked.

        No IPv6 without `address6`, and no router advertisements taken. route_localnet lets what the
        host sends from 127.0.0.1 to a published port out; the table's raw chain shuts the way in.
        What it made is gone again when it fails.
        """
        link, made = self.link(name), False
        if link is None:
            with suppress(FileExistsError):
                mac = mac_of(address.ip) if address else random_mac()
                self._host.request(route.add_bridge(name, mac, mtu))
                made = True
            link, ours = self.link(name), True
            if link is None:
                raise errors.Unavailable(f"bridge {name} is gone")
        try:
            self._set_up(link, address, address6, ours=ours)
        except BaseException:
            if made:
                with suppress(OSError):
                    self._host.request(route.delete_link(link.index))
            raise
        return link.index

    def _set_up(
        self,
        link: route.Link,
        address: IPv4Interface | None,
        address6: IPv6Interface | None,
        *,
        ours: bool,
    ) -> None:
        name = link.name
        if ours and not self.owns(link):
            self._host.request(route.set_link(link.index, alias=self.alias))
        if link.kind != "bridge":
            raise errors.Conflict(f"interface {name} is not a bridge")
        set_interface_sysctl("ipv6", name, "accept_ra", "0")
        set_interface_sysctl("ipv6", name, "disable_ipv6", "0" if address6 else "1")
        set_interface_sysctl("ipv4", name, "route_localnet", "1")
        if address is not None:
            self._set_address(link.index, address)
        self._set_address6(link.index, address6)
        self._host.request(route.set_link(link.index, up=True))

    def _set_address(self, index: int, address: IPv4Interface) -> None:
        present = [a for a in route.addresses(self._host, index) if len(a[0]) == 4]
        wanted = (address.packed, address.network.prefixlen)
        if wanted not in present:
            self._host.request(route.add_address(index, *wanted))
        for packed, prefix in present:
            if (packed, prefix) != wanted:
                self._host.request(route.delete_address(index, packed, prefix))

    def _set_address6(self, index: int, address: IPv6Interface | None) -> None:
        """Exactly this one, beside the link-local one. Safe to run twice."""
        wanted = (address.packed, address.network.prefixlen) if address else None
        for packed, prefix in route.addresses(self._host, index):
            if len(packed) == 4 or IPv6Address(packed).is_link_local:
                continue
            if (packed, prefix) != wanted:
                self._host.request(route.delete_address(index, packed, prefix))
        if wanted is not None:
            self._host.request(route.add_address(index, *wanted))

    def delete_bridge(self, name: str) -> None:
        """Remove a bridge that we made; another's, or none, is left alone.

        Its addresses, and with them its routes, are gone on return. The kernel takes its time for
        the interface itself (some 30 ms): that is left to a thread, and to `sweep` after a crash.
        """
        link = self.link(name)
        if link is None or not self.owns(link):
            return
        for packed, prefix in route.addresses(self._host, link.index):
            with suppress(OSError):
                self._host.request(route.delete_address(link.index, packed, prefix))
        self._going.add(name, link.index)

    def _delete(self, index: int) -> None:
        try:
            self._host.request(route.delete_link(index))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def occupied(self, besides: int = 0) -> list[IPv4Network]:
        """What the host's routes lead to, but for the default route and interface `besides`."""
        return [
            IPv4Network((destination, prefix))
            for destination, prefix, interface in route.routes(self._host)
            if prefix and interface != besides
        ]

    def occupied6(self) -> list[IPv6Network]:
        """The same of IPv6, but for link-local addresses and multicast."""
        return [
            IPv6Network((destination, prefix))
            for destination, prefix, _ in route.routes6(self._host)
            if prefix and destination[0] < 0xFE
        ]

    def plug(self, namespace: Namespace, plug: Plug, set_sysctl: Callable[[str], None]) -> None:
        """Give the sandbox its place: the prepared pair of `namespace`, or a new one.

        `set_sysctl` sets KEY=VALUE inside; without one a link has no IPv6 addresses.
        """
        mac = plug.mac
        if plug.source:
            inner = self._move_in(namespace, plug)
        elif plug.uplink is not None:
            inner = self.uplinks.plug(namespace, plug.uplink, plug.inner_link, plug.mac, plug.mtu)
            mac = b""
        else:
            inner = self._bridged(namespace, plug)
        if plug.has_ipv6:
            set_sysctl(f"net.ipv6.conf.{sysctl_name(plug.inner_link)}.disable_ipv6=0")
        self._settle(namespace, plug, inner, mac)
        for setting in plug.sysctls:
            set_sysctl(setting)

    def _bridged(self, namespace: Namespace, plug: Plug) -> int:
        if plug.host_link == namespace.host_link:
            outer, inner = namespace.host_index, namespace.inner_index
            ready = plug.bridge == namespace.bridge and not plug.isolated
            if plug.bridge != namespace.bridge:
                self._host.request(route.set_link(outer, master=plug.bridge))
            if plug.inner_link != INNER_NAME:
                namespace.netlink.request(route.set_link(inner, name=plug.inner_link))
        else:
            outer, inner = self._add_pair(namespace, plug)
            ready = False
        if not ready:
            self._host.request(route.set_port(outer, isolated=plug.isolated))
        return inner

    def _settle(self, namespace: Namespace, plug: Plug, inner: int, mac: bytes) -> None:
        """The sandbox's end: link address, addresses, routes."""
        steps = [route.set_link(inner, up=True, mac=mac, mtu=plug.mtu)]
        steps += [
            route.add_address(inner, address.packed, address.network.prefixlen)
            for address in (plug.address, plug.address6)
            if address is not None
        ]
        steps += [
            route.add_address(inner, address.packed, LINK_LOCAL_PREFIX[address.version])
            for address in plug.link_local
        ]
        if plug.gateway6 is not None:
            steps.append(route.add_route(inner, plug.gateway6.packed))
        elif plug.device_route6:
            steps.append(add_device_route(inner, sixth=True))
        if plug.gateway is not None:
            steps.append(route.add_route(inner, plug.gateway.packed))
        elif plug.device_route:
            steps.append(add_device_route(inner))
        for hop in plug.routes:
            where = hop.destination.network_address.packed, hop.destination.prefixlen
            if hop.gateway is None:
                steps.append(add_device_route(inner, *where))
            else:
                steps.append(route.add_route(inner, hop.gateway.packed, *where))
        namespace.netlink.request(*steps)

    def _move_in(self, namespace: Namespace, plug: Plug) -> int:
        link = self.link(plug.source)
        if link is None:
            raise errors.Unavailable(f"interface {plug.source} is not there")
        if self.owns(link) or link.name == "lo":
            raise errors.Forbidden(f"interface {plug.source} is not its driver's to give")
        self._host.request(route.set_link(link.index, up=False))
        self._host.request(route.move_link(link.index, namespace.fd, plug.inner_link))
        inner = route.get_link(namespace.netlink, plug.inner_link)
        if inner is None:
            raise errors.Unavailable(f"interface {plug.source} is gone")
        return inner.index

    def strip(self, namespace: Namespace, inner_link: str) -> None:
        """Take the addresses, and with them the routes, off a sandbox's link."""
        link = route.get_link(namespace.netlink, inner_link)
        if link is None:
            return
        for packed, prefix in route.addresses(namespace.netlink, link.index):
            with suppress(OSError):
                namespace.netlink.request(route.delete_address(link.index, packed, prefix))

    def _add_pair(self, namespace: Namespace, plug: Plug) -> tuple[int, int]:
        self._going.wait(plug.host_link)
        self._host.request(
            route.add_veth(plug.host_link, plug.inner_link, namespace.fd, plug.bridge, plug.mtu)
        )
        outer = self.link(plug.host_link)
        inner = route.get_link(namespace.netlink, plug.inner_link)
        if outer is None or inner is None:
            raise errors.Unavailable(f"veth pair {plug.host_link} is gone")
        return outer.index, inner.index

    def unplug(self, host_link: str) -> None:
        """Cut a sandbox off its bridge at once; its pair dies later, with its namespace."""
        link = self.link(host_link)
        if link is None:
            return
        try:
            self._host.request(route.set_link(link.index, up=False, master=0))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def delete_inner(self, namespace: Namespace, inner_link: str, source: str = "") -> None:
        """Remove a sandbox's link that has no other end on the host. Safe to run twice.

        One that came from the host goes back, as `source`.
        """
        link = route.get_link(namespace.netlink, inner_link)
        if link is not None and source:
            host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                namespace.netlink.request(route.set_link(link.index, up=False))
                namespace.netlink.request(route.move_link(link.index, host, source))
            finally:
                os.close(host)
        elif link is not None:
            namespace.netlink.request(route.delete_link(link.index))

    def delete_pair(self, host_link: str) -> None:
        """Remove a veth pair whose sandbox goes on; the kernel does it in the background."""
        link = self.link(host_link)
        if link is not None:
            self._going.add(host_link, link.index)

    def replug(self, host_link: str, bridge: int, *, isolated: bool) -> bool:
        """Make a live sandbox's link a port of its bridge again; False when the link is gone."""
        link = self.link(host_link)
        if link is None:
            return False
        if link.master != bridge or not link.up:
            self._host.request(
                route.set_link(link.index, up=True, master=bridge),
                route.set_port(link.index, isolated=isolated),
            )
        return True


def enable_forwarding() -> bool:
    """Switch the kernel's IPv4 forwarding on; whether it was off before."""
    if FORWARDING.read_text().strip() != "0":
        return False
    FORWARDING.write_text("1")
    return True


def enable_forwarding6() -> bool:
    """Switch IPv6 forwarding on; whether it was off before.

    A router takes no router's word: interfaces that did so go on doing so only with accept_ra 2.
    """
    forwarding = CONF6 / "all" / "forwarding"
    if forwarding.read_text().strip() != "0":
        return False
    for interface in CONF6.iterdir():
        accepts = interface / "accept_ra"
        with suppress(OSError):
            if interface.name != "all" and accepts.read_text().strip() == "1":
                accepts.write_text("2")
    forwarding.write_text("1")
    return True
