"""What refers to a manifest: by the endpoint, page by page, or by the tag that stands in for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from barque import errors
from barque.oci import image as oci
from barque.registry import Repository
from barque.registry.referrers import fallback_tag
from tests.support.scripted_registry import Asked, failure, response, sha256
from tests.unit.registry.test_repository import against

SUBJECT = sha256(b"subject")


def entry(word: str, kind: str) -> dict[str, Any]:
    digest = sha256(word.encode())
    return {"mediaType": oci.OCI_MANIFEST, "digest": digest, "size": 7, "artifactType": kind}


SBOM, SIGNATURE = entry("sbom", "a/sbom"), entry("signature", "a/signature")


def index(*entries: dict[str, Any]) -> bytes:
    document = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
    return json.dumps(document).encode()


async def every(repository: Repository) -> list[dict[str, Any]]:
    return await repository.referrers(SUBJECT)


async def signatures(repository: Repository) -> list[dict[str, Any]]:
    return await repository.referrers(SUBJECT, "a/signature")


def test_pages_of_the_endpoint() -> None:
    def answer(asked: Asked) -> bytes:
        if "/referrers/" not in asked.path:
            return response(200, b"{}")
        assert asked.path == f"/v2/a/b/referrers/{SUBJECT}"
        headers = {"Content-Type": oci.OCI_INDEX}
        if "last" in asked.target:
            return response(200, index(SIGNATURE), headers)
        headers["Link"] = f'<{asked.path}?last=1>; rel="next"'
        return response(200, index(SBOM), headers)

    found, _, _ = against(answer, every)
    assert found == [SBOM, SIGNATURE]
    found, _, _ = against(answer, signatures)  # the filter need not be the server's
    assert found == [SIGNATURE]


def test_the_tag_where_there_is_no_endpoint() -> None:
    def answer(asked: Asked) -> bytes:
        if "/referrers/" in asked.path:
            return failure(404, "UNSUPPORTED")
        if asked.path.endswith(f"/manifests/{fallback_tag(SUBJECT)}"):
            return response(200, index(SBOM, SIGNATURE), {"Content-Type": oci.OCI_INDEX})
        return response(200, b"{}")

    assert against(answer, signatures)[0] == [SIGNATURE]


def test_nothing_refers_to_it() -> None:
    def answer(asked: Asked) -> bytes:
        return response(200, b"{}") if asked.path == "/v2/" else failure(404, "MANIFEST_UNKNOWN")

    assert against(answer, every)[0] == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", index({"digest": "md5:1"}), b'{"manifests": [], "layers": []}']
)
def test_an_answer_that_is_no_index(body: bytes) -> None:
    def answer(asked: Asked) -> bytes:
        return response(200, body, {"Content-Type": oci.OCI_INDEX})

    assert isinstance(against(answer, every)[0], errors.InvalidArgument)


def test_pages_without_end() -> None:
    def answer(asked: Asked) -> bytes:
        headers = {"Content-Type": oci.OCI_INDEX, "Link": f'<{asked.path}?again>; rel="next"'}
        return response(200, index(SBOM), headers)

    assert isinstance(against(answer, every)[0], errors.ResourceExhausted)


@pytest.mark.parametrize("knows", [True, False])
def test_a_registry_that_does_not_know_of_subjects_is_helped(knows: bool) -> None:
    subject = {"mediaType": oci.OCI_MANIFEST, "digest": SUBJECT, "size": 7}
    config = {"mediaType": "a/config", "digest": sha256(b"{}"), "size": 2}
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": config,
            "layers": [],
            "subject": subject,
            "annotations": {"k": "v"},
        }
    ).encode()

    def answer(asked: Asked) -> bytes:
        if asked.method == "PUT":
            return response(201, b"", {"OCI-Subject": SUBJECT} if knows else {})
        if asked.path.endswith(fallback_tag(SUBJECT)):
            return response(200, index(SBOM), {"Content-Type": oci.OCI_INDEX})
        return response(200, b"{}")

    async def push(repository: Repository) -> None:
        await repository.put_manifest("1", oci.OCI_MANIFEST, raw)

    found, registry, _ = against(answer, push)
    assert found is None
    puts = [one.path for one in registry.asked if one.method == "PUT"]
    tag = f"/v2/a/b/manifests/{fallback_tag(SUBJECT)}"
    assert puts == (["/v2/a/b/manifests/1"] if knows else ["/v2/a/b/manifests/1", tag])
