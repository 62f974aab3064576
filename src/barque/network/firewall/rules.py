"""The nftables rules, as text: one table a daemon, with chains for each of its networks.

    raw               127/8 arriving from a bridge is dropped: route_localnet is for the host's own
                      way out, not for a container's way in
    prerouting (nat)  addressed to this host, and not to its loopback: look in the published ports
    output (nat)      the same for the host's own packets, loopback included
    forward           to a network: replies, its own containers, published ports, nothing else;
                      from an internal network: to itself only
    postrouting (nat) leaving a network: masquerade; redirected back into its own (hairpin): too,
                      or the answer would go straight to the sender, from an address unknown to it

A network may have other modes, one for each family. `routed`: no address is translated, and what
is published is opened at the container's own address (`open`, `open6`); `nat-unprotected`: all
ports of containers may be reached; `isolated` (an internal network) has no address of the host's.

With `policy` a published port is open to whom the host's own firewall lets in. The first packet of
a caller is not redirected: it comes to the host's input, where every other table decides on it.
What they let pass is written down behind them all (`admitted`) and dropped; its repetition is
redirected.

`ports` (one host address) and `ports_any` (all of them) hold the published ports, those of IPv6
with a 6, and are filled by netlink. From ::1 nothing is redirected: what comes from there cannot
leave the host, and is the proxy's (`barque.network.proxy`). Only our own table is ever touched. To
accept here does not overrule another table's drop.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

ROUTER_GUARD_TABLE = "barque_router_guard"
ROUTER_GUARD6_TABLE = "barque_router_guard6"  # of IPv6
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

NAT, UNPROTECTED, ROUTED, ISOLATED = MODES = ("nat", "nat-unprotected", "routed", "isolated")
UNFILTERED = "unfiltered"  # --ip6tables=false: neither rules nor translation of this family


@dataclass(frozen=True, slots=True)
class Segment:
    """What the rules must know of one bridge network."""

    bridge: str
    subnet: IPv4Network | None
    masquerade: bool = True
    icc: bool = True  # containers of the network may reach each other
    internal: bool = False  # no way in or out but for the host
    subnet6: IPv6Network | None = None
    mode: str = NAT
    mode6: str = NAT
    accept_mark: str = ""  # MARK/MASK of packets that may reach them
    source: str = ""  # the host's address that leaves with translated packets; "" for any
    source6: str = ""
    trusted: str = ""  # interfaces (by colons, or all: *) that reach ports at containers' addresses

    @property
    def is_plain(self) -> bool:
        """Whether it has only the rules that nearly all networks have."""
        odd = self.accept_mark or self.source or self.source6 or self.trusted
        return self.mode == self.mode6 == NAT and not odd

    def kept(self, accept_mark: str, *, ipv6: bool, direct: bool = False) -> Segment:
        """As a daemon keeps it that lets packets with `accept_mark` in, and IPv6 alone or not.

        `direct`: every interface of the host's is trusted.
        """
        marked = replace(self, accept_mark=accept_mark) if accept_mark else self
        if direct:
            marked = replace(marked, trusted="*")
        return marked if ipv6 else replace(marked, mode6=UNFILTERED)


@dataclass(frozen=True, slots=True)
class Published:
    """A host port that leads to a container's port.

    Where `host_ip` is the container's own address no host port does: it is opened (mode routed).
    One of the other family `crosses`, which no rule does: it is the proxy's.
    """

    protocol: str
    host_ip: IPv4Address | IPv6Address
    host_port: int
    container_ip: IPv4Address | IPv6Address
    container_port: int

    @property
    def crosses(self) -> bool:
        return self.host_ip.version != self.container_ip.version

    @property
    def is_opened(self) -> bool:
        return self.host_ip == self.container_ip

    @property
    def map_name(self) -> str:
        family = "6" if self.container_ip.version == 6 else ""
        if self.is_opened:
            return f"open{family}"
        return f"ports{family}" if int(self.host_ip) else f"ports{family}_any"

    @property
    def guard_name(self) -> str:
        """The set of ports whose callers need the host's word; "" where no host port is."""
        return "" if self.is_opened else self.map_name.replace("ports", "guarded")

    @property
    def key(self) -> bytes:
        """The map's key as the kernel has it: each field padded to four bytes."""
        address = self.host_ip.packed if int(self.host_ip) else b""
        port = self.host_port.to_bytes(2, "big") + b"\0\0"
        return address + bytes((PROTOCOLS[self.protocol], 0, 0, 0)) + port

    @property
    def data(self) -> bytes:
        if self.is_opened:
            return b""
        return self.container_ip.packed + self.container_port.to_bytes(2, "big") + b"\0\0"

    @property
    def element(self) -> str:
        address = f"{self.host_ip} . " if int(self.host_ip) else ""
        if self.is_opened:
            return f"{address}{self.protocol} . {self.host_port}"
        target = f"{self.container_ip} . {self.container_port}"
        return f"{address}{self.protocol} . {self.host_port} : {target}"


def table_name(instance: str) -> str:
    """The table of the daemon with this instance name; valid as an identifier whatever the name."""
    return f"barque_{hashlib.sha256(instance.encode()).hexdigest()[:8]}"


def chain_suffix(bridge: str) -> str:
    """A bridge's part of a chain's name: identifiers have fewer characters than interface names."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in bridge)


def base(
    table: str,
    segments: Iterable[Segment],
    published: Iterable[Published],
    *,
    policy: bool = False,
) -> str:
    """A transaction that replaces the whole table at once. `policy`: see above."""
    ports = list(published)
    return "\n".join(
        (
            f"add table inet {table}",
            f"delete table inet {table}",
            f"table inet {table} {{{_SKELETON % _entrance(policy=policy)}{_POLICY * policy}}}",
            *(add_segment(table, segment) for segment in segments),
            *_port_elements(table, ports),
            *(_guarded_elements(table, ports) if policy else ()),
            "",
        )
    )


def _port_elements(table: str, published: Iterable[Published]) -> Iterable[str]:
    by_map: dict[str, list[str]] = {}
    for port in published:
        by_map.setdefault(port.map_name, []).append(port.element)
    for name, elements in by_map.items():
        yield f"add element inet {table} {name} {{ {', '.join(elements)} }}"


def _guarded_elements(table: str, published: Iterable[Published]) -> Iterable[str]:
    for port in published:
        if port.guard_name:
            address = f"{port.host_ip} . " if int(port.host_ip) else ""
            element = f"{address}{port.protocol} . {port.host_port}"
            yield f"add element inet {table} {port.guard_name} {{ {element} }}"


def _entrance(*, policy: bool) -> str:
    """What is asked of a caller's first packet before a published port is looked for."""
    lines = []
    for which, loopback, suffix in (("ip", "127.0.0.0/8", ""), ("ip6", "::1", "6")):
        caller = f"{which} saddr . {which} daddr . meta l4proto . th dport @admitted{suffix} "
        first = f"{which} daddr != {loopback} fib daddr type local "
        lines.append(f"{first}{caller if policy else ''}jump publish")
    return "\n        ".join(lines)


def rule_counts(text: str) -> Counter[str]:
    """How many rules each chain has after `base` is loaded, by the chain's name."""
    found: Counter[str] = Counter()
    chain = ""
    for line in map(str.split, text.splitlines()):
        if line[:2] == ["add", "rule"]:
            found[line[4]] += 1
        elif line[:1] == ["chain"]:
            chain = line[1]
        elif line == ["}"]:
            chain = ""
        elif chain and line and line[0] != "type":
            found[chain] += 1
    return found


def add_segment(table: str, segment: Segment) -> str:
    """The chains and map elements of one network, to be added."""
    name, chain = f'"{segment.bridge}"', chain_suffix(segment.bridge)
    among = "accept" if segment.icc else "drop"
    into = ["ct state established,related accept", f"iifname {name} {among}"]
    out: list[str] = []
    if not segment.internal:
        into.append("ct status dnat accept")
        if not segment.is_plain:
            into += [*_marked(segment), *_trusting(segment)]
            into += [*_opened("4", segment.mode), *_opened("6", segment.mode6)]
        if segment.masquerade:
            out += _masqueraded(name, segment)
    lines = [
        f"add chain inet {table} to_{chain}",
        f"add chain inet {table} from_{chain}",
        f"add chain inet {table} nat_{chain}",
        f"add chain inet {table} back_{chain}",
        *(f"add rule inet {table} to_{chain} {rule}" for rule in (*into, "drop")),
        *(f"add rule inet {table} nat_{chain} {rule}" for rule in out),
        *(
            f"add rule inet {table} back_{chain} {family} saddr {subnet} ct status dnat masquerade"
            for family, subnet in (("ip", segment.subnet), ("ip6", segment.subnet6))
            if subnet is not None
        ),
        f"add element inet {table} bridges {{ {name} }}",
        f"add element inet {table} to_bridge {{ {name} : jump to_{chain} }}",
        f"add element inet {table} leaving {{ {name} : jump nat_{chain} }}",
        f"add element inet {table} hairpin {{ {name} : jump back_{chain} }}",
    ]
    if segment.internal:
        lines.append(f"add rule inet {table} from_{chain} oifname != {name} drop")
        lines.append(f"add element inet {table} from_bridge {{ {name} : jump from_{chain} }}")
    return "\n".join(lines) + "\n"


def _marked(segment: Segment) -> Sequence[str]:
    mark, _, mask = segment.accept_mark.partition("/")
    return (f"meta mark & {mask} == {mark} accept",) if mark else ()


def _trusting(segment: Segment) -> Sequence[str]:
    """What is published is reached at containers' own addresses too: see `direct`."""
    if not segment.trusted:
        return ()
    names = ", ".join(f'"{name}"' for name in segment.trusted.split(":"))
    comes = "" if segment.trusted == "*" else f"iifname {{ {names} }} "
    return [
        f"{comes}{which} daddr . meta l4proto . th dport @open{suffix} accept"
        for which, suffix in (("ip", ""), ("ip6", "6"))
    ]


def _opened(family: str, mode: str) -> Sequence[str]:
    """What may come in of a family beside published ports of the host."""
    which, icmp, suffix = ("ip", "icmp", "") if family == "4" else ("ip6", "ipv6-icmp", "6")
    if mode in {UNPROTECTED, UNFILTERED}:
        return (f"meta nfproto ipv{family} accept",)
    if mode != ROUTED:
        return ()
    return (
        f"{which} daddr . meta l4proto . th dport @open{suffix} accept",
        f"meta nfproto ipv{family} meta l4proto {icmp} accept",
    )


def _masqueraded(name: str, segment: Segment) -> Sequence[str]:
    if segment.is_plain:
        return (f"oifname != {name} masquerade",)
    families = (("4", segment.mode, segment.source), ("6", segment.mode6, segment.source6))
    which = {"4": "ip", "6": "ip6"}
    return [
        f"meta nfproto ipv{family} oifname != {name} "
        + (f"snat {which[family]} to {source}" if source else "masquerade")
        for family, mode, source in families
        if mode in {NAT, UNPROTECTED}
    ]


def router_guard(table: str) -> str:
    """`table` is one of the two names of a guard; each guards its family.

    Keeps the host from becoming a router when it is we who switch forwarding on.

    Drops what would go from one hardware interface to another: those have no link kind, so the two
    accepting rules do not match. Virtual interfaces (bridges, veth, tunnels) pass.
    """
    family = "ipv6" if table == ROUTER_GUARD6_TABLE else "ipv4"
    return f"""
add table inet {table}
delete table inet {table}
table inet {table} {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        meta nfproto != {family} accept
        meta iifkind != "none" accept
        meta oifkind != "none" accept
        drop
    }}
}}
"""


_SKELETON = """
    map ports {
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
    }
    map ports_any {
        type inet_proto . inet_service : ipv4_addr . inet_service
    }
    map ports6 {
        type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
    }
    map ports6_any {
        type inet_proto . inet_service : ipv6_addr . inet_service
    }
    set open {
        type ipv4_addr . inet_proto . inet_service
    }
    set open6 {
        type ipv6_addr . inet_proto . inet_service
    }
    set bridges {
        type ifname
    }
    map to_bridge {
        type ifname : verdict
    }
    map from_bridge {
        type ifname : verdict
    }
    map leaving {
        type ifname : verdict
    }
    map hairpin {
        type ifname : verdict
    }
    chain raw {
        type filter hook prerouting priority raw; policy accept;
        iifname @bridges ip daddr 127.0.0.0/8 drop
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        %s
    }
    chain output {
        type nat hook output priority -100; policy accept;
        meta nfproto ipv4 fib daddr type local jump publish
        ip6 daddr != ::1 fib daddr type local jump publish
    }
    chain publish {
        dnat ip to ip daddr . meta l4proto . th dport map @ports
        dnat ip to meta l4proto . th dport map @ports_any
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
        dnat ip6 to meta l4proto . th dport map @ports6_any
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname vmap @from_bridge
        oifname vmap @to_bridge
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname @bridges ip saddr 127.0.0.0/8 masquerade
        oifname vmap @hairpin
        iifname vmap @leaving
    }
"""

# The input chain comes after all that others may have: nobody sees a packet behind it.
_POLICY = """
    set guarded {
        type ipv4_addr . inet_proto . inet_service
    }
    set guarded_any {
        type inet_proto . inet_service
    }
    set guarded6 {
        type ipv6_addr . inet_proto . inet_service
    }
    set guarded6_any {
        type inet_proto . inet_service
    }
    set admitted {
        type ipv4_addr . ipv4_addr . inet_proto . inet_service
        size 65535
        flags dynamic,timeout
        timeout 5m
    }
    set admitted6 {
        type ipv6_addr . ipv6_addr . inet_proto . inet_service
        size 65535
        flags dynamic,timeout
        timeout 5m
    }
    chain input {
        type filter hook input priority 10000; policy accept;
        ip daddr . meta l4proto . th dport @guarded jump admit
        meta nfproto ipv4 meta l4proto . th dport @guarded_any jump admit
        ip6 daddr . meta l4proto . th dport @guarded6 jump admit
        meta nfproto ipv6 meta l4proto . th dport @guarded6_any jump admit
    }
    chain admit {
        add @admitted { ip saddr . ip daddr . meta l4proto . th dport } drop
        add @admitted6 { ip6 saddr . ip6 daddr . meta l4proto . th dport } drop
        drop
    }
"""
