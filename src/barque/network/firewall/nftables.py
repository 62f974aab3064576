"""One daemon's nftables table, kept as its networks and published ports say.

Text goes to one `nft` process when the table is loaded or a network comes or goes; ports are
elements sent by netlink. What should be there is remembered here, so that a table which somebody
else flushed is loaded again whole. One thread at a time.
"""

from __future__ import annotations

import errno
import logging
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from barque import errors
from barque.linux import conntrack, nfnetlink
from barque.linux.netlink import NETLINK_NETFILTER, Message, Netlink
from barque.network.firewall import rules, segment_messages
from barque.network.firewall.rules import PROTOCOLS, Published, Segment
from barque.network.firewall.wanted import Wanted

log = logging.getLogger(__name__)

NFT = ("nft", "-f", "-")
NFT_TIMEOUT_S = 60.0
ELEMENTS_PER_MESSAGE = 400


def run_nft(text: str, keep: Sequence[int] = ()) -> None:
    """Apply `text` as one transaction. Raises Unavailable with nft's own words.

    The process holds the descriptors `keep` open, so that it is known when it has ended.
    """
    try:
        done = subprocess.run(
            NFT,
            input=text,
            capture_output=True,
            text=True,
            timeout=NFT_TIMEOUT_S,
            check=False,
            pass_fds=keep,
        )
    except FileNotFoundError:
        raise errors.Unavailable("nft is not installed: bridge networks need nftables") from None
    except subprocess.TimeoutExpired:
        raise errors.Unavailable("nft does not answer") from None
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise errors.Unavailable(f"nft: {words[0]}")


def _groups(ports: Sequence[Published]) -> Iterator[tuple[str, Sequence[Published]]]:
    """`ports` by map, in parts that fit a message: one answer for each, not for each port."""
    by_map: dict[str, list[Published]] = {}
    for port in ports:
        by_map.setdefault(port.map_name, []).append(port)
    for name, group in by_map.items():
        for start in range(0, len(group), ELEMENTS_PER_MESSAGE):
            yield name, group[start : start + ELEMENTS_PER_MESSAGE]


class Firewall(Wanted):
    polls = False  # the kernel tells of a flush

    def __init__(
        self, table: str, *, enabled: bool = True, ipv6: bool = True, policy: bool = False
    ) -> None:
        """`policy`: the host's input has a say. The rest is `Wanted`'s."""
        super().__init__(table, enabled=enabled, ipv6=ipv6)
        self.policy = policy
        self._netlink: Netlink | None = None

    def reload(self) -> None:
        """In one transaction."""
        if self.enabled:
            run_nft(self._text(), self.keep)
        self.loaded = True

    def port(self) -> int:
        """What our own changes come from; 0 before there was any."""
        return self._netlink.port if self._netlink is not None else 0

    def missing(self) -> list[str]:
        """What is not there of the table: itself, rules of a chain, elements of published ports."""
        if not (self.enabled and self.loaded):
            return []
        if not self._present():
            return [f"table {self.table}"]
        wanted = rules.rule_counts(self._text())
        present = Counter(nfnetlink.rule_chains(self._socket(), self.table))
        found = [f"rules of chain {chain}" for chain in wanted if present[chain] < wanted[chain]]
        for name, group in _groups(list(self._open())):
            try:
                there = {key for key, _ in nfnetlink.elements(self._socket(), self.table, name)}
            except FileNotFoundError:
                there = set()
            found += [f"port {p.element} of {name}" for p in group if p.key not in there]
        return found

    def _text(self) -> str:
        return rules.base(self.table, self._segments.values(), self._open(), policy=self.policy)

    def _present(self) -> bool:
        try:
            nfnetlink.elements(self._socket(), self.table, "bridges")
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def add_segment(self, segment: Segment) -> None:
        segment = self._segments[segment.bridge] = self._kept(segment)
        if not self.enabled:
            return
        try:
            self._add(segment)
        except FileNotFoundError:  # somebody flushed the ruleset
            self.reload()
        except BaseException:
            del self._segments[segment.bridge]
            raise

    def _add(self, segment: Segment) -> None:
        """Plain ones, which are nearly all, without a process."""
        if segment.is_plain:
            self._transaction(*segment_messages.add(self.table, segment))
        elif not self._present():
            self.reload()
        else:
            run_nft(rules.add_segment(self.table, segment), self.keep)

    def delete_segment(self, bridge: str) -> None:
        """Remove a network's rules; one that has none is left alone."""
        segment = self._segments.pop(bridge, None)
        if segment is None or not self.enabled or not self.loaded:
            return
        try:
            self._transaction(*segment_messages.delete(self.table, segment))
        except FileNotFoundError:  # somebody flushed the ruleset, or took a part
            self.reload()

    def publish(self, ports: Sequence[Published]) -> None:
        """Open `ports`, all or none."""
        if not ports:
            return
        if not self.enabled:
            raise errors.Unsupported(
                "publishing ports needs firewall rules (--iptables=false is set)"
            )
        messages = [
            nfnetlink.add_elements(self.table, name, [(port.key, port.data) for port in group])
            for name, group in _groups([*ports, *self._direct(ports)])
        ]
        messages += [
            nfnetlink.add_elements(self.table, name, [(port.key, b"") for port in group])
            for name, group in self._guards(ports)
        ]
        try:
            self._transaction(*messages)
        except FileNotFoundError:  # somebody flushed the ruleset
            self.reload()
            self._transaction(*messages)
        self._published.update(ports)

    def withdraw(self, ports: Sequence[Published]) -> None:
        """Close `ports`; one that is closed already is left alone."""
        self._published.difference_update(ports)
        closing = [*ports, *(self._direct(ports) - self._direct(self._published))]
        if closing and not self._delete(closing):
            for port in closing:
                self._delete([port])
        ended = [p.container_ip for p in ports if p.protocol == "udp"]
        self._forget_flows({address.packed for address in ended if address.version == 4})

    def _guards(self, ports: Sequence[Published]) -> Iterator[tuple[str, Sequence[Published]]]:
        """As `_groups`, of the sets of ports whose callers need the host's word."""
        if self.policy:
            for name, group in _groups([port for port in ports if port.guard_name]):
                yield name.replace("ports", "guarded"), group

    def forget_admitted(self) -> None:
        """The host's rules have changed: everybody is judged again."""
        if self.policy and self.enabled and self.loaded and self._present():
            lines = (f"flush set inet {self.table} admitted{six}\n" for six in ("", "6"))
            run_nft("".join(lines), self.keep)

    def _forget_flows(self, containers: Iterable[bytes]) -> None:
        """Of udp the kernel would go on redirecting to a container that is gone."""
        for address in containers:
            for original in conntrack.redirected_to(self._socket(), PROTOCOLS["udp"], address):
                try:
                    self._socket().request(conntrack.forget(original))
                except FileNotFoundError:  # it ended meanwhile
                    continue

    def _delete(self, ports: Sequence[Published]) -> bool:
        """Delete all elements of `ports`; False, and none is, when one is not there."""
        messages = [
            nfnetlink.delete_elements(self.table, name, [port.key for port in group])
            for name, group in (*_groups(ports), *self._guards(ports))
        ]
        try:
            self._transaction(*messages)
        except FileNotFoundError:
            return False
        return True

    def _transaction(self, *messages: Message) -> None:
        nfnetlink.transaction(self._socket(), *messages)

    def _socket(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink(NETLINK_NETFILTER)
        return self._netlink

    def delete(self) -> None:
        """Remove the table. Safe to run twice."""
        if self.enabled and self.loaded:
            run_nft(f"add table inet {self.table}\ndelete table inet {self.table}\n", self.keep)
        self.loaded = False

    def guard(self, version: int) -> None:
        """The host becomes no router for others: see `rules.router_guard`."""
        sixth = version == 6
        run_nft(
            rules.router_guard(rules.ROUTER_GUARD6_TABLE if sixth else rules.ROUTER_GUARD_TABLE)
        )

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
