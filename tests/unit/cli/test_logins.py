"""Whose credentials are sent: DOCKER_AUTH_CONFIG comes before what config.json has."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from barque.cli import logins

SETTINGS = {"auths": {"a.example": {"auth": b64encode(b"file:one").decode()}}}


def given(monkeypatch: pytest.MonkeyPatch, document: Any) -> None:
    """`posix.environ` is what our command reads; os.environ does not change it."""
    text = document if isinstance(document, str) else json.dumps(document)
    monkeypatch.setitem(logins_environment(), b"DOCKER_AUTH_CONFIG", text.encode())


def logins_environment() -> Any:
    import posix

    return posix.environ


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = b64encode(b"variable:two").decode()
    given(monkeypatch, {"auths": {"https://a.example/v1/": {"auth": auth}}})
    assert logins.entry_of(SETTINGS, "a.example") == {"username": "variable", "password": "two"}
    assert logins.entry_of(SETTINGS, "b.example") == {}


@pytest.mark.parametrize("document", ["{", [], {"auths": []}, {"auths": {"a.example": 1}}])
def test_one_that_says_nothing_is_told_of(
    document: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, document)
    assert logins.entry_of(SETTINGS, "a.example") == {"username": "file", "password": "one"}
    assert capfd.readouterr().err == "WARNING: DOCKER_AUTH_CONFIG is left out: it has no auths\n"
