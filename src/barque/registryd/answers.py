"""What the answers of a registry have, wherever the bytes are."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from barque.registryd.http import Answer, Request
from barque.registryd.refusals import Refusal

Endpoint = Callable[..., Awaitable[Answer]]
Endpoints = Mapping[tuple[str, str], Endpoint]
DEFAULT_PAGE, MAX_PAGE = 1000, 10_000
INDEX = "application/vnd.oci.image.index.v1+json"


def reads(
    *,
    catalog: Endpoint,
    tags: Endpoint,
    manifest: Endpoint,
    blob: Endpoint,
    referrers: Endpoint,
) -> Endpoints:
    """What every registry answers. distribution-spec, "Pull" and "Content Discovery"."""
    return {
        ("catalog", "GET"): catalog,
        ("tags", "GET"): tags,
        ("manifest", "GET"): manifest,
        ("manifest", "HEAD"): manifest,
        ("blob", "GET"): blob,
        ("blob", "HEAD"): blob,
        ("referrers", "GET"): referrers,
    }


def unknown_name(name: str) -> Refusal:
    return Refusal("NAME_UNKNOWN", f"repository name not known to registry: {name}")


def unknown_manifest(reference: str) -> Refusal:
    return Refusal("MANIFEST_UNKNOWN", f"manifest unknown to registry: {reference}")


def unknown_blob(digest: str) -> Refusal:
    return Refusal("BLOB_UNKNOWN", f"blob unknown to registry: {digest}")


def manifest_answer(request: Request, media_type: str, digest: str, raw: bytes) -> Answer:
    headers = {
        "Content-Type": media_type,
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
    }
    if digest in request.headers.get("if-none-match", ""):
        return Answer(304, headers)
    return Answer(200, headers, raw)


def blob_headers(digest: str) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
    }


def span(request: Request, size: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """The status, the first byte and the number of bytes that a `Range` asks for. RFC 9110, 14.2.

    Several ranges at once get the whole, which a server may give. Raises Refusal with 416.
    """
    wanted = request.headers.get("range", "")
    if not wanted or "," in wanted:
        return 200, 0, size
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", wanted)
    first, last = size, -1
    if match and match[1]:
        first = int(match[1])
        last = min(size - 1, int(match[2])) if match[2] else size - 1
    elif match and match[2]:
        first, last = max(0, size - int(match[2])), size - 1
    if first > last:
        raise Refusal(
            "SIZE_INVALID",
            f"range {wanted[:60]} is not satisfiable",
            status=416,
            headers={"Content-Range": f"bytes */{size}"},
        )
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return 206, first, last + 1 - first


def referrers_page(
    request: Request, name: str, digest: str, found: Sequence[Mapping[str, Any]]
) -> Answer:
    """An index of what refers to `digest`, of one kind where the request wants one."""
    headers = {"Content-Type": INDEX}
    if kind := request.first("artifactType"):
        found = [one for one in found if one.get("artifactType") == kind]
        headers["OCI-Filters-Applied"] = "artifactType"
    if last := request.first("last"):
        known = [one["digest"] for one in found]
        found = found[known.index(last) + 1 :] if last in known else ()
    if len(found) > DEFAULT_PAGE:
        found = found[:DEFAULT_PAGE]
        query = urlencode({"last": found[-1]["digest"], **({"artifactType": kind} if kind else {})})
        headers["Link"] = f'</v2/{name}/referrers/{digest}?{query}>; rel="next"'
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(found)}
    return Answer(200, headers, json.dumps(document).encode())


def page(
    request: Request, key: str, found: list[str], document: dict[str, object], where: str
) -> Answer:
    """One page of a sorted list: `n` entries behind `last`, with a Link to the next."""
    text = request.first("n")
    count = DEFAULT_PAGE
    if text:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise Refusal("PAGINATION_NUMBER_INVALID", f"invalid number of results {text[:40]!r}")
        count = min(int(text), MAX_PAGE)
    if last := request.first("last"):
        found = [entry for entry in found if entry > last]
    headers = {"Content-Type": "application/json"}
    if len(found) > count > 0:
        query = urlencode({"n": count, "last": found[count - 1]})
        headers["Link"] = f'<{where}?{query}>; rel="next"'
    body = json.dumps({**document, key: found[:count]}).encode()
    return Answer(200, headers, body)
