"""`/_ping`: the one question that is answered before the services are there."""

from __future__ import annotations

from barque.daemon.http.messages import Request, Response, Route

_HEADERS = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Builder-Version": "1",
    "Swarm": "inactive",
}


def routes() -> list[Route]:
    return [Route("GET", "/_ping", _ping)]


async def _ping(request: Request) -> Response:
    return Response(200, b"OK", "text/plain; charset=utf-8", _HEADERS)
