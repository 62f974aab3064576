"""Blobs sent to registries that break off, refuse large bodies, lead elsewhere or are busy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from barque import errors
from barque.registry import ANONYMOUS, Credentials, Policy, Repository, Transport, uploads
from barque.registry.session import Session
from tests.support.scripted_registry import Asked, failure, response, scripted_registry, sha256

BLOB = bytes(range(256)) * 400
DIGEST = sha256(BLOB)
WHERE = "/v2/a/b/blobs/uploads/1"
USER = Credentials(username="someone", password="canary")


async def read(offset: int) -> AsyncGenerator[bytes, None]:
    for start in range(offset, len(BLOB), 10_000):
        yield BLOB[start : start + 10_000]


@dataclass
class Place:
    """A registry of one upload. `limit`: bytes of a body it takes; `breaks`: bodies cut short."""

    limit: int = 1 << 40
    breaks: list[int] = field(default_factory=list)
    least: int = 0
    resumes: bool = True
    spoils: int = 0  # uploads that were gone on with and are not taken then
    busy: int = 0
    elsewhere: str = ""
    held: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def takes(self, asked: Asked) -> int:
        if asked.method in {"PUT", "PATCH"} and self.breaks:
            return self.breaks[0]
        return 1 << 40

    def _under_way(self, status: int) -> bytes:
        last = max(0, len(self.held) - 1)
        headers = {"Location": self.elsewhere + WHERE, "Range": f"0-{last}"}
        if self.least:
            headers["OCI-Chunk-Min-Length"] = str(self.least)
        return response(status, b"", headers)

    def answer(self, asked: Asked) -> bytes:
        if asked.path == "/v2/":
            return response(200, b"{}")
        if asked.method == "POST":
            self.held.clear()
            return self._under_way(202)
        if asked.method == "GET":
            return self._under_way(204) if self.resumes else failure(404, "BLOB_UPLOAD_UNKNOWN")
        if self.busy:
            self.busy -= 1
            return response(429, b"", {"Retry-After": "7"})
        return self._body(asked)

    def _body(self, asked: Asked) -> bytes:
        length = int(asked.headers["content-length"])
        if length > self.limit:
            return response(413)
        if asked.method == "PATCH":
            match = re.fullmatch(r"(\d+)-(\d+)", asked.headers["content-range"])
            assert match is not None
            assert int(match[2]) - int(match[1]) + 1 == length
            if int(match[1]) != len(self.held):
                return response(416, b"", {"Range": f"0-{len(self.held) - 1}"})
        self.held += asked.body
        if self.breaks and self.breaks.pop(0) < length:
            return b""
        if asked.method == "PATCH":
            return self._under_way(202)
        if self.spoils and not length:
            self.spoils -= 1
            return failure(400, "DIGEST_INVALID")
        self.whole = (
            sha256(bytes(self.held)) == DIGEST and DIGEST.replace(":", "%3A") in asked.target
        )
        return response(201 if self.whole else 400)


def sent(
    place: Place, credentials: Credentials = ANONYMOUS, policy: Policy | None = None
) -> tuple[Any, list[Asked], list[float]]:
    """What came of sending BLOB there, what was asked, how long we meant to wait."""
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    async def run() -> tuple[Any, list[Asked], list[float]]:
        async with scripted_registry(place.answer, takes=place.takes) as registry:
            transport = Transport(policy or Policy())
            session = Session(transport, registry.address, "a/b", "a/b", credentials, sleep)
            try:
                found: Any = await Repository(session, "a/b").upload_blob(DIGEST, len(BLOB), read)
            except errors.BarqueError as error:
                found = error
            finally:
                transport.close()
            return found, registry.asked, waits

    return asyncio.run(run())


def methods(asked: list[Asked]) -> list[str]:
    return [one.method for one in asked if one.path != "/v2/"]


def test_a_blob_goes_in_one_request() -> None:
    place = Place()
    found, asked, _ = sent(place)
    assert found == ""
    assert place.whole
    assert methods(asked) == ["POST", "PUT"]


@pytest.mark.parametrize("cut", [1, 30_000, 99_999])
def test_what_broke_off_goes_on_where_it_was(cut: int) -> None:
    place = Place(breaks=[cut])
    found, asked, waits = sent(place)
    assert found == ""
    assert place.whole
    assert len(waits) == 1
    if cut > 1:  # what registries say of one byte, they say of none too
        assert methods(asked) == ["POST", "PUT", "GET", "PATCH", "PUT"]
        patch = next(one for one in asked if one.method == "PATCH")
        assert patch.headers["content-range"] == f"{cut}-{len(BLOB) - 1}"


def test_what_does_not_fit_what_broke_off_is_sent_anew_once() -> None:
    """The registry was still writing what broke off when it was asked how much it had."""
    place = Place(breaks=[30_000], spoils=1)
    found, asked, _ = sent(place)
    assert found == ""
    assert place.whole
    assert methods(asked) == ["POST", "PUT", "GET", "PATCH", "PUT", "POST", "PUT"]
    found, asked, _ = sent(Place(breaks=[30_000, 1 << 40, 1 << 40, 30_000], spoils=2))
    assert isinstance(found, errors.Unavailable)
    assert methods(asked).count("POST") == 2


def test_a_registry_that_forgets_gets_it_from_the_start() -> None:
    place = Place(breaks=[30_000], resumes=False)
    found, asked, _ = sent(place)
    assert found == ""
    assert place.whole
    assert methods(asked) == ["POST", "PUT", "GET", "POST", "PUT"]


def test_one_that_always_breaks_is_given_up() -> None:
    found, asked, _ = sent(Place(breaks=[0] * 50), policy=Policy(attempts=3))
    assert isinstance(found, errors.Unavailable)
    assert methods(asked).count("PUT") == 3


def test_one_that_takes_small_bodies_gets_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 40_000)
    place = Place(limit=50_000)
    found, asked, _ = sent(place)
    assert found == ""
    assert place.whole
    assert methods(asked) == ["POST", "PUT", "PATCH", "PATCH", "PATCH", "PUT"]


def test_chunks_are_as_large_as_the_registry_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 10_000)
    place = Place(limit=70_000, least=60_000)
    found, asked, _ = sent(place)
    assert found == ""
    assert place.whole
    spans = [one.headers["content-range"] for one in asked if one.method == "PATCH"]
    assert spans == ["0-59999", f"60000-{len(BLOB) - 1}"]


def test_a_busy_registry_is_asked_again_when_it_says() -> None:
    place = Place(busy=2)
    found, _, waits = sent(place)
    assert found == ""
    assert place.whole
    assert len(waits) == 2
    busy, _, _ = sent(Place(busy=99), policy=Policy(attempts=2))
    assert isinstance(busy, errors.ResourceExhausted)
    assert "toomanyrequests" in str(busy)


def test_an_upload_on_another_host_gets_the_bytes_and_no_credentials() -> None:
    other = Place()

    async def run() -> tuple[list[Asked], list[Asked]]:
        async with scripted_registry(other.answer, takes=other.takes) as storage:
            first = Place(elsewhere=f"http://{storage.address}")

            def answer(asked: Asked) -> bytes:
                if "authorization" not in asked.headers and asked.path != "/v2/":
                    return response(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
                return first.answer(asked)

            async with scripted_registry(answer, takes=first.takes) as registry:
                transport = Transport(Policy())
                session = Session(transport, registry.address, "a/b", "a/b", USER)
                await Repository(session, "a/b").upload_blob(DIGEST, len(BLOB), read)
                transport.close()
                return registry.asked, storage.asked

    asked, elsewhere = asyncio.run(run())
    assert other.whole
    assert any("authorization" in one.headers for one in asked)
    assert methods(elsewhere) == ["PUT"]
    assert not any("authorization" in one.headers for one in elsewhere)


@pytest.mark.parametrize("where", ["http://storage.example", "ftp://127.0.0.1", "http://u:p@[::1]"])
def test_an_upload_is_not_led_everywhere(where: str) -> None:
    found, asked, _ = sent(Place(elsewhere=where))
    assert isinstance(found, errors.Forbidden | errors.InvalidArgument)
    assert methods(asked) == ["POST"]
