"""URLs that servers chose."""

from __future__ import annotations

import pytest

from barque import errors
from barque.proxied import is_loopback
from barque.registry.addresses import parse


def test_parts() -> None:
    address = parse("HTTPS://Registry.Example:5000/v2/a?b=c#d")
    assert address.origin == ("https", "registry.example", 5000)
    assert address.target == "/v2/a?b=c"
    assert address.authority == "registry.example:5000"
    assert address.shown == "https://registry.example:5000/v2/a"


def test_default_port_and_brackets() -> None:
    assert parse("https://h").authority == "h"
    assert parse("http://[::1]:80/").authority == "[::1]"


def test_join_follows_relative_and_absolute_locations() -> None:
    address = parse("https://h/v2/a/blobs/uploads/")
    assert str(address.join("/x?y=1")) == "https://h/x?y=1"
    assert str(address.join("http://other/z")) == "http://other/z"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h/v2",
        "file:///etc/passwd",
        "ftp://h/",
        "https://",
        "https://user:pw@h/",
        "http://h:99999/",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
