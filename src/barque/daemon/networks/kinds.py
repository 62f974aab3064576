"""The kinds of networks beside bridge: their options checked, as fields of a record. Pure.

Options that a driver does not have are refused by their names. Source: Docker's pages of the
drivers macvlan, ipvlan and overlay; `barque.overlay.*` are ours, for peers named by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from barque import errors
from barque.daemon.networks.records import MTU_OPTION
from barque.linux.netlink_links import IPVLAN_FLAGS, IPVLAN_MODES, MACVLAN_MODES
from barque.linux.netlink_route import check_name
from barque.network.uplinks import DEFAULT_PORT, OVERHEAD_BYTES, Uplink, vlan_of

OVERLAY_OPTION = "com.docker.network.driver.overlay."
VXLAN_ID = OVERLAY_OPTION + "vxlanid_list"
PEERS, LOCAL, PORT = (f"barque.overlay.{word}" for word in ("peers", "local", "port"))
DEFAULT_MTU = 1500
MIN_MTU, MAX_MTU = 68, 65535
MAX_PEERS = 1000
ID_LENGTH = 12


def parse(
    driver: str, network_id: str, options: Mapping[str, str], *, internal: bool
) -> dict[str, Any]:
    """Fields of the record of a network of `driver`. Raises InvalidArgument, Unsupported."""
    known: Mapping[str, Callable[[str, Mapping[str, str], bool], dict[str, Any]]] = {
        "macvlan": _macvlan,
        "ipvlan": _ipvlan,
        "overlay": _overlay,
    }
    return known[driver](network_id, options, internal)


def _only(driver: str, options: Mapping[str, str], known: set[str]) -> None:
    for key, value in options.items():
        if key not in known:
            raise errors.Unsupported(
                f"option {key}={value} of a network of driver {driver} is not supported"
            )


def parse_mtu(value: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", value) or not MIN_MTU <= int(value) <= MAX_MTU:
        raise errors.InvalidArgument(f"invalid MTU: {value!r}")
    return int(value)


def _mtu(options: Mapping[str, str], default: int) -> int:
    return parse_mtu(options[MTU_OPTION]) if MTU_OPTION in options else default


def _parent(network_id: str, options: Mapping[str, str], internal: bool) -> tuple[str, bool]:
    """The parent's name, and whether it leads nowhere: none is named, or the network is internal.

    Docker gives such a network an interface of its own that is connected to nothing.
    """
    named = options.get("parent", "")
    if named == "lo":
        raise errors.InvalidArgument("loopback interface is not a valid parent link")
    if not named or internal:
        return f"dm-{network_id[:ID_LENGTH]}", True
    found = vlan_of(check_name(named))
    if found is not None and not 1 <= found[1] <= 4094:
        raise errors.InvalidArgument(
            f"vlan id must be between 1-4094, received: {found[1]} in parent {named}"
        )
    return named, False


def _macvlan(network_id: str, options: Mapping[str, str], internal: bool) -> dict[str, Any]:
    _only("macvlan", options, {"parent", "macvlan_mode", MTU_OPTION})
    mode = options.get("macvlan_mode") or "bridge"
    if mode not in MACVLAN_MODES:
        raise errors.InvalidArgument(
            f"requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver "
            "default"
        )
    parent, isolated = _parent(network_id, options, internal)
    uplink = Uplink("macvlan", parent, mode=mode)
    return _fields(uplink, options, internal or isolated)


def _ipvlan(network_id: str, options: Mapping[str, str], internal: bool) -> dict[str, Any]:
    _only("ipvlan", options, {"parent", "ipvlan_mode", "ipvlan_flag", MTU_OPTION})
    mode, flag = options.get("ipvlan_mode") or "l2", options.get("ipvlan_flag") or "bridge"
    if mode not in IPVLAN_MODES:
        raise errors.InvalidArgument(
            f"requested ipvlan mode '{mode}' is not valid, 'l2' mode is the ipvlan driver default"
        )
    if flag not in IPVLAN_FLAGS:
        raise errors.InvalidArgument(
            f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default"
        )
    parent, isolated = _parent(network_id, options, internal)
    uplink = Uplink("ipvlan", parent, mode=mode, flag=flag)
    return _fields(uplink, options, internal or isolated)


def _fields(uplink: Uplink, options: Mapping[str, str], internal: bool) -> dict[str, Any]:
    mtu = _mtu(options, 0)  # 0: the parent's
    return {"uplink": uplink.document(), "internal": internal, "mtu": mtu, "bridge": ""}


def _overlay(network_id: str, options: Mapping[str, str], internal: bool) -> dict[str, Any]:
    if "encrypted" in options:
        raise errors.Unsupported("encrypted overlay networks are not supported yet")
    _only("overlay", options, {VXLAN_ID, PEERS, LOCAL, PORT, MTU_OPTION})
    if not options.get(PEERS):
        raise errors.Unsupported(
            "overlay networks of a swarm are not supported yet: name the other hosts with "
            f"the option {PEERS}=ADDRESS,..."
        )
    peers = [_address(word, PEERS) for word in options[PEERS].split(",")]
    if len(peers) > MAX_PEERS:
        raise errors.InvalidArgument(f"option {PEERS} names more than {MAX_PEERS} hosts")
    local = _address(options[LOCAL], LOCAL) if options.get(LOCAL) else ""
    if VXLAN_ID not in options:
        raise errors.InvalidArgument(
            f"an overlay with peers needs its id, the same on all of them: option {VXLAN_ID}"
        )
    uplink = Uplink(
        "overlay",
        link=f"vx-{network_id[:ID_LENGTH]}",
        vni=_number(options[VXLAN_ID], VXLAN_ID, 1, (1 << 24) - 1),
        local=local,
        peers=[peer for peer in dict.fromkeys(peers) if peer != local],
        port=_number(options[PORT], PORT, 1, 65535) if PORT in options else DEFAULT_PORT,
    )
    return {
        "uplink": uplink.document(),
        "internal": internal,
        "mtu": _mtu(options, DEFAULT_MTU - OVERHEAD_BYTES),
        "bridge": f"br-{network_id[:ID_LENGTH]}",
    }


def _address(text: str, option: str) -> str:
    try:
        address = IPv4Address(text.strip())
    except (AddressValueError, ValueError):
        raise errors.InvalidArgument(f"option {option}: invalid IPv4 address: {text!r}") from None
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise errors.InvalidArgument(f"option {option}: {address} is no host's address")
    return str(address)


def _number(text: str, option: str, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise errors.InvalidArgument(f"option {option}: invalid number: {text!r}")
    return int(text)
