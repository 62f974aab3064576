from __future__ import annotations

import pytest

from barque.proxied import is_direct


@pytest.mark.parametrize(
    ("host", "none", "direct"),
    [
        ("a.example", "", False),
        ("localhost", "", True),
        ("127.8.0.1", "", True),
        ("::1", "", True),
        ("a.example", "a.example", True),
        ("b.a.example", "x, A.example ", True),
        ("ba.example", "a.example", False),
        ("a.example", ".a.example", False),
        ("b.a.example", ".a.example", True),
        ("a.example", "*.a.example", False),
        ("b.a.example", "*.a.example", True),
        ("a.example", "a.example:5000", True),
        ("a.example", "a.example:5001", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("fd00::1", "fd00::/8", True),
        ("a.example", "*", True),
        ("a.example", ".", False),
    ],
)
def test_whom_a_proxy_is_not_asked_for(host: str, none: str, direct: bool) -> None:
    assert is_direct(host, 5000, none) is direct
