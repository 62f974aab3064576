"""One network's chains and map elements as netlink messages: what `rules` says as text.

A table is loaded whole as text; a network that comes or goes is one small transaction, and no
process runs for it. `nft list table` cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from barque.linux import nfnetlink
from barque.linux import nfrules as nf
from barque.linux.netlink import Message
from barque.linux.nfnetlink import NFPROTO_INET
from barque.network.firewall.rules import Segment, chain_suffix

PREFIXES = ("to", "from", "nat", "back")


def _from(name: bytes, *, equal: bool = True) -> Sequence[bytes]:
    return nf.meta(nf.META_IIFNAME), nf.compare(name, equal=equal)


def _to(name: bytes, *, equal: bool = True) -> Sequence[bytes]:
    return nf.meta(nf.META_OIFNAME), nf.compare(name, equal=equal)


def _redirected() -> Sequence[bytes]:
    return nf.conntrack(nf.CT_STATUS), *nf.any_bit(nf.IPS_DST_NAT)


def add(table: str, segment: Segment) -> list[Message]:
    """The chains and map elements of one network, to be added."""
    name, chain = nf.interface(segment.bridge), chain_suffix(segment.bridge)
    messages = [nf.add_chain(NFPROTO_INET, table, f"{prefix}_{chain}") for prefix in PREFIXES]

    def rule(prefix: str, *expressions: bytes) -> None:
        messages.append(nf.add_rule(NFPROTO_INET, table, f"{prefix}_{chain}", *expressions))

    established = nf.any_bit(nf.CT_ESTABLISHED_OR_RELATED)
    rule("to", nf.conntrack(nf.CT_STATE), *established, nf.decide(nf.ACCEPT))
    rule("to", *_from(name), nf.decide(nf.ACCEPT if segment.icc else nf.DROP))
    if not segment.internal:
        rule("to", *_redirected(), nf.decide(nf.ACCEPT))
        if segment.masquerade:
            rule("nat", *_to(name, equal=False), nf.masquerade())
    rule("to", nf.decide(nf.DROP))
    for subnet in (segment.subnet, segment.subnet6):
        if subnet is not None:
            source = nf.source_in(subnet.network_address.packed, subnet.prefixlen)
            rule("back", *source, *_redirected(), nf.masquerade())
    messages.append(nfnetlink.add_elements(table, "bridges", [(name, b"")]))
    for map_name, prefix in _maps(segment):
        verdict = nf.verdict(nf.JUMP, f"{prefix}_{chain}")
        messages.append(nfnetlink.add_verdicts(table, map_name, [(name, verdict)]))
    if segment.internal:
        rule("from", *_to(name, equal=False), nf.decide(nf.DROP))
    return messages


def _maps(segment: Segment) -> list[tuple[str, str]]:
    maps = [("to_bridge", "to"), ("leaving", "nat"), ("hairpin", "back")]
    return [*maps, ("from_bridge", "from")] if segment.internal else maps


def delete(table: str, segment: Segment) -> list[Message]:
    """Undo `add`."""
    name, chain = nf.interface(segment.bridge), chain_suffix(segment.bridge)
    maps = ["bridges", *(map_name for map_name, _ in _maps(segment))]
    messages = [nfnetlink.delete_elements(table, map_name, [name]) for map_name in maps]
    for prefix in PREFIXES:
        messages.append(nf.flush_chain(NFPROTO_INET, table, f"{prefix}_{chain}"))
        messages.append(nf.delete_chain(NFPROTO_INET, table, f"{prefix}_{chain}"))
    return messages
