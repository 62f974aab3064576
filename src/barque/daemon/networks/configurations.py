"""Networks that are only a configuration, and others that take theirs from one.

Source: libnetwork's `validateConfiguration` and `applyConfigurationTo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from barque import errors
from barque.daemon.networks.addressing import check_configs
from barque.daemon.networks.members import fold, strings, typed

MEMBERS = ("IPAM", "EnableIPv4", "EnableIPv6", "Labels", "Options")


def named_by(request: Mapping[str, Any]) -> str:
    """The network whose configuration a request (keys in lower case) is to have; "" for none."""
    return str(typed(fold(typed(request, "ConfigFrom", dict, "")), "Network", str, "ConfigFrom."))


def parse(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration gives to others, as members of their requests.

    What can be known only with the driver that will use it is checked then. Raises Forbidden,
    InvalidArgument.
    """
    if named_by(request):
        raise errors.Forbidden(
            "a configuration network cannot depend on another configuration network"
        )
    of_network = any(typed(request, key, bool, "") for key in ("Ingress", "Internal", "Attachable"))
    if of_network or request.get("scope"):
        raise errors.Forbidden(
            "configuration network can only contain network specific fields. Network operator "
            "fields like [ ingress | internal | attachable | scope ] are not supported."
        )
    ipam = fold(typed(request, "IPAM", dict, ""))
    return {
        "IPAM": {
            "Driver": typed(ipam, "Driver", str, "IPAM.") or "default",
            "Options": strings(ipam, "Options", "IPAM."),
            "Config": check_configs(typed(ipam, "Config", list, "IPAM.")),
        },
        "EnableIPv4": typed(request, "EnableIPv4", bool, "") or request.get("enableipv4") is None,
        "EnableIPv6": typed(request, "EnableIPv6", bool, ""),
        "Labels": strings(request, "Labels"),
        "Options": strings(request, "Options"),
    }


def applied(body: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """The request `body` with a configuration; it may have none of its own. Raises Forbidden."""
    request = fold(body)
    ipam = fold(typed(request, "IPAM", dict, ""))
    if (
        (typed(ipam, "Driver", str, "IPAM.") or "default") != "default"
        or any(ipam.get(key) for key in ("config", "options"))
        or any(request.get(key) for key in ("enableipv4", "enableipv6", "labels"))
    ):
        raise errors.Forbidden(
            "user specified configurations are not supported if the network depends on a "
            "configuration network"
        )
    if request.get("options"):
        raise errors.Forbidden(
            "network driver options are not supported if the network depends on a configuration "
            "network"
        )
    taken = {name.lower() for name in MEMBERS}
    return {**{key: value for key, value in request.items() if key not in taken}, **template}
