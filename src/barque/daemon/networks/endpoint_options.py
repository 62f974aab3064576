"""Driver options of a container's place in a network, checked. Pure.

Source: Docker's "docker container run", "Network driver options" (`--network driver-opt=`). What a
built-in driver does not have is refused by its name; a plugin's driver is told all the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from barque import errors
from barque.linux.netlink_route import check_name

PREFIX = "com.docker.network.endpoint."
SYSCTLS, IFNAME, MAC = (PREFIX + word for word in ("sysctls", "ifname", "macaddress"))
FAMILIES = frozenset({"ipv4", "ipv6", "mpls"})
MAX_SETTINGS = 64
MAX_LINK_LOCAL = 16

_WORD = re.compile(r"[a-z0-9_]+\Z")
_VALUE = re.compile(r"[0-9a-zA-Z_./: -]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """`sysctls` have the word IFNAME where the interface's name belongs."""

    sysctls: tuple[str, ...] = ()
    ifname: str = ""
    mac: str = ""


def parse_endpoint_options(
    options: Mapping[str, str], network: str, *, remote: bool
) -> EndpointOptions:
    """Raises InvalidArgument, Unsupported."""
    for key in options:
        if key not in {SYSCTLS, IFNAME, MAC} and not remote:
            raise errors.Unsupported(
                f"driver option {key} of the endpoint in network {network} is not supported"
            )
    ifname = options.get(IFNAME) or ""
    if ifname and check_name(ifname) == "lo":
        raise errors.InvalidArgument(f"invalid interface name: {ifname!r}")
    settings = [word for word in (options.get(SYSCTLS) or "").split(",") if word]
    if len(settings) > MAX_SETTINGS:
        raise errors.InvalidArgument(f"{SYSCTLS}: more than {MAX_SETTINGS} settings")
    return EndpointOptions(
        tuple(parse_sysctl(word) for word in settings), ifname, options.get(MAC) or ""
    )


def parse_sysctl(text: str) -> str:
    """`net.FAMILY.KIND.IFNAME.KEY=VALUE`: a setting of one interface and of nothing else.

    Docker's client gives the whole option in lower case: `ifname` is the same word.
    """
    key, equals, value = text.strip().partition("=")
    parts = key.split(".")
    if not equals or not _VALUE.match(value):
        raise errors.InvalidArgument(f"invalid sysctl {text!r}: a name and a value are wanted")
    if len(parts) != 5 or parts[0] != "net" or parts[1] not in FAMILIES:
        raise errors.InvalidArgument(
            f"unrecognised network interface sysctl '{key}': "
            "net.ipv4, net.ipv6 or net.mpls and IFNAME are wanted"
        )
    if parts[3].upper() != "IFNAME":
        raise errors.InvalidArgument(
            f"unrecognised network interface sysctl '{key}': the interface is the word IFNAME"
        )
    if not _WORD.match(parts[2]) or not _WORD.match(parts[4]):
        raise errors.InvalidArgument(f"unrecognised network interface sysctl '{key}'")
    return f"net.{parts[1]}.{parts[2]}.IFNAME.{parts[4]}={value}"


def parse_link_local(addresses: Sequence[str]) -> tuple[str, ...]:
    """LinkLocalIPs. Raises InvalidArgument with Docker's words."""
    if len(addresses) > MAX_LINK_LOCAL:
        raise errors.InvalidArgument(f"more than {MAX_LINK_LOCAL} link-local addresses")
    found = []
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError:
            address = None
        if address is None or address.is_unspecified or address.is_multicast:
            raise errors.InvalidArgument(f"invalid link-local IP address: {text}")
        found.append(str(address))
    return tuple(dict.fromkeys(found))
