"""Which servers are asked, and which may be insecure."""

from __future__ import annotations

import pytest

from barque.registry.hosts import Policy


def test_docker_hub_has_another_name() -> None:
    (base,) = Policy().bases("docker.io")
    assert str(base) == "https://registry-1.docker.io/"


def test_plain_http_is_for_loopback_and_the_named_alone() -> None:
    policy = Policy(insecure=frozenset({"r.example:5000", "10.1.0.0/16"}))
    assert [base.scheme for base in policy.bases("127.0.0.1:5000")] == ["https", "http"]
    assert [base.scheme for base in policy.bases("r.example:5000")] == ["https", "http"]
    assert [base.scheme for base in policy.bases("10.1.2.3:80")] == ["https", "http"]
    assert [base.scheme for base in policy.bases("r.example")] == ["https"]
    assert [base.scheme for base in policy.bases("10.2.0.1")] == ["https"]


@pytest.mark.parametrize("domain", ["r.example", "8.8.8.8", "[2001:db8::1]:5000"])
def test_certificates_are_verified_elsewhere(domain: str) -> None:
    assert not Policy().is_insecure(domain)
