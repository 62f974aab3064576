"""`/volumes`: parse, call, render."""

from __future__ import annotations

from barque import errors
from barque.daemon.http.messages import Request, Response, Route, json_response, no_content
from barque.daemon.routes.system import NOT_A_MANAGER
from barque.daemon.volumes import Volumes

PRUNE_ANONYMOUS_SINCE = (1, 42)  # before this API version prune meant every unused volume


def routes(volumes: Volumes) -> list[Route]:
    async def list_volumes(request: Request) -> Response:
        found = volumes.summaries(request.query.filters())
        return json_response({"Volumes": found, "Warnings": None})

    async def create(request: Request) -> Response:
        return json_response(await volumes.create(await request.json()), 201)

    async def inspect(request: Request) -> Response:
        return json_response(await volumes.inspect(request.params["name"]))

    async def remove(request: Request) -> Response:
        await volumes.remove(request.params["name"], force=request.query.flag("force"))
        return no_content()

    async def prune(request: Request) -> Response:
        filters = request.query.filters()
        if request.version < PRUNE_ANONYMOUS_SINCE:
            filters["all"] = ["true"]
        removed, freed = await volumes.prune(filters)
        return json_response({"VolumesDeleted": removed, "SpaceReclaimed": freed})

    async def update(request: Request) -> Response:
        raise errors.Unavailable(NOT_A_MANAGER)

    return [
        Route("GET", "/volumes", list_volumes),
        Route("POST", "/volumes/create", create),
        Route("POST", "/volumes/prune", prune),
        Route("GET", "/volumes/{name}", inspect),
        Route("DELETE", "/volumes/{name}", remove),
        Route("PUT", "/volumes/{name}", update),
    ]
