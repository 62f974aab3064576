"""What a registry says of an image, without a pull. API: DistributionInspect."""

from __future__ import annotations

from barque.daemon.http.messages import Request, Response, Route, json_response
from barque.daemon.images.service import Images
from barque.registry.auth import from_header


def routes(images: Images) -> list[Route]:
    async def inspected(request: Request) -> Response:
        credentials = from_header(request.headers.get("x-registry-auth", ""))
        return json_response(await images.distribution(request.params["name"], credentials))

    return [Route("GET", "/distribution/{name:path}/json", inspected)]
