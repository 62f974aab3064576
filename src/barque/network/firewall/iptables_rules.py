"""The rules of `rules`, as iptables has them: text for `iptables-restore --noflush`. Pure.

    raw     R  127/8 arriving from a bridge is dropped
    nat     P  published ports
            M  masquerading: out of a network, and back into it (hairpin)
    filter  F  first in FORWARD: DOCKER-USER's word, then what may reach a network
            O  ports opened at containers' own addresses (mode routed)
            G  last in FORWARD: what leaves a network passes, but not into another bridge

Each chain's name begins with the daemon's own word. A table is loaded in one transaction, which
empties and fills these chains; the jumps into them are made once. Unlike in nftables, ACCEPT is the
last word here: that is why F stands behind DOCKER-USER, and G behind all others' rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from barque.network.firewall.rules import (
    NAT,
    ROUTED,
    UNFILTERED,
    UNPROTECTED,
    Published,
    Segment,
)

USER_CHAIN = "DOCKER-USER"
TABLES = ("raw", "nat", "filter")
CHAINS = {"raw": "R", "nat": "PM", "filter": "FOG"}
LOOPBACK = {4: "127.0.0.0/8", 6: "::1/128"}


class Family:
    """One address family's rules of the daemon whose word is `prefix`."""

    def __init__(self, prefix: str, version: int) -> None:
        self.prefix = prefix
        self.version = version

    def chain(self, letter: str) -> str:
        return f"{self.prefix}-{letter}"

    def hooks(self) -> list[tuple[str, bool, str, tuple[str, ...]]]:
        """(table, whether first of its chain, chain, rule): the jumps into our chains."""
        loopback, publish = LOOPBACK[self.version], self.chain("P")
        local = ("-m", "addrtype", "--dst-type", "LOCAL", "-j", publish)
        outside = ("!", "-d", loopback, *local)
        return [
            ("raw", True, "PREROUTING", ("-j", self.chain("R"))),
            ("nat", True, "PREROUTING", outside),
            ("nat", True, "OUTPUT", local if self.version == 4 else outside),
            ("nat", True, "POSTROUTING", ("-j", self.chain("M"))),
            ("filter", True, "FORWARD", ("-j", self.chain("F"))),
            ("filter", False, "FORWARD", ("-j", self.chain("G"))),
        ]

    def segments(self, segments: Iterable[Segment]) -> list[Segment]:
        """Those that have this family, and rules of it."""
        if self.version == 4:
            return list(segments)  # what a container makes up is shut out without addresses too
        return [s for s in segments if s.subnet6 is not None and s.mode6 != UNFILTERED]

    def load(self, segments: Iterable[Segment], published: Iterable[Published]) -> str:
        """A text that fills all chains anew."""
        ours = self.segments(segments)
        lines = []
        for table in TABLES:
            lines.append(f"*{table}")
            lines += [f":{self.chain(letter)} - [0:0]" for letter in CHAINS[table]]
            lines += self.rules(table, ours, published)
            lines.append("COMMIT")
        return "\n".join(lines) + "\n"

    def rules(
        self, table: str, segments: Sequence[Segment], published: Iterable[Published]
    ) -> list[str]:
        if table == "raw":
            return [f"-A {self.chain('R')} {rule}" for s in segments for rule in self._raw(s)]
        ports = [port for port in published if self.has(port)]
        if table == "nat":
            publish = [self.port(p) for p in ports if not p.is_opened]
            return [f"-A {rule}" for rule in (*publish, *self._masquerading(segments))]
        opened = [self.port(p) for p in ports if p.is_opened]
        return [f"-A {rule}" for rule in (*opened, *self._forwarding(segments))]

    def has(self, port: Published) -> bool:
        return port.container_ip.version == self.version

    def port(self, port: Published) -> str:
        """The rule of a published port, behind -A or -D."""
        where = f"-p {port.protocol} -m {port.protocol} --dport {port.host_port}"
        if port.is_opened:
            return f"{self.chain('O')} -d {port.host_ip} {where} -j ACCEPT"
        ip = str(port.container_ip)
        target = f"{ip if self.version == 4 else f'[{ip}]'}:{port.container_port}"
        named = f"-d {port.host_ip} " if int(port.host_ip) else ""
        return f"{self.chain('P')} {named}{where} -j DNAT --to-destination {target}"

    def changes(self, verb: str, ports: Iterable[Published]) -> str:
        """A text that adds (-A) or deletes (-D) the rules of `ports`, all or none of a table."""
        lines = []
        for table, opened in (("nat", False), ("filter", True)):
            rules = [f"{verb} {self.port(p)}" for p in ports if p.is_opened == opened]
            lines += [f"*{table}", *rules, "COMMIT"] if rules else []
        return "\n".join(lines) + "\n" if lines else ""

    def counts(
        self, table: str, segments: Iterable[Segment], published: Iterable[Published]
    ) -> Counter[str]:
        """How many rules each chain has."""
        rules = self.rules(table, self.segments(segments), published)
        return Counter(rule.split()[1] for rule in rules)

    def _raw(self, segment: Segment) -> list[str]:
        return [f"-i {segment.bridge} -d 127.0.0.0/8 -j DROP"] if self.version == 4 else []

    def _mode(self, segment: Segment) -> str:
        return segment.mode if self.version == 4 else segment.mode6

    def _masquerading(self, segments: Iterable[Segment]) -> list[str]:
        found = []
        for segment in segments:
            subnet = segment.subnet if self.version == 4 else segment.subnet6
            if subnet is None:
                continue
            bridge, chain = segment.bridge, self.chain("M")
            if self.version == 4:
                found.append(f"{chain} -o {bridge} -s 127.0.0.0/8 -j MASQUERADE")
            dnat = "-m conntrack --ctstate DNAT"
            found.append(f"{chain} -o {bridge} -s {subnet} {dnat} -j MASQUERADE")
            translated = self._mode(segment) in {NAT, UNPROTECTED} and not segment.internal
            if translated and segment.masquerade:
                source = segment.source if self.version == 4 else segment.source6
                how = f"SNAT --to-source {source}" if source else "MASQUERADE"
                found.append(f"{chain} -s {subnet} ! -o {bridge} -j {how}")
        return found

    def _forwarding(self, segments: Sequence[Segment]) -> list[str]:
        first, last = self.chain("F"), self.chain("G")
        found = [f"{first} -j {USER_CHAIN}"]
        for segment in segments:
            if segment.internal:
                found.append(f"{first} -i {segment.bridge} ! -o {segment.bridge} -j DROP")
        for segment in segments:
            found += [f"{first} {rule}" for rule in self._into(segment)]
        found += [f"{last} -o {bridge} -j RETURN" for bridge in ("docker+", "br-+")]
        found += [f"{last} -i {s.bridge} -j ACCEPT" for s in segments if not s.internal]
        return found

    def _into(self, segment: Segment) -> list[str]:
        bridge, mode = segment.bridge, self._mode(segment)
        among = "ACCEPT" if segment.icc else "DROP"
        rules = [
            f"-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"-i {bridge} -o {bridge} -j {among}",
        ]
        if not segment.internal:
            rules.append(f"-o {bridge} -m conntrack --ctstate DNAT -j ACCEPT")
            if segment.accept_mark:
                rules.append(f"-o {bridge} -m mark --mark {segment.accept_mark} -j ACCEPT")
            for name in segment.trusted.split(":") if segment.trusted else ():
                comes = "" if name == "*" else f"-i {name} "
                rules.append(f"{comes}-o {bridge} -j {self.chain('O')}")
            if mode == UNPROTECTED:
                rules.append(f"-o {bridge} -j ACCEPT")
            if mode == ROUTED:
                icmp = "icmp" if self.version == 4 else "ipv6-icmp"
                rules.append(f"-o {bridge} -j {self.chain('O')}")
                rules.append(f"-o {bridge} -p {icmp} -j ACCEPT")
        return [*rules, f"-o {bridge} -j DROP"]
