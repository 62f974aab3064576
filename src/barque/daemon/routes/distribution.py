"""What a registry says of an image, without a pull. API: DistributionInspect."""

from __future__ import annotations

import base64
from typing import Any

from barque import errors
from barque.daemon.http.messages import Request, Response, Route, json_response
from barque.daemon.images.service import Images
from barque.registry.auth import from_header

MAX_SOURCES = 1000


def routes(images: Images) -> list[Route]:
    async def inspected(request: Request) -> Response:
        credentials = from_header(request.headers.get("x-registry-auth", ""))
        return json_response(await images.distribution(request.params["name"], credentials))

    async def manifest(request: Request) -> Response:
        """Ours: the bytes of a manifest or index too."""
        credentials = from_header(request.headers.get("x-registry-auth", ""))
        return json_response(await images.remote_manifest(request.params["name"], credentials))

    async def pushed(request: Request) -> Response:
        """Ours: an index, made by the client, goes to its registry."""
        credentials = from_header(request.headers.get("x-registry-auth", ""))
        raw, sources = _list(await request.json())
        digest = await images.push_manifest_list(request.params["name"], raw, sources, credentials)
        return json_response({"Digest": digest}, 201)

    async def referrers(request: Request) -> Response:
        """Ours: what refers to an image at its registry."""
        credentials = from_header(request.headers.get("x-registry-auth", ""))
        name, kind = request.params["name"], request.query.get("artifactType")
        return json_response(await images.referrers(name, kind, credentials))

    return [
        Route("GET", "/distribution/{name:path}/json", inspected),
        Route("GET", "/distribution/{name:path}/referrers", referrers),
        Route("GET", "/distribution/{name:path}/manifest", manifest),
        Route("POST", "/distribution/{name:path}/manifest", pushed),
    ]


def _list(document: Any) -> tuple[bytes, list[str]]:
    """The bytes of the list, and where what it names is. Raises InvalidArgument."""
    raw, sources = document.get("Raw"), document.get("Sources")
    if not isinstance(raw, str) or not isinstance(sources, list) or len(sources) > MAX_SOURCES:
        raise errors.InvalidArgument("a manifest list needs Raw and Sources")
    try:
        return base64.b64decode(raw, validate=True), [str(source) for source in sources]
    except ValueError:
        raise errors.InvalidArgument("Raw is not base64") from None
