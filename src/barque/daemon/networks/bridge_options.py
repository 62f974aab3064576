"""The options of bridge networks, checked, as fields of a record. Pure.

Source: Docker's page of the bridge driver, and its `netlabel` and `bridge` packages' labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from barque import errors
from barque.daemon.networks import kinds
from barque.daemon.networks.records import BRIDGE_OPTION, MTU_OPTION
from barque.linux.netlink_route import check_name
from barque.network.firewall.rules import ISOLATED, MODES
from barque.network.ipam import parse_address, parse_address6

LABEL = "com.docker.network."
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
MAX_PREFIX_BYTES = 10  # of interfaces' names, which end with a number

_FIELDS: Mapping[str, tuple[str, Callable[[str, str], Any]]]


def parse(options: Mapping[str, str], *, internal: bool = False) -> dict[str, Any]:
    """The bridge driver's options as fields of a record. Raises for one we do not do."""
    fields: dict[str, Any] = {"mtu": 0}
    for key, value in options.items():
        if key in _FIELDS:
            name, read = _FIELDS[key]
            fields[name] = read(key, value)
        elif key in _MODES:
            fields[_MODES[key]] = _gateway_mode(value, internal=internal)
        elif key != BRIDGE_OPTION + "name":
            raise errors.Unsupported(f"network option {key}={value} is not supported yet")
    return fields


def _gateway_mode(value: str, *, internal: bool) -> str:
    if value not in MODES:
        raise errors.InvalidArgument(f"unknown gateway mode {value}")
    if value == ISOLATED and not internal:
        raise errors.InvalidArgument(
            "gateway mode 'isolated' can only be used for an internal network"
        )
    return value


def check_interface(name: str) -> str:
    """A name of an interface that stands in the text of rules: nothing there is a sign of theirs.

    Raises InvalidArgument.
    """
    if not _NAME.match(check_name(name)):
        raise errors.InvalidArgument(f"invalid interface name: {name!r}")
    return name


def flag(key: str, value: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if value.lower() not in known:
        raise errors.InvalidArgument(f"invalid value for {key}: {value!r}")
    return known[value.lower()]


def _prefix(key: str, value: str) -> str:
    """Of interfaces' names inside: `lan` for lan0, lan1."""
    check_name(value)
    if len(value) > MAX_PREFIX_BYTES or value[-1].isdigit():
        raise errors.InvalidArgument(f"invalid value for {key}: {value!r}")
    return value


def _interfaces(key: str, value: str) -> str:
    """Names of the host's interfaces, by colons."""
    for name in value.split(":"):
        check_interface(name)
    return value


_MODES = {
    BRIDGE_OPTION + "gateway_mode_ipv4": "mode",
    BRIDGE_OPTION + "gateway_mode_ipv6": "mode6",
}
_FIELDS = {
    BRIDGE_OPTION + "enable_icc": ("icc", flag),
    BRIDGE_OPTION + "enable_ip_masquerade": ("masquerade", flag),
    BRIDGE_OPTION + "host_binding_ipv4": ("host_ip", lambda _, text: str(parse_address(text))),
    BRIDGE_OPTION + "inhibit_ipv4": ("inhibit_ipv4", flag),
    BRIDGE_OPTION + "trusted_host_interfaces": ("trusted", _interfaces),
    LABEL + "container_iface_prefix": ("prefix", _prefix),
    LABEL + "host_ipv4": ("source", lambda _, text: str(parse_address(text))),
    LABEL + "host_ipv6": ("source6", lambda _, text: str(parse_address6(text))),
    MTU_OPTION: ("mtu", lambda _, text: kinds.parse_mtu(text)),
}
