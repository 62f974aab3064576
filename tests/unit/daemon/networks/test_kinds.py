"""Options of macvlan, ipvlan and overlay networks: what they mean, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.create import parse_create
from barque.daemon.networks.records import NetworkRecord

ID = "0123456789ab" + "c" * 52


def made(driver: str, options: dict[str, str], *, internal: bool = False) -> NetworkRecord:
    body: dict[str, Any] = {
        "Name": "n",
        "Driver": driver,
        "Internal": internal,
        "Options": options,
        "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]},
    }
    return parse_create(body, network_id=ID, created="now")[0]


def test_a_macvlan_is_on_its_parent_and_on_no_bridge() -> None:
    record = made("macvlan", {"parent": "eth0.10"})
    assert record.leads is not None
    assert (record.leads.parent, record.leads.mode, record.bridge) == ("eth0.10", "bridge", "")
    assert not record.publishes
    assert str(record.gateway_of_containers()) == "10.1.0.1"
    assert NetworkRecord.load(record.dump()) == record


@pytest.mark.parametrize(("internal", "parent"), [(True, "eth0"), (False, "")])
def test_what_leads_nowhere_has_a_parent_of_its_own(internal: bool, parent: str) -> None:
    record = made("macvlan", {"parent": parent} if parent else {}, internal=internal)
    assert record.leads is not None
    assert record.leads.parent == "dm-0123456789ab"
    assert record.internal
    assert record.gateway_of_containers() is None


@pytest.mark.parametrize(("mode", "gateway"), [("l2", True), ("l3", False), ("l3s", False)])
def test_modes_of_ipvlan(mode: str, gateway: bool) -> None:
    record = made("ipvlan", {"parent": "eth0", "ipvlan_mode": mode, "ipvlan_flag": "private"})
    assert record.leads is not None
    assert (record.leads.mode, record.leads.flag) == (mode, "private")
    assert (record.gateway_of_containers() is not None) == gateway
    assert record.is_routed != gateway


def test_an_overlay_is_a_bridge_with_a_link_to_its_peers() -> None:
    record = made(
        "overlay",
        {
            "barque.overlay.peers": "192.0.2.1, 192.0.2.2,192.0.2.2,192.0.2.3",
            "barque.overlay.local": "192.0.2.1",
            "com.docker.network.driver.overlay.vxlanid_list": "7",
        },
    )
    assert record.leads is not None
    assert (record.leads.link, record.bridge) == ("vx-0123456789ab", "br-0123456789ab")
    assert list(record.leads.peers) == ["192.0.2.2", "192.0.2.3"]
    assert (record.leads.vni, record.leads.port, record.mtu) == (7, 4789, 1450)
    assert record.gateway_of_containers() is None
    assert record.segment.internal


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("macvlan", {"parent": "lo"}, "loopback"),
        ("macvlan", {"parent": "a/b"}, "invalid interface name"),
        ("macvlan", {"parent": "eth0.0"}, "between 1-4094"),
        ("macvlan", {"parent": "eth0.4095"}, "between 1-4094"),
        ("macvlan", {"parent": "eth0", "macvlan_mode": "l2"}, "macvlan mode 'l2' is not valid"),
        ("ipvlan", {"parent": "eth0", "ipvlan_mode": "x"}, "ipvlan mode 'x' is not valid"),
        ("ipvlan", {"parent": "eth0", "ipvlan_flag": "x"}, "ipvlan flag 'x' is not valid"),
        ("macvlan", {"parent": "eth0", "com.docker.network.driver.mtu": "67"}, "invalid MTU"),
        ("overlay", {"barque.overlay.peers": "192.0.2.2"}, "needs its id"),
    ],
)
def test_wrong_options_are_refused(driver: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=text):
        made(driver, options)


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan", "overlay"])
def test_options_of_other_drivers_are_not_ignored(driver: str) -> None:
    with pytest.raises(errors.Unsupported, match="not supported"):
        made(driver, {"com.docker.network.bridge.name": "x"})
