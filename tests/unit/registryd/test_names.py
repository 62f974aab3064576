"""Names, tokens and manifests of our registry: what is taken, and what is refused."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.registryd import manifests, names
from barque.registryd.access import OwnTokens, Passwords
from barque.registryd.refusals import Refusal
from barque.registryd.tokens import Tokens, read_keys


@pytest.mark.parametrize("name", ["a", "a/b/c", "library/busybox", "a.b", "a__b", "a---b", "0"])
def test_good_names(name: str) -> None:
    assert names.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "A", "a..b", "a/../b", ".", "..", "_oci", "a/_oci", "a___b", "a b", "ä"],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        names.check_name(name)
    assert refused.value.code == "NAME_INVALID"


@given(st.text(max_size=300))
def test_no_name_leads_out(name: str) -> None:
    try:
        checked = names.check_name(name)
    except Refusal:
        return
    parts = checked.split("/")
    assert all(part and part[0] not in "._-" for part in parts)


@given(st.binary(max_size=300))
def test_any_bytes_as_a_manifest(raw: bytes) -> None:
    manifests.references(raw)
    with pytest.raises(Refusal):
        manifests.check(raw, "")


def test_tokens_of_our_own() -> None:
    now_s = 1000.0
    tokens = OwnTokens(key=b"k" * 32, clock_s=lambda: now_s)
    token = tokens.make("me", [["a/b", "pull", "push"]])
    assert tokens.allows(token, "a/b", "push") is True
    assert tokens.allows(token, "a/b", "delete") is False
    assert tokens.allows(token, "a/c", "pull") is False
    assert tokens.allows(token, "", "") is True
    assert OwnTokens(key=b"x" * 32).allows(token, "a/b", "pull") is None
    now_s += 301
    assert tokens.allows(token, "a/b", "pull") is None


@given(st.text(max_size=200))
def test_what_is_no_token(text: str) -> None:
    assert OwnTokens().allows(text, "a", "pull") is None
    assert Tokens([], "us", "here").allows(text, "a", "pull") is None


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="token key"):
        read_keys(text)


def test_passwords() -> None:
    asked = []

    def hashed(password: bytes, setting: bytes) -> bytes:
        asked.append(password)
        return setting if password == b"right" else b""

    passwords = Passwords("# users\nme:$2y$05$abc\n\n", hashed)

    async def body() -> None:
        assert await passwords.right("me", "right")
        assert await passwords.right("me", "right")
        assert not await passwords.right("me", "wrong")
        assert not await passwords.right("you", "right")
        assert not await passwords.right("me", "x" * 2000)

    asyncio.run(body())
    assert asked == [b"right", b"wrong", b"right"]  # a right one is asked for once


@pytest.mark.parametrize("line", ["me", "me:plain", ":$2y$05$abc", "me:{SHA}abc"])
def test_what_is_no_htpasswd(line: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="line 1"):
        Passwords(line, lambda password, setting: b"")
