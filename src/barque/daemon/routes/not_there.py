"""Clear words for what is not there: builds, swarm mode, managed plugins."""

from __future__ import annotations

from barque import errors
from barque.daemon.http.messages import Request, Response, Route, json_response

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def routes() -> list[Route]:
    async def prune_builds(request: Request) -> Response:
        """There is no build cache yet, so nothing of it is left to prune."""
        return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})

    async def no_swarm_mode(request: Request) -> Response:
        raise errors.Unsupported("swarm mode is not there yet")

    async def no_swarm_left(request: Request) -> Response:
        raise errors.Unavailable("This node is not part of a swarm")

    async def no_swarm(request: Request) -> Response:
        raise errors.Unavailable(NOT_A_MANAGER)

    async def plugins(request: Request) -> Response:
        """Managed plugins: there are none. Those with a socket of their own are not listed."""
        return json_response([])

    async def plugin(request: Request) -> Response:
        raise errors.NotFound(f'plugin "{request.params["name"]}" not found')

    async def no_plugins(request: Request) -> Response:
        raise errors.Unsupported("managed plugins are not there yet")

    async def no_build(request: Request) -> Response:
        raise errors.Unsupported("building images is not there yet")

    return [
        Route("POST", "/build/prune", prune_builds),
        Route("POST", "/swarm/init", no_swarm_mode),
        Route("POST", "/swarm/join", no_swarm_mode),
        Route("POST", "/swarm/leave", no_swarm_left),
        Route("POST", "/build", no_build),
        Route("POST", "/build/cancel", no_build),
        Route("POST", "/session", no_build),
        Route("POST", "/grpc", no_build),
        Route("GET", "/plugins", plugins),
        Route("GET", "/plugins/{name:path}/json", plugin),
        *(
            Route(method, "/plugins/{rest:path}", no_plugins)
            for method in ("GET", "POST", "DELETE")
        ),
        *(Route("GET", f"/{name}", no_swarm) for name in _SWARM),
        *(
            Route(method, f"/{name}/{{rest:path}}", no_swarm)
            for name in _SWARM
            for method in ("GET", "POST", "DELETE")
        ),
    ]
