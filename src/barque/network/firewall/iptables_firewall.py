"""One daemon's rules where only iptables is there: what `Firewall` promises, by its programs.

A network or a set of ports is one `iptables-restore`. What should be there is remembered, so that
chains which somebody else flushed are loaded again; nobody tells of that, so it is looked for.
"""

from __future__ import annotations

import logging
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence

from barque import errors
from barque.network.firewall.iptables_rules import CHAINS, TABLES, USER_CHAIN, Family
from barque.network.firewall.rules import Published, Segment
from barque.network.firewall.wanted import Wanted

log = logging.getLogger(__name__)

TIMEOUT_S = 60.0
PROGRAMS = {4: "iptables", 6: "ip6tables"}


class IptablesFirewall(Wanted):
    polls = True  # a flush is not told

    def __init__(self, table: str, *, enabled: bool = True, ipv6: bool = True) -> None:
        super().__init__(table, enabled=enabled, ipv6=ipv6)
        self._families = [Family(f"BQ{table.rpartition('_')[2]}", version) for version in (4, 6)]
        self._in_use: set[int] = set()  # families whose chains were made
        self._user_chains: set[int] = set()  # families whose DOCKER-USER is ours to remove

    def _wanted(self) -> list[Family]:
        return [f for f in self._families if f.segments(self._segments.values())]

    def reload(self) -> None:
        for family in self._wanted() if self.enabled else ():
            self._load(family)
        self.loaded = True

    def _load(self, family: Family) -> None:
        version = family.version
        self._in_use.add(version)
        self._ensure_user_chain(version)
        self._restore(version, family.load(self._segments.values(), self._open()))
        for table, first, chain, rule in family.hooks():
            if self._run(version, "-t", table, "-C", chain, *rule).returncode:
                self._must(version, "-t", table, "-I" if first else "-A", chain, *rule)

    def _ensure_user_chain(self, version: int) -> None:
        made = self._run(version, "-N", USER_CHAIN).returncode == 0
        marked = not made and self._run(version, "-C", USER_CHAIN, *self._mark()).returncode == 0
        if not marked and (made or version in self._user_chains):
            self._run(version, "-A", USER_CHAIN, *self._mark())
        if made or marked:
            self._user_chains.add(version)

    def _mark(self) -> tuple[str, ...]:
        """A rule that decides nothing: it says that the chain DOCKER-USER was made by us."""
        return "-m", "comment", "--comment", f"made by {self.table}"

    def port(self) -> int:
        """Changes are made by programs, whose are not known."""
        return 0

    def missing(self) -> list[str]:
        """The families whose rules are not whole."""
        if not (self.enabled and self.loaded):
            return []
        return [
            f"rules of {PROGRAMS[family.version]}"
            for family in self._wanted()
            if not self._present(family)
        ]

    def _present(self, family: Family) -> bool:
        for table in TABLES:
            listed = self._run(family.version, "-t", table, "-S").stdout.splitlines()
            words = [line.split() for line in listed if line.startswith("-A ")]
            mine = Counter(w[1] for w in words if w[1].startswith(f"{family.prefix}-"))
            if mine != family.counts(table, self._segments.values(), self._open()):
                return False
            jumps = Counter(w[-1] for w in words if not w[1].startswith(family.prefix))
            hooks = Counter(rule[-1] for where, _, _, rule in family.hooks() if where == table)
            if any(jumps[chain] != count for chain, count in hooks.items()):
                return False
        return True

    def add_segment(self, segment: Segment) -> None:
        self._segments[segment.bridge] = self._kept(segment)
        try:
            self.reload()
        except BaseException:
            del self._segments[segment.bridge]
            raise

    def delete_segment(self, bridge: str) -> None:
        """Remove a network's rules; one that has none is left alone."""
        if self._segments.pop(bridge, None) is None or not self.enabled or not self.loaded:
            return
        for family in self._families:
            if family.version in self._in_use:
                self._load(family)

    def publish(self, ports: Sequence[Published]) -> None:
        """Open `ports`, all or none."""
        if not ports:
            return
        if not self.enabled:
            raise errors.Unsupported(
                "publishing ports needs firewall rules (--iptables=false is set)"
            )
        opening = [*ports, *(self._direct(ports) - self._direct(self._published))]
        self._published.update(ports)
        try:
            for family in self._families:
                self._change(family, "-A", opening)
        except BaseException:
            self._published.difference_update(ports)
            self.reload()
            raise

    def withdraw(self, ports: Sequence[Published]) -> None:
        """Close `ports`; one that is closed already is left alone."""
        known = [port for port in ports if port in self._published]
        self._published.difference_update(ports)
        known += self._direct(known) - self._direct(self._published)
        try:
            for family in self._families:
                self._change(family, "-D", known)
        except errors.Unavailable:  # somebody took one away
            self.reload()

    def _change(self, family: Family, verb: str, ports: Iterable[Published]) -> None:
        text = family.changes(verb, [port for port in ports if family.has(port)])
        if text:
            self._restore(family.version, text)

    def delete(self) -> None:
        """Remove all chains and the jumps into them. Safe to run twice."""
        if self.enabled and self.loaded:
            self.purge()
        self.loaded = False

    def purge(self) -> None:
        """The same of whatever is there, by whichever daemon of this name it was made."""
        for family in self._families:
            if self._run(family.version, "-S", family.chain("F")).returncode == 0:
                self._purge(family)

    def _purge(self, family: Family) -> None:
        version = family.version
        for table, _, chain, rule in family.hooks():
            while self._run(version, "-t", table, "-D", chain, *rule).returncode == 0:
                pass
        for table in TABLES:
            for flag in ("-F", "-X"):
                for letter in CHAINS[table]:
                    self._run(version, "-t", table, flag, family.chain(letter))
        if self._run(version, "-D", USER_CHAIN, *self._mark()).returncode == 0:
            self._run(version, "-X", USER_CHAIN)  # not if it has rules of a user's
        self._in_use.discard(version)

    def forget_admitted(self) -> None:
        """Nobody is: the host's input policy is not asked here."""

    def guard(self, version: int) -> None:
        """The host becomes no router for others: only what is accepted passes, as with Docker."""
        self._must(version, "-P", "FORWARD", "DROP")

    def close(self) -> None:
        """Nothing is held open."""

    def _run(self, version: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._start([PROGRAMS[version], "-w", *arguments], "")

    def _must(self, version: int, *arguments: str) -> None:
        _check(PROGRAMS[version], self._run(version, *arguments))

    def _restore(self, version: int, text: str) -> None:
        program = f"{PROGRAMS[version]}-restore"
        _check(program, self._start([program, "-w", "--noflush"], text))

    def _start(self, argv: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                argv,
                input=text,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
                pass_fds=self.keep,
            )
        except FileNotFoundError:
            raise errors.Unavailable(f"{argv[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise errors.Unavailable(f"{argv[0]} does not answer") from None


def _check(program: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise errors.Unavailable(f"{program}: {words[0]}")
