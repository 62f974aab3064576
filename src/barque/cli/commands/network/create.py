"""`barque network create`."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] NETWORK"
SUMMARY = "Create a network"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("attachable", "", "bool", "Let containers attach by hand"),
    ("aux-address", "", "map", "Addresses that are taken already", "map[]"),
    ("config-from", "", "string", "Take the configuration from this network"),
    ("config-only", "", "bool", "Only a configuration for others"),
    ("driver", "d", "string", "Driver of the network", '"bridge"'),
    ("gateway", "", "stringSlice", "Gateway of the subnet"),
    ("ingress", "", "bool", "Routing mesh of a swarm"),
    ("internal", "", "bool", "No way to the outside"),
    ("ip-range", "", "stringSlice", "Where in the subnet containers get their addresses"),
    ("ipam-driver", "", "string", "Driver of the addresses", '"default"'),
    ("ipam-opt", "", "map", "Option of the driver of the addresses", "map[]"),
    ("ipv4", "", "bool", "IPv4 addresses", "true"),
    ("ipv6", "", "bool", "IPv6 addresses"),
    ("label", "", "list", "Set a label"),
    ("opt", "o", "map", "Option of the driver", "map[]"),
    ("scope", "", "string", "Scope of the network"),
    ("subnet", "", "stringSlice", "Subnet (CIDR)"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    created = session.client.networks.create(_body(options, arguments[0]))
    if warning := created.get("Warning"):
        terminal.err(f"WARNING: {warning}\n")
    terminal.out(f"{created['Id']}\n")
    return 0


def _body(options: Options, name: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": options.text("driver", "bridge"),
        "Scope": options.text("scope"),
        "Attachable": options.flag("attachable"),
        "Ingress": options.flag("ingress"),
        "Internal": options.flag("internal"),
        "ConfigOnly": options.flag("config-only"),
        "Options": _pairs(options, "opt"),
        "Labels": _pairs(options, "label"),
        "IPAM": {
            "Driver": options.text("ipam-driver", "default"),
            "Options": _pairs(options, "ipam-opt"),
            "Config": _pools(options),
        },
    }
    for key, flag in (("EnableIPv4", "ipv4"), ("EnableIPv6", "ipv6")):
        if flag in options:  # else the daemon's default
            body[key] = options.flag(flag)
    if "config-from" in options:
        body["ConfigFrom"] = {"Network": options.text("config-from")}
    return body


def _pairs(options: Options, name: str) -> dict[str, str]:
    pairs = (text.partition("=") for text in options.all(name))
    return {key: value for key, _, value in pairs}


def _pools(options: Options) -> list[dict[str, Any]]:
    """Each subnet with the range, the gateway and the taken addresses that lie in it."""
    subnets = options.all("subnet")
    placed = {"ip-range": options.all("ip-range"), "gateway": options.all("gateway")}
    if any(len(subnets) < len(texts) for texts in placed.values()):
        raise errors.InvalidArgument("every ip-range or gateway must have a corresponding subnet")
    pools: dict[Any, dict[str, Any]] = {}
    for text in subnets:
        network = _network(text)
        if any(network.version == other.version and network.overlaps(other) for other in pools):
            raise errors.InvalidArgument(
                "multiple overlapping subnet configuration is not supported"
            )
        pools[network] = {"Subnet": text}
    for text in placed["ip-range"]:
        _set(_pool_of(pools, "range", text), "IPRange", text, "ranges ({}, {}) on")
    for text in placed["gateway"]:
        _set(_pool_of(pools, "gateway", text), "Gateway", text, "gateways ({}, {}) for")
    for name, text in _pairs(options, "aux-address").items():
        pool = _pool_of(pools, "aux-address", text)
        pool.setdefault("AuxiliaryAddresses", {})[name] = text
    return list(pools.values())


def _set(pool: dict[str, Any], key: str, text: str, several: str) -> None:
    if key in pool:
        found = several.format(text, pool[key])
        raise errors.InvalidArgument(
            f"cannot configure multiple {found} the same subnet ({pool['Subnet']})"
        )
    pool[key] = text


def _network(text: str) -> Any:
    import ipaddress

    try:
        if "/" in text:
            return ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    raise errors.InvalidArgument(f"invalid subnet: invalid CIDR address: {text}")


def _pool_of(pools: dict[Any, dict[str, Any]], what: str, text: str) -> dict[str, Any]:
    """The pool that the address, or the first one of a range, lies in."""
    import ipaddress

    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        address = None
    for network, pool in pools.items():
        if address is not None and address in network:
            return pool
    raise errors.InvalidArgument(f"no matching subnet for {what} {text}")
