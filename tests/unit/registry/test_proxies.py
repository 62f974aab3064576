"""Which proxy is asked for what."""

from __future__ import annotations

import pytest

from barque import errors
from barque.registry import addresses
from barque.registry.proxies import Proxies, parse, shown

PROXIES = Proxies("http://plain:1", "u%40x:p@secure:2", "a.example,.b.example,10.0.0.0/8,c:5000")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://registry.test/", "plain:1"),
        ("https://registry.test/", "secure:2"),
        ("https://a.example/", None),
        ("https://x.a.example/", None),
        ("https://b.example/", "secure:2"),
        ("https://x.b.example/", None),
        ("https://10.1.2.3/", None),
        ("https://11.1.2.3/", "secure:2"),
        ("https://c:5000/", None),
        ("https://c:5001/", "secure:2"),
        ("http://127.0.0.1:5000/", None),
        ("https://localhost/", None),
    ],
)
def test_of(url: str, proxy: str | None) -> None:
    found = PROXIES.of(addresses.parse(url))
    assert (found.address.authority if found else None) == proxy


def test_everything_directly() -> None:
    assert Proxies("http://plain:1", "", "*").of(addresses.parse("http://a/")) is None


def test_a_user() -> None:
    assert parse("http://u%40x:p@proxy:3128").authorization == "Basic dUB4OnA="
    assert parse("proxy:3128").authorization == ""


@pytest.mark.parametrize("text", ["https://proxy", "socks5://proxy", "http://", "http://a:b:c"])
def test_no_proxy(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://me:secret@proxy:3128/x", "http://xxxxx:xxxxx@proxy:3128/x"),
        ("me:se@cret@proxy", "xxxxx:xxxxx@proxy"),
    ],
)
def test_what_anyone_may_read(text: str, expected: str) -> None:
    assert shown(text) == expected
