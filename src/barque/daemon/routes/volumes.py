"""`/volumes`: parse, call, render."""

from __future__ import annotations

from barque import errors
from barque.api.versions import PRUNE_ANONYMOUS, version_tuple
from barque.daemon.http.messages import Request, Response, Route, json_response, no_content
from barque.daemon.routes.not_there import NOT_A_MANAGER
from barque.daemon.volumes.copies import VolumeCopies
from barque.daemon.volumes.service import Volumes


def routes(volumes: Volumes, copies: VolumeCopies) -> list[Route]:
    async def list_volumes(request: Request) -> Response:
        found, warnings = await volumes.listed(request.query.filters())
        return json_response({"Volumes": found, "Warnings": warnings or None})

    async def create(request: Request) -> Response:
        return json_response(await volumes.create(await request.json()), 201)

    async def inspect(request: Request) -> Response:
        return json_response(await volumes.inspect(request.params["name"]))

    async def remove(request: Request) -> Response:
        await volumes.remove(request.params["name"], force=request.query.flag("force"))
        return no_content()

    async def prune(request: Request) -> Response:
        filters = request.query.filters()
        if request.version < version_tuple(PRUNE_ANONYMOUS):
            filters["all"] = ["true"]
        removed, freed = await volumes.prune(filters)
        return json_response({"VolumesDeleted": removed, "SpaceReclaimed": freed})

    async def update(request: Request) -> Response:
        raise errors.Unavailable(NOT_A_MANAGER)

    return [
        *_copy_routes(copies),
        Route("GET", "/volumes", list_volumes),
        Route("POST", "/volumes/create", create),
        Route("POST", "/volumes/prune", prune),
        Route("GET", "/volumes/{name:path}", inspect),
        Route("DELETE", "/volumes/{name}", remove),
        Route("PUT", "/volumes/{name}", update),
    ]


def _copy_routes(copies: VolumeCopies) -> list[Route]:
    """Ours alone: docs/boundaries.md, section 7."""

    async def clone(request: Request) -> Response:
        body = await request.json()
        name, labels = body.get("Name"), body.get("Labels")
        if not isinstance(name, str) or not isinstance(labels, dict | None):
            raise errors.InvalidArgument("invalid volume: Name and Labels of the copy are wanted")
        if not all(isinstance(value, str) for value in (labels or {}).values()):
            raise errors.InvalidArgument("invalid volume: Labels must be an object of strings")
        made = await copies.clone(
            request.params["name"],
            name,
            labels=labels,
            snapshot=body.get("Snapshot") is True,
            pause=body.get("Pause") is not False,
        )
        return json_response(made, 201)

    async def backup(request: Request) -> Response:
        pause = request.query.flag("pause", default=True)
        chunks = await copies.backup(request.params["name"], pause=pause)
        return Response(200, chunks, "application/x-tar")

    async def restore(request: Request) -> Response:
        name, source = request.params["name"], request.query.get("from")
        if source:
            return json_response(await copies.restore_from(name, source))
        return json_response(await copies.restore(name, request.source))

    return [
        Route("POST", "/volumes/{name}/clone", clone),
        Route("GET", "/volumes/{name}/archive", backup),
        Route("PUT", "/volumes/{name}/archive", restore),
    ]
