"""Certificates: verified against the system's and the registry's own, and only then spoken to."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.registry import Credentials, Policy, Transport, open_repository
from tests.support.scripted_registry import response, scripted_registry

NAME = "registry.example"
USER = Credentials(username="someone", password="canary")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for the registry that nobody but itself vouches for, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "c.crt", directory / "c.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-keyout", str(key)),
            *("-addext", f"subjectAltName=DNS:{NAME}", "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's name leads to this machine; by its looks it is not loopback."""
    real = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def resolve(loop: Any, host: str, port: int, **options: Any) -> Any:
        host = "127.0.0.1" if host.endswith(".example") else host
        return await real(loop, host, port, **options)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)


def fetched(certificate: tuple[Path, Path], name: str, policy: Policy) -> tuple[Any, list[Any]]:
    """What a manifest's fetch gives or raises, and all that the registry was asked."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)

    def answer(asked: Any) -> bytes:
        if "authorization" in asked.headers:
            return response(200, b"{}")
        return response(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})

    async def run() -> tuple[Any, list[Any]]:
        async with scripted_registry(answer, tls) as registry:
            port = registry.address.rpartition(":")[2]
            domain = f"{name}:{port}"
            transport = Transport(policy)
            try:
                found: Any = await open_repository(transport, domain, "a", "a", USER).manifest("1")
            except errors.BarqueError as error:
                found = error
            finally:
                transport.close()
            return found, registry.asked

    return asyncio.run(run())


def test_a_certificate_that_nobody_vouches_for(certificate: tuple[Path, Path]) -> None:
    found, asked = fetched(certificate, NAME, Policy(certificates=""))
    assert isinstance(found, errors.Unavailable)
    assert "tls: failed to verify certificate" in str(found)
    assert asked == []


def test_the_registrys_own_authority(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    class AnyPort(Policy):
        def tls(self, domain: str) -> ssl.SSLContext:
            directory = tmp_path / domain
            directory.mkdir()
            (directory / "ca.crt").write_bytes(certificate[0].read_bytes())
            return super().tls(domain)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)

    async def run() -> bytes:
        async with scripted_registry(lambda _: response(200, b"{}"), tls) as registry:
            domain = f"{NAME}:{registry.address.rpartition(':')[2]}"
            transport = Transport(AnyPort(certificates=str(tmp_path)))
            try:
                return (await open_repository(transport, domain, "a", "a").manifest("1")).raw
            finally:
                transport.close()

    assert asyncio.run(run()) == b"{}"


def test_another_name_than_the_certificates(certificate: tuple[Path, Path]) -> None:
    found, asked = fetched(certificate, "other.example", Policy(certificates=""))
    assert isinstance(found, errors.Unavailable)
    assert asked == []


def test_loopback_may_show_any_certificate(certificate: tuple[Path, Path]) -> None:
    found, asked = fetched(certificate, "127.0.0.1", Policy(certificates=""))
    assert found.raw == b"{}"
    assert len(asked) == 3  # which protocol, then without and with credentials


def test_a_certificate_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    directory = tmp_path / NAME
    directory.mkdir()
    (directory / "ca.crt").write_text("junk")
    with pytest.raises(errors.InvalidArgument, match=r"ca\.crt"):
        Policy(certificates=str(tmp_path)).tls(NAME)
