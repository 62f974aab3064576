"""POST /networks/create: the request checked, as a record. Pure.

What Docker knows and Barque does not do yet is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from barque import errors
from barque.daemon.networks import bridge_options, configurations, kinds
from barque.daemon.networks.addressing import Ipam, parse_ipam
from barque.daemon.networks.members import fold, strings, typed
from barque.daemon.networks.records import BRIDGE_OPTION, BUILTIN_NAMES, NetworkRecord
from barque.volume import plugin_places

DRIVERS = frozenset({"bridge", "macvlan", "ipvlan", "overlay"})
NOT_YET_DRIVERS = frozenset({"none", "remote"})
MAX_NAME_BYTES = 255
FAMILIES = {4: "com.docker.network.enable_ipv4", 6: "com.docker.network.enable_ipv6"}


def check_network_name(name: str) -> str:
    if not name.strip():
        raise errors.InvalidArgument("invalid network name: name is empty")
    if not name.isprintable() or "/" in name or len(name.encode()) > MAX_NAME_BYTES:
        raise errors.InvalidArgument(
            f"invalid network name {name!r}: no slash, no control character and no more than "
            f"{MAX_NAME_BYTES} bytes are allowed"
        )
    if name in BUILTIN_NAMES or name == "default":
        raise errors.Forbidden(f"operation is not permitted on predefined {name} network")
    return name


def parse_create(
    body: Mapping[str, Any], *, network_id: str, created: str
) -> tuple[NetworkRecord, str]:
    """The record a create request asks for; `subnet` and `gateway` are empty when ours to choose.
    And what the client is to be warned of, or "".

    Raises InvalidArgument, Forbidden, NotFound, Unsupported.
    """
    request = fold(body)
    name = check_network_name(typed(request, "Name", str, ""))
    if typed(request, "ConfigOnly", bool, ""):
        template = configurations.parse(request)
        return NetworkRecord(network_id, name, "null", created, template=template), ""
    driver = _check_kind(name, request)
    builtin = driver in DRIVERS
    ipam = parse_ipam(typed(request, "IPAM", dict, ""), builtin=builtin)
    options = strings(request, "Options")
    ipv4, ipv6 = _family(request, options, 4), _family(request, options, 6)
    ipam, warning = _of_families(ipam, ipv4=ipv4, ipv6=ipv6)
    own = {key: value for key, value in options.items() if key not in FAMILIES.values()}
    shown = {k: v for k, v in options.items() if k in own or not _overridden(request, k)}
    record = NetworkRecord(
        id=network_id,
        name=name,
        driver=driver,
        created=created,
        subnet=ipam.subnet,
        gateway=ipam.gateway,
        ip_range=ipam.ip_range,
        auxiliary=ipam.auxiliary,
        subnet_chosen=ipv4 and not ipam.subnet,
        subnet6=ipam.subnet6,
        gateway6=ipam.gateway6,
        ip_range6=ipam.ip_range6,
        auxiliary6=ipam.auxiliary6,
        subnet6_chosen=ipv6 and not ipam.subnet6,
        attachable=typed(request, "Attachable", bool, ""),
        labels=strings(request, "Labels"),
        options=shown,
        is_remote=not builtin,
        is_made=builtin,
        ipam_driver=ipam.driver,
        ipam_options=ipam.options,
        config_from=configurations.named_by(request),
        **_of_driver(driver, network_id, own, internal=typed(request, "Internal", bool, "")),
    )
    return record, warning


def _family(request: Mapping[str, Any], options: Mapping[str, str], version: int) -> bool:
    """Whether the network has addresses of this family; IPv4 when nothing is said."""
    if request.get(f"enableipv{version}") is not None:
        return bool(typed(request, f"EnableIPv{version}", bool, ""))
    if FAMILIES[version] in options:
        return bridge_options.flag(FAMILIES[version], options[FAMILIES[version]])
    return version == 4


def _overridden(request: Mapping[str, Any], option: str) -> bool:
    """Whether the request says itself what an option of a family says."""
    return request.get(option.rpartition(".")[2].replace("_", "")) is not None


def _of_families(ipam: Ipam, *, ipv4: bool, ipv6: bool) -> tuple[Ipam, str]:
    """What of it is used, and a warning of what is not.

    An IPv6 subnet without IPv6 is no error of Docker's: compose files of version 3 have them.
    """
    if not (ipv4 or ipv6):
        raise errors.InvalidArgument("IPv4 or IPv6 must be enabled")
    if ipam.subnet and not ipv4:
        raise errors.InvalidArgument(
            f"invalid network config: subnet {ipam.subnet} needs IPv4 to be enabled"
        )
    if ipv6 or not ipam.subnet6:
        return ipam, ""
    warning = f"subnet {ipam.subnet6} is not used: IPv6 is not enabled in the network"
    return replace(ipam, subnet6="", gateway6="", ip_range6="", auxiliary6={}), warning


def _of_driver(
    driver: str, network_id: str, options: Mapping[str, str], *, internal: bool
) -> dict[str, Any]:
    """The fields of a record that its driver's options decide."""
    if driver not in DRIVERS:  # the plugin's to understand
        return {"internal": internal}
    if driver != "bridge":
        return kinds.parse(driver, network_id, options, internal=internal)
    named = options.get(BRIDGE_OPTION + "name") or f"br-{network_id[:12]}"
    bridge = bridge_options.check_interface(named)
    return {
        "bridge": bridge,
        "internal": internal,
        **bridge_options.parse(options, internal=internal),
    }


def _check_kind(name: str, request: Mapping[str, Any]) -> str:
    """The driver."""
    driver = typed(request, "Driver", str, "") or "bridge"
    if driver in {"host", "null"}:
        raise errors.Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver in NOT_YET_DRIVERS:
        raise errors.Unsupported(f"network {name}: driver {driver} is not supported yet")
    if driver not in DRIVERS and not plugin_places.known(driver):
        raise errors.NotFound(f"could not find plugin {driver} in v1 plugin registry")
    if typed(request, "Ingress", bool, ""):
        raise errors.Unsupported(f"network {name}: Ingress is not supported yet")
    if (request.get("scope") or "local") != "local":
        raise errors.Unsupported(f"network {name}: scope {request['scope']} is not supported yet")
    return driver
