"""Routes of /containers/{id}/checkpoints, which an experimental daemon has."""

from __future__ import annotations

from barque import errors
from barque.daemon.containers import checkpoints
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.http.messages import Request, Response, Route, json_response, no_content


def routes(engine: Engine) -> list[Route]:
    handlers = _Handlers(engine)
    path = "/containers/{id}/checkpoints"
    return [
        Route("GET", path, handlers.list),
        Route("POST", path, handlers.create),
        Route("DELETE", f"{path}/{{checkpoint}}", handlers.remove),
    ]


class _Handlers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _container(self, request: Request) -> Container:
        if not self._engine.defaults.experimental:
            raise errors.Unsupported(
                "This experimental feature is disabled by default. Start the Docker daemon in "
                "experimental mode in order to enable it."
            )
        return self._engine.catalogue.find(request.params["id"])

    async def list(self, request: Request) -> Response:
        container = self._container(request)
        found = checkpoints.names(self._engine, container, request.query.get("dir"))
        return json_response([{"Name": name} for name in found] or None)

    async def create(self, request: Request) -> Response:
        container, body = self._container(request), await request.json()
        name, directory = (body.get(key) or "" for key in ("CheckpointID", "CheckpointDir"))
        if not isinstance(name, str) or not isinstance(directory, str):
            raise errors.InvalidArgument("CheckpointID and CheckpointDir are strings")
        await checkpoints.create(
            self._engine, container, name, directory, end=body.get("Exit") is True
        )
        return Response(201)

    async def remove(self, request: Request) -> Response:
        container = self._container(request)
        await checkpoints.remove(
            self._engine, container, request.params["checkpoint"], request.query.get("dir")
        )
        return no_content()
