"""A registry that breaks off, lies, redirects and wants credentials: on loopback, in this loop."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import pytest

from barque import errors
from barque.oci import image as oci
from barque.registry import (
    ANONYMOUS,
    Credentials,
    Policy,
    Repository,
    Transport,
    addresses,
    connection,
)
from barque.registry.session import Session
from tests.support.scripted_registry import (
    Answer,
    Asked,
    ScriptedRegistry,
    failure,
    response,
    scripted_image,
    scripted_registry,
    sha256,
)

BLOB = bytes(range(256)) * 40
DIGEST = sha256(BLOB)
USER = Credentials(username="someone", password="canary")


def against(
    answer: Answer,
    ask: Callable[[Repository], Coroutine[Any, Any, Any]],
    credentials: Credentials = ANONYMOUS,
    domain: str = "",
    stalls: Callable[[Asked], bool] = lambda asked: False,
) -> tuple[Any, ScriptedRegistry, list[float]]:
    """What `ask` gives or raises, what the registry was asked, and how long we meant to wait."""
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    async def run() -> tuple[Any, ScriptedRegistry, list[float]]:
        async with scripted_registry(answer, stalls=stalls) as registry:
            transport = Transport(Policy())
            where = domain.replace("PORT", registry.address.rpartition(":")[2])
            session = Session(
                transport, where or registry.address, "a/b", "a/b", credentials, sleep
            )
            try:
                found = await ask(Repository(session, "a/b"))
            except errors.BarqueError as error:
                found = error
            finally:
                transport.close()
            return found, registry, waits

    return asyncio.run(run())


async def blob(repository: Repository) -> bytes:
    return b"".join([chunk async for chunk in repository.blob(DIGEST, len(BLOB))])


async def latest(repository: Repository) -> bytes:
    return (await repository.manifest("latest")).raw


def serve(body: bytes, headers: dict[str, str] | None = None) -> Answer:
    def answer(asked: Asked) -> bytes:
        return response(200, b"{}") if asked.path == "/v2/" else response(200, body, headers)

    return answer


def test_a_blob_comes_whole_over_plain_http_on_loopback() -> None:
    found, registry, _ = against(serve(BLOB), blob)
    assert found == BLOB
    assert registry.asked[-1].path == f"/v2/a/b/blobs/{DIGEST}"


def test_a_transfer_that_breaks_goes_on_where_it_was() -> None:
    def answer(asked: Asked) -> bytes:
        wanted = asked.headers.get("range", "")
        if not wanted:
            return response(200, BLOB[:4000], length=len(BLOB))
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        where = {"Content-Range": f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"}
        return response(206, BLOB[start:], where)

    found, registry, waits = against(answer, blob)
    assert found == BLOB
    assert registry.asked[-1].headers["range"] == "bytes=4000-"
    assert len(waits) == 1


@pytest.mark.parametrize("sent", [0, 4000])
def test_a_server_that_stalls_is_asked_again_from_there(
    monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    monkeypatch.setattr(connection, "STALL_TIMEOUT_S", 1.0)
    calls: list[str] = []

    def answer(asked: Asked) -> bytes:
        if "blobs" not in asked.path:
            return response(200)
        calls.append(asked.headers.get("range", ""))
        if len(calls) == 1:
            return response(200, BLOB[:sent], length=len(BLOB))
        where = {"Content-Range": f"bytes {sent}-{len(BLOB) - 1}/{len(BLOB)}"}
        return response(206, BLOB[sent:], where) if sent else response(200, BLOB)

    found, _, waits = against(answer, blob, stalls=lambda asked: len(calls) == 1)
    assert found == BLOB
    assert calls[-1] == (f"bytes={sent}-" if sent else "")
    assert waits


def test_a_server_that_only_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALL_TIMEOUT_S", 0.2)
    silent = response(200, b"", length=len(BLOB))
    found, _, waits = against(
        lambda asked: response(200) if "blobs" not in asked.path else silent,
        blob,
        stalls=lambda asked: "blobs" in asked.path,
    )
    assert isinstance(found, errors.Unavailable)
    assert "no answer for" in str(found)
    assert 0 < len(waits) < 30


def test_bytes_that_the_caller_looks_at_are_not_looked_at_here() -> None:
    other = BLOB[:-1] + b"!"

    async def ask(repository: Repository) -> bytes:
        chunks = repository.blob(DIGEST, len(BLOB), checked=False)
        return b"".join([chunk async for chunk in chunks])

    assert against(serve(other), ask)[0] == other


def test_a_server_that_ignores_ranges_is_read_from_the_start_again() -> None:
    calls: list[int] = []

    def answer(asked: Asked) -> bytes:
        if "blobs" not in asked.path:
            return response(200)
        calls.append(1)
        return response(200, BLOB[:4000] if len(calls) == 1 else BLOB, length=len(BLOB))

    assert against(answer, blob)[0] == BLOB


def test_a_server_that_always_breaks_is_given_up() -> None:
    found, registry, waits = against(lambda asked: response(200, b"", length=len(BLOB)), blob)
    assert isinstance(found, errors.Unavailable)
    assert len(waits) < 30
    assert len(registry.asked) < 40


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (BLOB[:-1] + b"!", errors.DataLoss),  # other bytes
        (BLOB + b"!", errors.DataLoss),  # more
        (BLOB[:-1], errors.DataLoss),  # fewer, and says so
    ],
)
def test_wrong_bytes_of_a_blob_are_refused(body: bytes, kind: type[Exception]) -> None:
    found, _, _ = against(serve(body), blob)
    assert isinstance(found, kind)
    assert DIGEST in str(found)


def test_more_bytes_without_a_length_are_refused() -> None:
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BLOB * 3
    found, _, _ = against(lambda _: endless, blob)
    assert isinstance(found, errors.DataLoss)


def test_a_manifest_that_is_not_its_digest_is_refused() -> None:
    other = "sha256:" + "0" * 64

    async def by_digest(repository: Repository) -> object:
        return await repository.manifest(other)

    image = scripted_image(b"layer")
    found, _, _ = against(image.answer, by_digest)
    assert isinstance(found, errors.DataLoss)
    lying = serve(image.manifest, {"Docker-Content-Digest": other})
    assert isinstance(against(lying, latest)[0], errors.DataLoss)


def test_a_manifest_is_bounded() -> None:
    found, _, _ = against(serve(b" " * (5 << 20)), latest)
    assert isinstance(found, errors.ResourceExhausted)


def test_schema_1_is_refused_clearly() -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    found, _, _ = against(serve(b"{}", {"Content-Type": kind}), latest)
    assert isinstance(found, errors.Unsupported)
    assert "schema 1" in str(found)


def test_dockers_words_for_what_is_not_there() -> None:
    found, _, _ = against(lambda _: failure(404, "MANIFEST_UNKNOWN"), latest)
    assert isinstance(found, errors.NotFound)
    assert str(found) == "manifest for a/b:latest not found: manifest unknown: manifest unknown"
    denied = failure(403, "DENIED", "requested access to the resource is denied")
    found, _, _ = against(lambda _: denied, latest)
    assert isinstance(found, errors.NotFound)
    assert str(found) == (
        "pull access denied for a/b, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied"
    )


def test_a_message_of_the_server_is_one_printable_line() -> None:
    hostile = failure(404, "MANIFEST_UNKNOWN", "a\n\x1b[31mb" + "c" * 10_000)
    found, _, _ = against(lambda _: hostile, latest)
    assert str(found).isprintable()
    assert len(str(found)) < 500


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    calls: list[int] = []

    def answer(asked: Asked) -> bytes:
        if asked.path == "/v2/":
            return response(200)
        calls.append(1)
        return response(429, b"", {"Retry-After": "3"}) if len(calls) < 3 else response(200, b"{}")

    found, _, waits = against(answer, latest)
    assert found == b"{}"
    assert waits == [3.0, 3.0]


def test_a_busy_server_may_say_when_by_a_date_and_not_ask_for_hours() -> None:
    def at(delay_s: float) -> Answer:
        when = formatdate(time.time() + delay_s, usegmt=True)

        def answer(asked: Asked) -> bytes:
            return response(200 if asked.path == "/v2/" else 429, b"", {"Retry-After": when})

        return answer

    found, _, waits = against(at(40), latest)
    assert isinstance(found, errors.ResourceExhausted)
    assert len(waits) == 4
    assert all(1 <= wait <= 60 for wait in waits)
    found, registry, waits = against(at(3600), latest)
    assert isinstance(found, errors.ResourceExhausted)
    assert waits == []
    assert len([one for one in registry.asked if one.path != "/v2/"]) == 1


def test_no_one_listens() -> None:
    async def run() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        session = Session(Transport(Policy()), f"127.0.0.1:{port}", "a", "a", ANONYMOUS)
        with pytest.raises(errors.Unavailable) as caught:
            await Repository(session, "a").manifest("latest")
        assert str(caught.value) == (
            f'Get "http://127.0.0.1:{port}/v2/a/manifests/latest": '
            f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        )

    asyncio.run(run())


# Credentials


def test_basic_authentication() -> None:
    def answer(asked: Asked) -> bytes:
        if asked.headers.get("authorization") == USER.basic:
            return response(200, b"{}")
        return response(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})

    assert against(answer, latest, USER)[0] == b"{}"
    wrong = against(answer, latest, Credentials(username="a", password="b"))[0]
    assert isinstance(wrong, errors.BarqueError)
    nobody = against(answer, latest)[0]
    assert isinstance(nobody, errors.NotFound)
    assert "no basic auth credentials" in str(nobody)


def test_a_token_is_fetched_and_sent() -> None:
    def answer(asked: Asked) -> bytes:
        if asked.path == "/token":
            assert asked.headers["authorization"] == USER.basic
            assert "scope=repository%3Aa%2Fb%3Apull" in asked.target
            return response(200, json.dumps({"token": "t0k", "expires_in": 300}).encode())
        if asked.headers.get("authorization") == "Bearer t0k":
            return response(200, b"{}")
        where = f"http://{asked.headers['host']}/token"
        challenge = f'Bearer realm="{where}",service="s",scope="repository:a/b:pull"'
        return response(401, b"", {"WWW-Authenticate": challenge})

    found, registry, _ = against(answer, latest, USER)
    assert found == b"{}"
    assert sum("/token" in target for target in registry.targets()) == 1


def test_credentials_do_not_go_where_the_registry_likes() -> None:
    """CVE-2020-15157, CVE-2026-33540: a realm of somebody else."""
    challenge = 'Bearer realm="https://evil.example/token",service="s"'
    found, _, _ = against(
        lambda _: response(401, b"", {"WWW-Authenticate": challenge}), latest, USER
    )
    assert isinstance(found, errors.Forbidden)
    assert "evil.example" in str(found)


def test_a_redirect_to_another_origin_carries_no_credentials() -> None:
    """CVE-2020-15157 again: a blob may be elsewhere, the secret stays."""

    async def run() -> None:
        async with scripted_registry(lambda _: response(200, BLOB)) as elsewhere:

            def answer(asked: Asked) -> bytes:
                if "authorization" not in asked.headers:
                    return response(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})
                return response(307, b"", {"Location": f"http://{elsewhere.address}/cdn?sig=1"})

            async with scripted_registry(answer) as registry:
                transport = Transport(Policy())
                session = Session(transport, registry.address, "a/b", "a/b", USER)
                assert await blob(Repository(session, "a/b")) == BLOB
                transport.close()
            assert [asked.target for asked in elsewhere.asked] == ["/cdn?sig=1"]
            assert "authorization" not in elsewhere.asked[0].headers

    asyncio.run(run())


def test_redirects_end() -> None:
    found, registry, _ = against(
        lambda asked: response(307, b"", {"Location": f"http://{asked.headers['host']}/again"}),
        blob,
    )
    assert isinstance(found, errors.Unavailable)
    assert len(registry.asked) < 20


@pytest.mark.parametrize("where", ["file:///etc/passwd", "http://user:pw@127.0.0.1/", "", "//[z"])
def test_a_redirect_to_nonsense_is_refused(where: str) -> None:
    found, _, _ = against(lambda _: response(307, b"", {"Location": where}), blob)
    assert isinstance(found, errors.BarqueError)


# TLS


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that is not loopback by its looks, though it leads there: the policy goes by names."""
    real = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def resolve(loop: Any, host: str, port: int, **options: Any) -> Any:
        host = "127.0.0.1" if host == "registry.example" else host
        return await real(loop, host, port, **options)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    return "registry.example:PORT"


def test_plain_http_is_never_fallen_back_to(elsewhere: str) -> None:
    """CVE-2014-5277: the server does not speak TLS, so it is not spoken to at all."""
    found, registry, _ = against(serve(b"{}"), latest, USER, elsewhere)
    assert isinstance(found, errors.Unavailable)
    assert registry.asked == []


def test_a_redirect_to_plain_http_elsewhere_is_refused() -> None:
    found, _, _ = against(
        lambda _: response(307, b"", {"Location": "http://registry.example/x"}), blob
    )
    assert isinstance(found, errors.Forbidden)


@pytest.mark.parametrize("inward", ["127.0.0.1:2375", "localhost", "[::1]:8080"])
def test_a_server_elsewhere_does_not_lead_to_this_machine(inward: str) -> None:
    policy, far = (
        Policy(insecure=frozenset({"far.example"})),
        addresses.parse("http://far.example/"),
    )
    for scheme in ("http", "https"):
        with pytest.raises(errors.Forbidden):
            Transport(policy).check_led(far, addresses.parse(f"{scheme}://{inward}/x"))
    named = Policy(insecure=frozenset({inward}))
    Transport(named).check_led(far, addresses.parse(f"http://{inward}/x"))
    near = addresses.parse("http://127.0.0.1:5000/")
    Transport(policy).check_led(near, addresses.parse(f"http://{inward}/x"))


@pytest.mark.parametrize("digest", ["sha256:../../etc", "sha256:" + "A" * 64, "md5:0", "", "x"])
def test_only_a_digest_becomes_part_of_a_url(digest: str) -> None:
    """CVE-2024-3727."""

    async def ask(repository: Repository) -> None:
        async for _ in repository.blob(digest, 1):
            pass

    found, registry, _ = against(serve(b""), ask)
    assert isinstance(found, errors.InvalidArgument)
    assert not any("blobs" in target for target in registry.targets())


def test_tags_come_page_by_page() -> None:
    def answer(asked: Asked) -> bytes:
        if "last=" in asked.target:
            return response(200, json.dumps({"tags": ["3", "not a tag"]}).encode())
        more = {"Link": '</v2/a/b/tags/list?last=2>; rel="next"'}
        return response(200, json.dumps({"tags": ["1", "2"]}).encode(), more)

    async def ask(repository: Repository) -> list[str]:
        return await repository.tags()

    assert against(answer, ask)[0] == ["1", "2", "3"]


def test_both_layers_and_manifests_are_refused() -> None:
    """CVE-2021-41190."""
    both = {"schemaVersion": 2, "layers": [], "config": {}, "manifests": []}
    with pytest.raises(errors.InvalidArgument, match="both"):
        oci.parse(json.dumps(both).encode())
