"""From containers to images and archives: commit and export. Parse, call the services, render."""

from __future__ import annotations

from barque import errors
from barque.daemon.archive.export import export
from barque.daemon.containers.committing import commit
from barque.daemon.containers.service import Containers
from barque.daemon.http.messages import Request, Response, Route, json_response
from barque.daemon.images.service import Images


def routes(containers: Containers, images: Images) -> list[Route]:
    async def exported(request: Request) -> Response:
        chunks = await export(containers.engine, request.params["id"])
        return Response(200, chunks, "application/octet-stream")

    async def committed(request: Request) -> Response:
        query = request.query
        if not query.get("container"):
            raise errors.InvalidArgument("no container named to commit")
        image_id = await commit(
            containers.engine,
            images,
            query.get("container"),
            repository=query.get("repo"),
            tag=query.get("tag"),
            author=query.get("author"),
            comment=query.get("comment"),
            changes=query.all("changes"),
            pause=query.flag("pause", default=request.version >= (1, 13)),
            overrides=await request.json(optional=True),
        )
        return json_response({"Id": image_id}, 201)

    return [
        Route("GET", "/containers/{id}/export", exported),
        Route("POST", "/commit", committed),
    ]
