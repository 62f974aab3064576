"""This machine's share of a daemon's networks: bridges, rules, namespaces, in one place.

Synchronous; a daemon calls it from one worker thread, so that steps happen in the order asked for.
Only `pool` may be used from elsewhere too.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path

from barque import errors
from barque.linux import netlink_route as route
from barque.network.examination import Bridge, bridge_faults
from barque.network.firewall import backends, iptables, rules
from barque.network.firewall.rules import Published, Segment
from barque.network.ipam import (
    choose_subnet,
    choose_subnet6,
    parse_interface6,
    parse_network6,
    unique_local_pool,
)
from barque.network.options import DEFAULT_BRIDGE, NetworkOptions
from barque.network.plugs import Plug
from barque.network.pool import Maker, Namespace, Pool, bound_name, sweep, unbind
from barque.network.uplinks import Uplink
from barque.network.wiring import Wiring, enable_forwarding, enable_forwarding6

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 30.0
LOCK_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class DefaultBridge:
    """Where the default network is: its bridge and that bridge's own address."""

    name: str
    interface: IPv4Interface
    interface6: IPv6Interface | None = None


class Host:
    """`owner` tells the daemon from others on the machine; in `netns` namespaces are bound."""

    def __init__(
        self, owner: str, netns: Path, maker_argv: Sequence[str], options: NetworkOptions
    ) -> None:
        self._options = options
        self._netns = netns
        self._pool6 = unique_local_pool(owner)
        self._lock: int | None = None
        self._ipv6 = False  # whether a network has it
        self.warnings: list[str] = []  # what keeps packets from passing and is not ours to change
        self.wiring = Wiring(owner)
        self.backend = backends.choose(options.firewall_backend)
        self.firewall = backends.make(
            self.backend,
            rules.table_name(owner),
            enabled=options.firewall,
            ipv6=options.firewall6,
            policy=options.host_policy,
        )
        self.firewall.accept_mark = options.accept_mark
        self.firewall.direct = options.direct_routing
        self._maker = Maker(maker_argv)
        self.pool = Pool(netns, self._maker, size=options.pool_size)

    @property
    def ipv6_rules(self) -> bool:
        """Whether ports may be published in that family."""
        return self._options.firewall6

    def path_of(self, sandbox: str) -> Path:
        """Where the namespace of sandbox `sandbox` is bound."""
        return self._netns / bound_name(sandbox)

    def default_bridge(
        self,
        before: DefaultBridge | None,
        taken: Iterable[IPv4Network],
        taken6: Iterable[IPv6Network],
        *,
        settled: bool,
    ) -> DefaultBridge:
        """As `_default_bridge`, with its IPv6 address when the options want one."""
        found = self._default_bridge(before, taken, settled=settled)
        if found is before and settled:
            return found
        interface6 = self._default_interface6(before.interface6 if before else None, taken6)
        return replace(found, interface6=interface6)

    def _default_interface6(
        self, before: IPv6Interface | None, taken: Iterable[IPv6Network]
    ) -> IPv6Interface | None:
        if not self._options.ipv6:
            return None
        if self._options.bip6:
            return parse_interface6(self._options.bip6)
        if self._options.fixed_cidr_v6:
            subnet = parse_network6(self._options.fixed_cidr_v6)
        elif before is not None and not any(before.network.overlaps(other) for other in taken):
            return before
        else:
            subnet = self.choose_subnet6(taken)
        return IPv6Interface((int(subnet.network_address) + 1, subnet.prefixlen))

    def _default_bridge(
        self, before: DefaultBridge | None, taken: Iterable[IPv4Network], *, settled: bool
    ) -> DefaultBridge:
        """Which bridge and address the default network gets.

        `before` is what it had, kept while it still fits and always when `settled` (containers of
        ours live on it). Options win over it; an interface named by --bridge that is there keeps
        its own address, as with dockerd. Otherwise the first pool that collides with nothing.
        """
        if before is not None and settled:
            return before
        name = self._options.bridge or self.wiring.free_bridge_name(
            before.name if before else DEFAULT_BRIDGE
        )
        link = self.wiring.link(name)
        if self._options.bip:
            return DefaultBridge(name, _interface(self._options.bip))
        if link is not None and not self.wiring.owns(link):
            present = self.wiring.bridge_address(name)
            if present is not None:
                return DefaultBridge(name, present)
        occupied = [*taken, *self.wiring.occupied(besides=link.index if link else 0)]
        if before is not None and not any(before.interface.network.overlaps(o) for o in occupied):
            return DefaultBridge(name, before.interface)
        subnet = choose_subnet(self._options.pools, occupied)
        return DefaultBridge(name, IPv4Interface(f"{subnet[1]}/{subnet.prefixlen}"))

    def choose_subnet(self, taken: Iterable[IPv4Network]) -> IPv4Network:
        """A free subnet for a new network."""
        return choose_subnet(self._options.pools, [*taken, *self.wiring.occupied()])

    def start(
        self,
        default: DefaultBridge | None,
        keep: Sequence[str],
        bridges: Iterable[str],
        host_links: Iterable[str],
    ) -> None:
        """Remove what a dead daemon left, make the bridge of the default network, fill the pool.

        Sandboxes `keep`, their `host_links` and the `bridges` of networks stay.
        """
        self._take_lock()
        for name in self.wiring.sweep(
            [*bridges, default.name if default else ""], keep, host_links
        ):
            log.info("removed link %s, which nobody has", name)
        swept = sweep(self._netns, keep)
        if swept:
            log.info("removed %d stale network namespaces", swept)
        if default is not None:
            index = self.wiring.ensure_bridge(
                default.name, default.interface, self._options.mtu, address6=default.interface6
            )
            self.pool.bridge = index
        self.pool.mtu = self._options.mtu
        self.pool.start()

    def _take_lock(self) -> None:
        """Wait until the programs that a killed daemon had started have ended.

        They hold its lock: else they would go on to load its rules and make its namespaces after
        ours. A program that does not end is given up.
        """
        self._lock = os.open(self._netns, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    log.warning("a program of the daemon before does not end")
                    break
                time.sleep(LOCK_POLL_S)
        self.firewall.keep = self._maker.keep = (self._lock,)

    def load(self, segments: Sequence[Segment], published: Sequence[Published]) -> None:
        """Load the rules, then let packets through."""
        if not segments:
            return
        if self._options.firewall and backends.purge_other(self.backend, self.firewall.table):
            log.info("removed the rules of the other firewall backend")
        self.firewall.load(segments, self._by_rules(published))
        self._ipv6 = any(segment.subnet6 is not None for segment in segments)
        self.forward()
        self._let_through()

    def forward(self) -> None:
        """Let this host forward packets of the families that its networks have."""
        if self._options.ip_forward and enable_forwarding():
            self._guard(4)
        if self._ipv6:
            self._forward6()

    def repair(self) -> bool:
        """After others changed their rules or ours: whether ours were gone and are loaded again."""
        repaired = self.firewall.repair()
        if self.firewall.loaded:
            self._let_through()
        return repaired

    def _let_through(self) -> None:
        if self._options.firewall and self.backend == backends.NFTABLES:
            warnings = iptables.let_through(self.firewall.bridges)
            for warning in set(warnings) - set(self.warnings):
                log.warning("%s", warning)
            self.warnings = warnings

    def _guard(self, version: int) -> None:
        """It is we who have made a router of the host: let it be none of the outside's."""
        if self._options.firewall and not self._options.ip_forward_no_drop:
            self.firewall.guard(version)

    def choose_subnet6(self, taken: Iterable[IPv6Network]) -> IPv6Network:
        """A free IPv6 subnet for a new network: of the pools, or of this owner's own addresses."""
        pools = [*self._options.pools6, (str(self._pool6), 64)]
        return choose_subnet6(pools, [*taken, *self.wiring.occupied6()])

    def ensure_bridge(
        self,
        name: str,
        interface: IPv4Interface | None,
        mtu: int,
        interface6: IPv6Interface | None = None,
    ) -> int:
        """The bridge of a user's network. Returns its index."""
        return self.wiring.ensure_bridge(name, interface, mtu, ours=True, address6=interface6)

    def repair_bridge(
        self, name: str, interface: IPv4Interface | None, mtu: int, interface6: IPv6Interface | None
    ) -> int:
        """The index of a bridge that had to be made, or given its address, again; 0: it is whole.

        One that the administrator made (--bridge) stays his.
        """
        wanted = [address for address in (interface, interface6) if address is not None]
        if not bridge_faults(self.wiring, Bridge(name, wanted)):
            return 0
        return self.wiring.ensure_bridge(name, interface, mtu, address6=interface6)

    def _forward6(self) -> None:
        if self._options.ip_forward and enable_forwarding6():
            self._guard(6)

    def add_network(
        self,
        segment: Segment,
        interface: IPv4Interface | None,
        mtu: int,
        interface6: IPv6Interface | None = None,
    ) -> int:
        """Make a network's bridge and rules. Undone whole when it fails."""
        index = self.ensure_bridge(segment.bridge, interface, mtu, interface6)
        try:
            if not self.firewall.loaded:
                self.load([segment], [])
            else:
                self.firewall.add_segment(segment)
                if segment.subnet6 is not None:
                    self._ipv6 = True
                    self._forward6()
                self._let_through()
        except BaseException:
            self.wiring.delete_bridge(segment.bridge)
            raise
        return index

    def add_on_uplink(
        self, uplink: Uplink, segment: Segment | None, interface: IPv4Interface | None, mtu: int
    ) -> int:
        """Make what a network with an uplink needs here. Undone whole when it fails.

        Its bridge's index; 0 for one that has no bridge, and so no `segment`.
        """
        if segment is None:
            self.wiring.uplinks.ensure_parent(uplink)
            try:
                self._try(uplink)
            except BaseException:
                self.wiring.uplinks.drop_parent(uplink)
                raise
            return 0
        index = self.add_network(segment, interface, mtu)
        try:
            self.wiring.uplinks.ensure_vxlan(uplink, index, mtu)
        except BaseException:
            self.wiring.uplinks.delete(uplink.link)
            self.delete_network(segment.bridge)
            raise
        return index

    def _try(self, uplink: Uplink) -> None:
        """Raises Unsupported where this kernel has no links of the kind.

        Tried in a namespace, which takes the link with it, also after a crash. A parent that is
        busy now is told of when a container wants to be on it.
        """
        namespace = self.pool.make(wired=False)
        try:
            self.wiring.uplinks.plug(namespace, uplink, "eth0", b"", 0)
            self.wiring.delete_inner(namespace, "eth0")
        except errors.Unavailable:
            return
        finally:
            namespace.close()
            unbind(namespace.path)

    def restore_uplink(self, uplink: Uplink, bridge: str, mtu: int) -> int:
        """The same after a start of the daemon, or of the machine; rules are loaded elsewhere."""
        if not bridge:
            self.wiring.uplinks.ensure_parent(uplink)
            return 0
        index = self.wiring.ensure_bridge(bridge, None, mtu, ours=True)
        self.wiring.uplinks.ensure_vxlan(uplink, index, mtu)
        return index

    def delete_on_uplink(self, uplink: Uplink, bridge: str) -> None:
        """Undo `add_on_uplink`. Safe to run twice."""
        if not bridge:
            self.wiring.uplinks.drop_parent(uplink)
            return
        self.wiring.uplinks.delete(uplink.link)
        self.delete_network(bridge)

    def delete_network(self, bridge: str) -> None:
        self.firewall.delete_segment(bridge)
        if self._options.firewall and self.backend == backends.NFTABLES:
            iptables.forget(bridge)
        self.wiring.delete_bridge(bridge)

    def _by_rules(self, published: Sequence[Published]) -> list[Published]:
        """Those of them that rules redirect or open: the proxy has the rest."""
        if self._options.proxy and not self._options.firewall:
            return [port for port in published if port.is_opened]
        return [port for port in published if not port.crosses]

    def build(
        self, namespace: Namespace, plugs: Sequence[Plug], published: Sequence[Published]
    ) -> None:
        """Give a sandbox its places and open its ports, then let go of the namespace's handles."""
        try:
            for plug in plugs:
                self.wiring.plug(namespace, plug, partial(self._set_sysctl, namespace.path))
            self.firewall.publish(self._by_rules(published))
        finally:
            namespace.close()

    def _set_sysctl(self, path: Path, setting: str) -> None:
        try:
            self._request_sysctl(path, setting)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL, errno.EACCES):
                raise errors.InvalidArgument(f"sysctl {setting} cannot be set: {error}") from error
            raise

    def _request_sysctl(self, path: Path, setting: str) -> None:
        fd, netlink = self._maker.request(f"sysctl {setting}", path)
        os.close(fd)
        netlink.close()

    def connect(self, sandbox: str, plug: Plug) -> None:
        """One more place for a sandbox that is in use."""
        namespace = self.pool.open(sandbox)
        try:
            self.wiring.plug(namespace, plug, partial(self._set_sysctl, namespace.path))
        finally:
            namespace.close()

    def disconnect(
        self,
        sandbox: str,
        host_link: str,
        inner_link: str,
        published: Sequence[Published],
        source: str = "",
    ) -> None:
        """Take one place away from a sandbox that goes on. Safe to run twice."""
        self.firewall.withdraw(self._by_rules(published))
        try:
            namespace = self.pool.open(sandbox)
        except OSError:  # the sandbox is gone, and all its links with it
            return
        try:
            self.wiring.strip(namespace, inner_link)
            if not host_link:
                self.wiring.delete_inner(namespace, inner_link, source)
        finally:
            namespace.close()
        if host_link:
            self.wiring.delete_pair(host_link)

    def set_gateway(
        self, sandbox: str, inner_link: str, gateway: IPv4Address | IPv6Address
    ) -> None:
        """Give a sandbox in use its default route, of the gateway's family."""
        namespace = self.pool.open(sandbox)
        try:
            link = route.get_link(namespace.netlink, inner_link)
            if link is not None:
                namespace.netlink.request(route.add_route(link.index, gateway.packed))
        finally:
            namespace.close()

    def tear_down(
        self,
        path: Path | None,
        host_links: Iterable[str],
        published: Sequence[Published],
        own_links: Iterable[str] = (),
        moved_links: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Close the ports, cut the links, let the namespace go: all steps, safe to run twice.

        `own_links` have no end on the host; a namespace dies some time later, and till then its
        links would hold their addresses on the parent. `moved_links` (name inside, on the host)
        are another program's and go back.
        """
        steps: list[Callable[[], object]] = [
            partial(self.firewall.withdraw, self._by_rules(published))
        ]
        steps += [partial(self.wiring.unplug, link) for link in host_links]
        if path is not None:
            steps += [partial(self._delete_own, path, link) for link in own_links]
            steps += [partial(self._delete_own, path, *names) for names in moved_links]
        if path is not None:
            steps.append(partial(unbind, path))
        failures: list[Exception] = []
        for step in steps:
            try:
                step()
            except Exception as error:
                error.add_note(f"tearing down network sandbox {path}")
                failures.append(error)
        if failures:
            raise ExceptionGroup("network teardown incomplete", failures)

    def _delete_own(self, path: Path, link: str, source: str = "") -> None:
        try:
            namespace = self.pool.open(path.name)
        except OSError:  # it is gone, and its links with it
            return
        try:
            self.wiring.delete_inner(namespace, link, source)
        finally:
            namespace.close()

    def close(self, *, bridge: str = "", empty: bool = False) -> None:
        """Empty the pool; when no sandbox is left, take rules and default bridge away too."""
        self.pool.close()
        if empty:
            self.firewall.delete()
            if bridge:
                self.delete_network(bridge)
        self.wiring.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.firewall.close()
        self.wiring.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _interface(text: str) -> IPv4Interface:
    """--bip: an address with its prefix."""
    try:
        interface = IPv4Interface(text)
    except ValueError:
        raise errors.InvalidArgument(f"invalid CIDR address: {text}") from None
    if interface.ip == interface.network.network_address:
        raise errors.InvalidArgument(f"bip {text} is a network, not the bridge's own address")
    return interface
