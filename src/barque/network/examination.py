"""What of this host's networks is not as it should be, and putting it right. The kernel's part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from barque.network.wiring import Wiring

FORWARDING = {
    "ipv4": Path("/proc/sys/net/ipv4/ip_forward"),
    "ipv6": Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`object` is what is harmed, `problem` how: both for people."""

    check: str
    object: str
    problem: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Bridge:
    """A network's bridge as it should be. `addresses`: the host's own on it."""

    name: str
    addresses: Sequence[IPv4Interface | IPv6Interface] = ()

    @property
    def settings(self) -> dict[str, str]:
        """By path below /proc/sys/net."""
        name = self.name
        sixth = any(address.version == 6 for address in self.addresses)
        return {
            f"ipv4/conf/{name}/route_localnet": "1",
            f"ipv6/conf/{name}/accept_ra": "0",
            f"ipv6/conf/{name}/disable_ipv6": "0" if sixth else "1",
        }


def bridge_faults(wiring: Wiring, bridge: Bridge) -> list[str]:
    """What is wrong with a bridge, in words; nothing when it is whole."""
    link = wiring.link(bridge.name)
    if link is None:
        return ["it is gone"]
    if link.kind != "bridge":
        return [f"it is no bridge but {link.kind or 'a hardware interface'}"]
    found = [] if link.up else ["it is down"]
    present = wiring.addresses(link.index)
    found += [
        f"it has lost its address {address}"
        for address in bridge.addresses
        if (address.packed, address.network.prefixlen) not in present
    ]
    return found + [
        f"net.{path.replace('/', '.')} is {now} instead of {wanted}"
        for path, wanted in bridge.settings.items()
        if (now := _setting(path)) not in (wanted, None)
    ]


def _setting(path: str) -> str | None:
    try:
        return Path("/proc/sys/net", path).read_text().strip()
    except OSError:  # a kernel without this family
        return None


def link_fault(wiring: Wiring, host_link: str, bridge: int) -> str:
    """What is wrong with the host's end of a sandbox's link; "" for nothing."""
    link = wiring.link(host_link)
    if link is None:
        return "it is gone"
    if link.master != bridge:
        return "it is no port of its bridge"
    return "" if link.up else "it is down"


def forwarding_faults(families: Iterable[str]) -> list[str]:
    """Families in which this host forwards nothing."""
    return [family for family in families if _text(FORWARDING[family]) == "0"]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
