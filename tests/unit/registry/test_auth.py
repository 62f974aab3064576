"""Challenges, credentials, and to whom they may go."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.registry import challenge
from barque.registry.auth import ANONYMOUS, akin, from_document, from_header


def test_a_bearer_challenge() -> None:
    found = challenge.choose(
        'Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull,push"'
    )
    assert found is not None
    assert found.scheme == "bearer"
    assert found.parameters == {
        "realm": "https://auth.example/token",
        "service": "r.example",
        "scope": "repository:a:pull,push",
    }


def test_bearer_wins_over_basic_and_others_are_unknown() -> None:
    found = challenge.choose('Negotiate, Basic realm="a", Bearer realm="b"')
    assert found is not None
    assert (found.scheme, found.parameters["realm"]) == ("bearer", "b")
    assert challenge.choose("Negotiate") is None


def test_quoted_pairs() -> None:
    (found,) = challenge.parse(r'Basic realm="a \"b\" c"')
    assert found.parameters["realm"] == 'a "b" c'


@given(st.text(max_size=300))
def test_no_header_breaks_the_parser(header: str) -> None:
    challenge.choose(header)


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def test_credentials_of_the_header() -> None:
    found = from_header(encoded({"username": "u", "password": "p:w", "serveraddress": "r"}))
    assert (found.username, found.password) == ("u", "p:w")
    assert base64.b64decode(found.basic.removeprefix("Basic ")) == b"u:p:w"


def test_both_alphabets_with_and_without_padding() -> None:
    raw = encoded({"username": "??>>~~", "password": "x"})
    plain = raw.replace("-", "+").replace("_", "/")
    for text in (raw, raw.rstrip("="), plain, plain.rstrip("=")):
        assert from_header(text).username == "??>>~~"


def test_an_empty_header_is_nobody() -> None:
    assert from_header("") == ANONYMOUS
    assert from_header(encoded({})).anonymous


@pytest.mark.parametrize("text", ["%%%", "bm90IGpzb24", encoded([1])])
def test_a_malformed_header_is_an_error(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        from_header(text)


def test_the_old_auth_member_and_the_case_of_keys() -> None:
    pair = base64.b64encode(b"u:p").decode()
    assert from_document({"auth": pair}).password == "p"
    assert from_document({"IdentityToken": "t"}).identity_token == "t"


def test_secrets_are_not_shown() -> None:
    found = from_document({"username": "u", "password": "canary", "identitytoken": "canary"})
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("registry", "realm", "expected"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("ghcr.io", "ghcr.io", True),
        ("quay.io", "auth.quay.io", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("registry-1.docker.io", "docker.io.evil.example", False),
        ("registry.example", "evil.example", False),
        ("10.0.0.1", "20.0.0.1", False),
        ("ghcr.io", "evil.io", False),
    ],
)
def test_who_may_ask_for_credentials(registry: str, realm: str, expected: bool) -> None:
    assert akin(registry, realm) is expected
