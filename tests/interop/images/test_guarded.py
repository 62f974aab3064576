"""Registries that want to know who comes: by a token server, by a certificate of the client.

Ours and Debian's docker-registry; our client pushes there and pulls back.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barque import errors
from barque.registry import ANONYMOUS, Credentials, Policy
from tests.support.images import Bench, on, tar
from tests.support.our_registry import our_registry
from tests.support.registry_asker import Registry
from tests.support.registry_peer import registry_peer
from tests.support.token_server import (
    ISSUER,
    SERVICE,
    TokenServer,
    certificate,
    token_server,
)
from tools.busybox_image import docker_archive

pytestmark = [pytest.mark.root, pytest.mark.peer]

USER = Credentials(username="someone", password="canary")
LAYER = tar(("etc/hello", b"hello\n" * 1000))


@contextmanager
def trusting(kind: str, server: TokenServer) -> Iterator[Registry]:
    """A registry that takes the tokens of `server`."""
    if kind == "ours":
        public = server.certificate
        with our_registry(
            *("--token-realm", server.realm, "--token-service", SERVICE),
            *("--token-issuer", ISSUER, "--token-key", str(public)),
        ) as running:
            yield running
        return
    settings = {"realm": server.realm, "service": SERVICE, "issuer": ISSUER}
    settings["rootcertbundle"] = str(server.certificate)
    with registry_peer(auth=json.dumps({"token": settings})) as peer:
        yield peer


@pytest.mark.parametrize("kind", ["ours", "docker-registry"])
def test_a_token_server(address: str, tmp_path: Path, kind: str) -> None:
    """Each token is for what is done, no more; who may not push is told so; anyone may pull."""
    with (
        token_server(tmp_path, USER.username, USER.password) as server,
        trusting(kind, server) as registry,
    ):

        async def body(b: Bench) -> None:
            name = f"{registry.address}/guarded/app"
            await b.load(docker_archive(f"{name}:1", LAYER))
            id = (await b.images.resolve(f"{name}:1")).id

            async def push(credentials: Credentials) -> str:
                lines = await b.lines(lambda p: b.images.push(name, "1", credentials, p))
                return str(lines[-1].get("error", ""))

            assert await push(ANONYMOUS) == "unauthorized: authentication required"
            wrong = Credentials(username=USER.username, password="wrong")
            assert "unauthorized" in (await push(wrong)).lower()
            with pytest.raises(errors.Unauthorized):
                await b.images.authenticate(registry.address, wrong)
            await b.images.authenticate(registry.address, USER)
            server.asked.clear()
            assert not await push(USER)
            scopes = {scope for _, each in server.asked for scope in each}
            assert scopes == {"repository:guarded/app:pull,push"}
            await b.images.remove(f"{name}:1", force=False)
            server.asked.clear()
            await b.pull(name, "1")
            assert server.asked == [("", ("repository:guarded/app:pull",))]
            assert (await b.images.resolve(f"{name}:1")).id == id

        on(address, body)
        where = f"docker://{registry.address}/guarded/app:1"
        flags = ("--insecure-policy", "--src-tls-verify=false")
        copy = ["skopeo", "copy", *flags, where, f"dir:{tmp_path}/copied"]
        subprocess.run(copy, check=True, capture_output=True)


@pytest.mark.parametrize("known", [True, False])
def test_a_certificate_of_the_client(address: str, tmp_path: Path, known: bool) -> None:
    """docker-registry behind TLS takes who shows one that it trusts, from our certs.d."""
    served, key = certificate(tmp_path, "server")
    client, secret = certificate(tmp_path, "client")
    tls = {"certificate": str(served), "key": str(key), "clientcas": [str(client)]}
    with registry_peer(tls=json.dumps(tls)) as peer:
        directory = tmp_path / "certs.d" / peer.address
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(served.read_bytes())
        if known:
            (directory / "client.cert").write_bytes(client.read_bytes())
            (directory / "client.key").write_bytes(secret.read_bytes())

        async def body(b: Bench) -> None:
            b.images.reload(Policy(certificates=str(tmp_path / "certs.d")), 3, 5)
            name = f"{peer.address}/behind/tls"
            await b.load(docker_archive(f"{name}:1", LAYER))
            lines = await b.lines(lambda p: b.images.push(name, "1", ANONYMOUS, p))
            assert ("error" in lines[-1]) is not known
            if known:
                await b.images.remove(f"{name}:1", force=False)
                await b.pull(name, "1")
                assert (await b.images.resolve(f"{name}:1")).size > 0
            else:
                assert lines[-1]["error"].startswith('Get "https://')  # and never without TLS

        on(address, body)
