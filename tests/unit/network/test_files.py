from __future__ import annotations

import pytest

from barque import errors
from barque.network import files

HOST = """\
# comment
nameserver 127.0.0.53
nameserver 192.0.2.53
nameserver fe80::1%eth0
nameserver ::1
search example.org corp.example
options edns0 ndots:2
"""


def test_a_container_gets_the_servers_it_can_reach() -> None:
    text = files.resolv_conf(HOST)
    assert text.splitlines()[1:] == [
        "nameserver 192.0.2.53",
        "search example.org corp.example",
        "options edns0 ndots:2",
    ]


def test_with_only_loopback_servers_public_ones_are_used() -> None:
    text = files.resolv_conf("nameserver 127.0.0.1\n")
    assert "nameserver 8.8.8.8\nnameserver 8.8.4.4\n" in text


def test_what_is_given_overrides_each_part() -> None:
    text = files.resolv_conf(HOST, servers=["127.0.0.1"], search=["a", "b"], options=["rotate"])
    assert text.splitlines()[1:] == ["nameserver 127.0.0.1", "search a b", "options rotate"]


def test_a_dot_means_no_search_list() -> None:
    assert "search" not in files.resolv_conf(HOST, search=["."])


def test_hosts_has_loopback_extra_names_and_the_container() -> None:
    text = files.hosts([("10.0.0.2", "web")], [("10.0.0.9", "db")])
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-2:] == ["10.0.0.9\tdb", "10.0.0.2\tweb"]
    assert "ff02::1\tip6-allnodes" in lines


def test_a_domain_name_gives_two_names() -> None:
    assert files.own_names("web", "example.org") == "web.example.org web"
    assert files.own_names("web", "") == "web"
    assert files.own_names("web.example.org", "") == "web.example.org web"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("db:10.0.0.9", ("10.0.0.9", "db")),
        ("db=10.0.0.9", ("10.0.0.9", "db")),
        ("v6:::1", ("::1", "v6")),
        ("v6=[fe80::1]", ("fe80::1", "v6")),
        ("host.docker.internal:host-gateway", ("172.17.0.1", "host.docker.internal")),
    ],
)
def test_extra_hosts(entry: str, expected: tuple[str, str]) -> None:
    assert files.extra_host(entry, "172.17.0.1") == expected


@pytest.mark.parametrize("entry", ["db", ":10.0.0.1", "db:", "db:x", "a b:10.0.0.1", "a\nb:::1"])
def test_bad_extra_hosts_are_refused(entry: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        files.extra_host(entry, "172.17.0.1")


@pytest.mark.parametrize("word", ["", "a b", "a\nnameserver 1.2.3.4", "a\0"])
def test_a_word_cannot_become_another_line(word: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        files.check_word(word, "dns search domain")


def test_bad_servers_are_refused() -> None:
    with pytest.raises(errors.InvalidArgument):
        files.check_server("example.org")
    assert files.check_server("1.1.1.1") == "1.1.1.1"
