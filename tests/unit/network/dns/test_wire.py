"""DNS messages against dnslib."""

from __future__ import annotations

from ipaddress import ip_address

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque.network.dns import wire

LABEL = st.text("abcdefghijklmnopqrstuvwxyzABCZ0123456789-_", min_size=1, max_size=63)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(lambda n: len(n) < 250)


def question(name: str, kind: str = "A") -> bytes:
    return bytes(dnslib.DNSRecord.question(name, kind).pack())


@given(NAME, st.sampled_from(["A", "AAAA", "PTR", "SRV", "MX", "TXT"]))
def test_questions_are_read_as_dnslib_wrote_them(name: str, kind: str) -> None:
    query = wire.Query(question(name, kind))
    assert query.name == name.lower()
    assert query.kind == getattr(dnslib.QTYPE, kind)
    assert query.supported


@given(st.binary(max_size=80))
def test_garbage_is_a_query_or_an_error(packet: bytes) -> None:
    try:
        query = wire.Query(packet)
    except wire.FormError:
        return
    assert query.end <= len(packet)


@given(st.binary(min_size=12, max_size=60), st.integers(0, 60), st.integers(0, 255))
def test_a_spoilt_byte_is_no_crash(tail: bytes, place: int, value: int) -> None:
    packet = bytearray(question("some.name.example") + tail)
    packet[place % len(packet)] = value
    try:
        wire.Query(bytes(packet))
    except wire.FormError:
        pass


def test_answers_are_read_by_dnslib() -> None:
    query = wire.Query(question("Web"))
    records = wire.address_records(wire.A, [bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))])
    answer = dnslib.DNSRecord.parse(query.answer(records, limit=512))
    assert answer.header.id == dnslib.DNSRecord.parse(query.packet).header.id
    assert [str(record.rdata) for record in answer.rr] == ["10.0.0.1", "10.0.0.2"]
    assert str(answer.q.qname) == "Web."  # as it was asked
    assert (answer.header.ra, answer.header.tc, answer.rr[0].ttl) == (1, 0, 600)


def test_pointers_and_services_are_read_by_dnslib() -> None:
    query = wire.Query(question("1.0.0.10.in-addr.arpa", "PTR"))
    answer = dnslib.DNSRecord.parse(query.answer([wire.pointer_record("web.net")], limit=512))
    assert str(answer.rr[0].rdata) == "web.net."
    query = wire.Query(question("_80._tcp.web", "SRV"))
    answer = dnslib.DNSRecord.parse(query.answer([wire.service_record(80, "web.n")], limit=512))
    assert (answer.rr[0].rdata.port, str(answer.rr[0].rdata.target)) == (80, "web.n.")


def test_what_does_not_fit_is_cut_and_said_so() -> None:
    query = wire.Query(question("many"))
    records = wire.address_records(wire.A, [bytes((10, 0, n >> 8, n & 255)) for n in range(300)])
    cut = query.answer(records, limit=wire.MIN_UDP_BYTES)
    assert len(cut) <= 512
    parsed = dnslib.DNSRecord.parse(cut)
    assert parsed.header.tc == 1
    assert 0 < len(parsed.rr) < 300
    assert len(dnslib.DNSRecord.parse(query.answer(records, limit=65535)).rr) == 300


@pytest.mark.parametrize(("size", "limit"), [(100, 512), (1232, 1232), (65535, 4096)])
def test_an_asker_says_how_much_it_takes(size: int, limit: int) -> None:
    asked = dnslib.DNSRecord.question("x")
    asked.add_ar(dnslib.EDNS0(udp_len=size))
    assert wire.Query(asked.pack()).limit == limit
    assert wire.Query(question("x")).limit == 512


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_reverse_names_are_addresses(address: object) -> None:
    found = ip_address(str(address))
    assert wire.address_of_pointer(found.reverse_pointer) == found.packed


@pytest.mark.parametrize(
    "name", ["x.in-addr.arpa", "1.2.3.in-addr.arpa", "256.0.0.1.in-addr.arpa", "1.ip6.arpa", ""]
)
def test_other_reverse_names_are_nobodys(name: str) -> None:
    assert wire.address_of_pointer(name) is None


def test_an_answer_must_match_its_question() -> None:
    asked = question("some.name")
    right = dnslib.DNSRecord.parse(asked).reply().pack()
    assert wire.is_answer_to(right, asked)
    assert not wire.is_answer_to(asked, asked)
    other = dnslib.DNSRecord.question("other.name").reply()
    other.header.id = dnslib.DNSRecord.parse(asked).header.id
    assert not wire.is_answer_to(other.pack(), asked)
    assert not wire.is_answer_to(bytes((right[0] ^ 1,)) + right[1:], asked)
    assert not wire.is_answer_to(right[:11], asked)
