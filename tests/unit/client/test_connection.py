from __future__ import annotations

import pytest

from barque import errors
from barque.client.connection import Host, Tls


@pytest.mark.parametrize(
    ("text", "tls", "address"),
    [
        ("unix:///run/x.sock", False, "/run/x.sock"),
        ("tcp://1.2.3.4:99", False, ("1.2.3.4", 99)),
        ("tcp://example.org", False, ("example.org", 2375)),
        ("tcp://example.org", True, ("example.org", 2376)),
        ("tcp://[::1]:5", False, ("::1", 5)),
        ("tcp://[::1]", False, ("::1", 2375)),
        ("1.2.3.4:7", False, ("1.2.3.4", 7)),
    ],
)
def test_where_a_daemon_listens(text: str, tls: bool, address: object) -> None:
    assert Host(text, Tls() if tls else None).address == address


def test_https_means_tls() -> None:
    assert Host("https://example.org").tls is not None


@pytest.mark.parametrize("text", ["tcp://a:b", "tcp://a:99999", "gopher://x"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        Host(text)


def test_what_is_not_there_yet_says_so() -> None:
    with pytest.raises(errors.Unsupported, match="npipe://"):
        Host("npipe://user@machine")
