from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from barque import errors
from barque.daemon.networks.create import parse_create
from barque.daemon.networks.filters import check_keys, matches, prunable
from barque.daemon.networks.records import BRIDGE_OPTION, EndpointRecord, NetworkRecord

ID = "ab" * 32


def parse(**body: Any) -> NetworkRecord:
    record, warning = parse_create(
        {"Name": "net", **body}, network_id=ID, created="2026-01-02T03:04:05Z"
    )
    assert warning == ""
    return record


def test_the_least_request_is_a_bridge_with_a_subnet_to_choose() -> None:
    record = parse()
    assert (record.driver, record.subnet, record.bridge) == ("bridge", "", "br-abababababab")
    assert record.subnet_chosen
    assert record.icc
    assert not record.internal


def test_a_subnet_gets_its_first_address_as_gateway() -> None:
    record = parse(IPAM={"Config": [{"Subnet": "10.5.0.0/24"}]})
    assert (record.subnet, record.gateway) == ("10.5.0.0/24", "10.5.0.1")
    assert not record.subnet_chosen


def test_everything_of_ipam_is_kept() -> None:
    config = {
        "Subnet": "10.5.0.0/24",
        "IPRange": "10.5.0.128/25",
        "Gateway": "10.5.0.254",
        "AuxiliaryAddresses": {"router": "10.5.0.129"},
    }
    record = parse(IPAM={"Driver": "default", "Config": [config]})
    assert record.ipam()["Config"] == [config]
    space = record.space()
    assert space is not None
    assert str(space.pick()) == "10.5.0.128"
    space.take(space.pick())


def test_options_of_the_bridge() -> None:
    record = parse(
        Options={
            "com.docker.network.bridge.name": "mybr",
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.bridge.enable_ip_masquerade": "false",
            "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
            "com.docker.network.driver.mtu": "1400",
        }
    )
    assert (record.bridge, record.icc, record.masquerade) == ("mybr", False, False)
    assert (record.host_ip, record.mtu) == ("127.0.0.1", 1400)


def test_keys_are_read_in_any_case() -> None:
    body = {"name": "x", "internal": True, "labels": {"a": "b"}}
    record, _ = parse_create(body, network_id=ID, created="")
    assert record.internal
    assert record.labels == {"a": "b"}


@pytest.mark.parametrize("name", ["", " ", "a/b", "../x", "a\nb", "\ud800", "x" * 300, "é" * 128])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_create({"Name": name}, network_id=ID, created="")


@pytest.mark.parametrize("name", ["_default", "a b", "-a", "é"])
def test_names_are_free_otherwise(name: str) -> None:
    """docker-compose makes one of its own for a directory, whatever that begins with."""
    record, _ = parse_create({"Name": name}, network_id=ID, created="")
    assert record.name == name


def test_a_subnet_of_a_family_that_is_not_enabled_is_warned_of() -> None:
    config = [{"Subnet": "10.5.0.0/24"}, {"Subnet": "2001:db8::/64", "Gateway": "2001:db8::9"}]
    body = {"Name": "net", "IPAM": {"Config": config}}
    record, warning = parse_create(body, network_id=ID, created="")
    assert warning == "subnet 2001:db8::/64 is not used: IPv6 is not enabled in the network"
    assert (record.subnet, record.subnet6, record.gateway6) == ("10.5.0.0/24", "", "")
    record, warning = parse_create({**body, "EnableIPv6": True}, network_id=ID, created="")
    assert (record.subnet6, record.gateway6, warning) == ("2001:db8::/64", "2001:db8::9", "")


@pytest.mark.parametrize("name", ["bridge", "host", "none", "default"])
def test_predefined_names_are_forbidden(name: str) -> None:
    with pytest.raises(errors.Forbidden, match=f"predefined {name} network"):
        parse_create({"Name": name}, network_id=ID, created="")


@pytest.mark.parametrize(
    "body",
    [
        {"Driver": "overlay"},
        {"Driver": "remote"},
        {"Driver": "macvlan", "Options": {"bridge": "x"}},
        {"Ingress": True},
        {"Scope": "swarm"},
        {"IPAM": {"Options": {"a": "b"}}},
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}, {"Subnet": "10.2.0.0/24"}]}},
        {
            "EnableIPv6": True,
            "IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "fd01::/64"}]},
        },
        {"Options": {"something": "else"}},
    ],
)
def test_what_is_not_there_yet_is_refused_by_name(body: dict[str, Any]) -> None:
    with pytest.raises(errors.Unsupported, match="not supported"):
        parse(**body)


@pytest.mark.parametrize(
    "body",
    [
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.2.0.1"}]}},
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.255"}]}},
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "IPRange": "10.2.0.0/25"}]}},
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/31"}]}},
        {"IPAM": {"Config": [{"Gateway": "10.1.0.1"}]}},
        *(
            {"EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00::/64", **more}]}}
            for more in (
                {"Subnet": "fd00::/127"},
                {"Subnet": "fd00::x/64"},
                {"Gateway": "fd01::1"},
                {"Gateway": "fd00::"},
                {"Gateway": "10.0.0.1"},
                {"IPRange": "fd01::/80"},
                {"AuxiliaryAddresses": {"a": "fd01::1"}},
            )
        ),
        {"IPAM": {"Config": [{"Subnet": "nonsense"}]}},
        {"Options": {"com.docker.network.driver.mtu": "1e3"}},
        {"Options": {"com.docker.network.bridge.enable_icc": "maybe"}},
        {"Options": {"com.docker.network.bridge.name": "a/b"}},
        *(
            {"Options": {BRIDGE_OPTION + "name": name}}
            for name in ('a"b', "br*", "br+", "-o", "!b")
        ),
        {"Options": {"com.docker.network.container_iface_prefix": "lan0"}},
        {"Options": {"com.docker.network.container_iface_prefix": "a/b"}},
        {"Options": {"com.docker.network.container_iface_prefix": "muchtoolong"}},
        {"Options": {"com.docker.network.host_ipv4": "fd00::1"}},
        {"Options": {"com.docker.network.bridge.trusted_host_interfaces": ""}},
        {"Options": {"com.docker.network.bridge.trusted_host_interfaces": "eth0:*"}},
        {"Options": {"com.docker.network.bridge.trusted_host_interfaces": 'a"b'}},
        {"Options": {"com.docker.network.host_ipv6": "10.0.0.1"}},
        {"Options": {"com.docker.network.enable_ipv6": "perhaps"}},
        {"EnableIPv4": False},
        {"Options": {"com.docker.network.enable_ipv4": "false"}},
        {
            "EnableIPv4": False,
            "EnableIPv6": True,
            "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]},
        },
        {"EnableIPv4": "yes"},
        {"IPAM": {"Config": ["10.1.0.0/24"]}},
        {"IPAM": {"Driver": "null"}},
        {"Labels": {"a": 1}},
        {"Internal": "yes"},
        {"IPAM": []},
    ],
)
def test_what_is_malformed_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse(**body)


def test_an_unknown_driver_is_not_found() -> None:
    with pytest.raises(errors.NotFound, match="could not find plugin foo"):
        parse(Driver="foo")


def test_records_survive_their_text() -> None:
    record = parse(IPAM={"Config": [{"Subnet": "10.5.0.0/24"}]}, Labels={"a": "b"})
    assert NetworkRecord.load(record.dump()) == record
    endpoint = EndpointRecord("i", "n", "s", "c", "name", address="10.5.0.2/24")
    assert EndpointRecord.load(endpoint.dump()) == endpoint
    assert (endpoint.ip, endpoint.prefix) == ("10.5.0.2", 24)


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ({}, True),
        ({"name": ["ne"]}, True),
        ({"name": ["x"]}, False),
        ({"name": ["x", "net"]}, True),
        ({"driver": ["bridge"]}, True),
        ({"driver": ["host"]}, False),
        ({"id": ["abab"]}, True),
        ({"label": ["a"]}, True),
        ({"label": ["a=b"]}, True),
        ({"label": ["a=c"]}, False),
        ({"label": ["a", "z"]}, False),
        ({"type": ["custom"]}, True),
        ({"type": ["builtin"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"dangling": ["true"]}, True),
        ({"dangling": ["false"]}, False),
    ],
)
def test_list_filters(filters: dict[str, list[str]], shown: bool) -> None:
    assert matches(parse(Labels={"a": "b"}), filters, in_use=False) is shown


def test_prune_filters() -> None:
    record = parse(Labels={"a": "b"})
    assert prunable(record, {}, before=None)
    assert not prunable(record, {"label": ["x"]}, before=None)
    assert not prunable(record, {"label!": ["a"]}, before=None)
    assert not prunable(record, {}, before="2026-01-01T00:00:00Z")
    assert prunable(record, {}, before="2027-01-01T00:00:00Z")


def test_unknown_filters_are_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid filter 'foo'"):
        check_keys({"foo": ["x"]}, frozenset({"name"}))
    with pytest.raises(errors.InvalidArgument):
        matches(parse(), {"type": ["foo"]}, in_use=False)


def test_ipv6_beside_ipv4() -> None:
    config = {
        "Subnet": "FD00:0::/64",
        "IPRange": "fd00::1:0/112",
        "AuxiliaryAddresses": {"a": "fd00::5"},
    }
    record = parse(EnableIPv6=True, IPAM={"Config": [config, {"Subnet": "10.1.0.0/24"}]})
    assert record.subnet == "10.1.0.0/24"
    assert (record.subnet6, record.gateway6) == ("fd00::/64", "fd00::1:1")
    document = record.document({})
    assert document["EnableIPv6"] is True
    assert document["IPAM"]["Config"][1] == {
        "Subnet": "fd00::/64",
        "IPRange": "fd00::1:0/112",
        "Gateway": "fd00::1:1",
        "AuxiliaryAddresses": {"a": "fd00::5"},
    }
    assert NetworkRecord.load(record.dump()) == record


def test_ipv6_without_a_subnet_is_ours_to_choose() -> None:
    record = parse(EnableIPv6=True)
    assert record.subnet6_chosen
    assert not record.subnet6


OPTION4, OPTION6 = (f"com.docker.network.enable_ipv{family}" for family in (4, 6))


@pytest.mark.parametrize(
    ("body", "families"),
    [
        ({}, (True, False)),
        ({"EnableIPv6": True}, (True, True)),
        ({"EnableIPv4": False, "EnableIPv6": True}, (False, True)),
        ({"Options": {OPTION6: "true"}}, (True, True)),
        ({"Options": {OPTION6: "1", OPTION4: "0"}}, (False, True)),
        ({"EnableIPv6": False, "Options": {OPTION6: "true"}}, (True, False)),
        ({"EnableIPv4": True, "Options": {OPTION4: "false"}}, (True, False)),
        ({"Driver": "macvlan", "Options": {OPTION6: "true"}}, (True, True)),
    ],
)
def test_the_families_of_a_network(body: dict[str, Any], families: tuple[bool, bool]) -> None:
    record = parse(**body)
    assert (record.subnet_chosen, record.subnet6_chosen) == families
    overridden = {OPTION4 if "EnableIPv4" in body else "", OPTION6 if "EnableIPv6" in body else ""}
    shown = {key: v for key, v in body.get("Options", {}).items() if key not in overridden}
    assert record.options == shown


def test_a_network_without_ipv4() -> None:
    config = [{"Subnet": "fd00:6::/64"}]
    record = parse(EnableIPv4=False, EnableIPv6=True, IPAM={"Config": config})
    found = (record.space(), record.interface, record.gateway_of_containers())
    assert found == (None, None, None)
    assert record.segment.subnet is None
    assert record.has_names
    assert record.leads_out
    document = record.document({})
    assert (document["EnableIPv4"], document["EnableIPv6"]) == (False, True)
    assert [pool["Subnet"] for pool in document["IPAM"]["Config"]] == ["fd00:6::/64"]
    assert list(record.status([])["IPAM"]["Subnets"]) == ["fd00:6::/64"]


def test_a_configuration_is_kept_as_it_was_given() -> None:
    pools = [
        {"Subnet": "10.5.0.0/24", "Gateway": "10.5.0.9", "IPRange": "10.5.0.128/25"},
        {"Subnet": "fd00:6::/64", "AuxiliaryAddresses": {"a": "fd00:6::7"}},
    ]
    given = {"EnableIPv6": True, "Labels": {"a": "b"}, "Options": {"parent": "eth7"}}
    record = parse(ConfigOnly=True, IPAM={"Config": pools}, Driver="none", **given)
    document = record.document({})
    assert document["IPAM"] == {"Driver": "default", "Options": {}, "Config": pools}
    assert {key: document[key] for key in given} == given
    assert (document["Driver"], document["ConfigOnly"]) == ("null", True)
    assert not prunable(record, {}, before=None)
    assert NetworkRecord.load(record.dump()) == record


@pytest.mark.parametrize(
    "body",
    [
        {"IPAM": {"Config": [{"Subnet": "nonsense"}]}},
        {"IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.2.0.1"}]}},
        {"IPAM": {"Config": "all"}},
        {"Labels": {"a": 1}},
        {"ConfigFrom": "x"},
        {"EnableIPv4": 1},
    ],
)
def test_a_malformed_configuration_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse(ConfigOnly=True, **body)


MODE4, MODE6 = (BRIDGE_OPTION + f"gateway_mode_ipv{family}" for family in (4, 6))


def test_gateway_modes_are_kept_for_each_family() -> None:
    record = parse(EnableIPv6=True, Options={MODE4: "nat-unprotected", MODE6: "routed"})
    assert (record.mode, record.mode6) == ("nat-unprotected", "routed")
    alone = parse(Internal=True, Options={MODE4: "isolated"})
    assert replace(alone, subnet="10.1.0.0/24", gateway="10.1.0.1").interface is None


@pytest.mark.parametrize(
    ("mode", "words"),
    [("isolated", "only be used for an internal network"), ("bridged", "unknown gateway mode")],
)
def test_a_gateway_mode_that_cannot_be_is_refused(mode: str, words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=words):
        parse(Options={MODE4: mode})
