"""What names mean to whom."""

from __future__ import annotations

from typing import Any

import dnslib
import pytest

from barque.network.dns import wire
from barque.network.dns.zone import Place, Zone


def place(number: int, *names: str, network: str = "n1", **more: Any) -> Place:
    document = {
        "network": f"id of {network}",
        "network_name": network,
        "names": list(names),
        "addresses": [bytes((10, 0, 0, number)).hex()],
        "links": {},
        "ports": [],
    }
    return Place({**document, **more})


@pytest.fixture
def zone() -> Zone:
    zone = Zone()
    zone.put("s1", [place(1, "web", "www")])
    zone.put("s2", [place(2, "db", "www"), place(3, "db", network="n2")])
    zone.put("s3", [place(4, "web", network="n2", ports=["80/tcp"])])
    return zone


def asked(zone: Zone, sandbox: str, name: str, kind: str = "A") -> list[str] | None:
    query = wire.Query(dnslib.DNSRecord.question(name, kind).pack())
    records = zone.answers(sandbox, query)
    if records is None:
        return None
    answer = dnslib.DNSRecord.parse(query.answer(records, limit=4096))
    return [str(record.rdata) for record in answer.rr]


def test_names_are_of_the_networks_one_is_in(zone: Zone) -> None:
    assert asked(zone, "s1", "db") == ["10.0.0.2"]
    assert asked(zone, "s3", "db") == ["10.0.0.3"]
    assert asked(zone, "s1", "web") == ["10.0.0.1"]
    assert asked(zone, "s3", "www") is None
    assert asked(zone, "nobody", "web") is None


def test_the_first_network_that_knows_a_name_answers(zone: Zone) -> None:
    assert asked(zone, "s2", "web") == ["10.0.0.1"]
    assert asked(zone, "s2", "web.n2") == ["10.0.0.4"]
    assert asked(zone, "s1", "web.n2") is None


def test_a_shared_alias_means_all(zone: Zone) -> None:
    assert sorted(asked(zone, "s1", "WWW") or ()) == ["10.0.0.1", "10.0.0.2"]


def test_a_known_name_has_no_ipv6_but_is_known(zone: Zone) -> None:
    assert asked(zone, "s1", "db", "AAAA") == []
    assert asked(zone, "s1", "nowhere", "AAAA") is None
    assert asked(zone, "s1", "db", "MX") == []
    assert asked(zone, "s1", "db", "TXT") is None


def test_addresses_lead_back_to_names(zone: Zone) -> None:
    assert asked(zone, "s1", "2.0.0.10.in-addr.arpa", "PTR") == ["db.n1."]
    assert asked(zone, "s1", "4.0.0.10.in-addr.arpa", "PTR") is None
    assert asked(zone, "s3", "4.0.0.10.in-addr.arpa", "PTR") == ["web.n2."]


def test_open_ports_are_services(zone: Zone) -> None:
    assert asked(zone, "s3", "_80._tcp.web", "SRV") == ["0 0 80 web.n2."]
    assert asked(zone, "s3", "_81._tcp.web", "SRV") == []
    assert asked(zone, "s3", "_x._tcp.web", "SRV") == []
    assert asked(zone, "s3", "_80._tcp.nowhere", "SRV") is None
    assert asked(zone, "s3", "web", "SRV") is None


def test_links_are_names_of_the_linking_one_only(zone: Zone) -> None:
    zone.put("s4", [place(5, "app", links={"Database": "db"})])
    assert asked(zone, "s4", "database") == ["10.0.0.2"]
    assert asked(zone, "s1", "database") is None


def test_what_is_dropped_is_forgotten(zone: Zone) -> None:
    zone.drop("s2")
    zone.drop("s2")
    assert asked(zone, "s1", "db") is None
    assert asked(zone, "s1", "www") == ["10.0.0.1"]
    assert asked(zone, "s1", "2.0.0.10.in-addr.arpa", "PTR") is None


def test_put_replaces(zone: Zone) -> None:
    zone.put("s1", [place(9, "renamed")])
    assert asked(zone, "s2", "web") == ["10.0.0.4"]
    assert asked(zone, "s2", "renamed") == ["10.0.0.9"]
