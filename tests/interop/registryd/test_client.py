"""Our client at our registry and at Debian's: transfers that break off, and what refers to what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import pytest

from barque.oci import image as oci
from barque.registry import Policy, Repository, Transport, open_repository, uploads
from barque.registry.referrers import fallback_tag
from tests.support.cutting_proxy import cutting_proxy
from tests.support.registry_asker import (
    Asker,
    Registry,
    descriptor,
    digest_of,
)

pytestmark = [pytest.mark.root, pytest.mark.peer]

Result = TypeVar("Result")
BLOB = bytes(range(256)) * 12_000


async def read(offset: int) -> AsyncGenerator[bytes, None]:
    for start in range(offset, len(BLOB), 100_000):
        yield BLOB[start : start + 100_000]


def at(address: str, name: str, body: Callable[[Repository], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        transport = Transport(Policy())
        try:
            return await body(open_repository(transport, address, name, name))
        finally:
            transport.close()

    return asyncio.run(run())


async def push(repository: Repository) -> str:
    return await repository.upload_blob(digest_of(BLOB), len(BLOB), read)


@pytest.mark.parametrize("cuts", [[], [2_000_000], [500_000, 900_000, 70_000]])
def test_a_push_that_breaks_off(registry: Registry, cuts: list[int]) -> None:
    name = f"broken/off{len(cuts)}"
    with cutting_proxy(registry.address, cuts) as address:
        assert at(address, name, push) == ""
    digest = digest_of(BLOB)
    assert Asker(registry.address).ask("GET", f"/v2/{name}/blobs/{digest}").body == BLOB


def test_a_push_in_chunks(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As to a registry that takes no large bodies: a begun upload goes on in chunks."""
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 1_000_000)

    async def chunked(repository: Repository) -> None:
        begun = await uploads._begin(repository._session)
        assert begun is not None
        begun.chunk = uploads.CHUNK_BYTES
        digest = digest_of(BLOB)
        assert await uploads._send_rest(repository._session, begun, digest, len(BLOB), read)
        assert begun.offset == len(BLOB)

    at(registry.address, "in/chunks", chunked)
    got = Asker(registry.address).ask("GET", f"/v2/in/chunks/blobs/{digest_of(BLOB)}")
    assert got.body == BLOB


def test_what_refers_to_an_image(registry: Registry) -> None:
    """By the endpoint, or by the tag that stands in for it at a registry without."""
    asker = Asker(registry.address)
    subject = asker.image("refer/to", "1")
    asker.upload("refer/to", b"{}")
    pushed = []

    async def attach(repository: Repository) -> list[str]:
        for kind in ("a/sbom", "a/signature"):
            document = {
                "schemaVersion": 2,
                "mediaType": oci.OCI_MANIFEST,
                "artifactType": kind,
                "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
                "layers": [],
                "subject": {"mediaType": oci.OCI_MANIFEST, "digest": subject, "size": 1},
            }
            raw = json.dumps(document).encode()
            pushed.append(digest_of(raw))
            for _ in range(2):  # again is the same
                await repository.put_manifest(digest_of(raw), oci.OCI_MANIFEST, raw)
        every = await repository.referrers(subject)
        only = await repository.referrers(subject, "a/signature")
        assert await repository.referrers(digest_of(b"nothing")) == []
        assert [one["digest"] for one in only] == pushed[1:]
        assert [one["artifactType"] for one in every] == ["a/sbom", "a/signature"]
        return [str(one["digest"]) for one in every]

    assert at(registry.address, "refer/to", attach) == pushed
    tag = f"/v2/refer/to/manifests/{fallback_tag(subject)}"
    tagged = asker.ask("GET", tag, Accept=oci.OCI_INDEX)
    has_endpoint = asker.ask("GET", f"/v2/refer/to/referrers/{subject}").status == 200
    assert (tagged.status == 404) == has_endpoint
