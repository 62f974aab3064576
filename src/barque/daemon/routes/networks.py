"""`/networks`: parse, call, render."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from barque import errors
from barque.daemon import answers
from barque.daemon.http.messages import Request, Response, Route, json_response, no_content
from barque.daemon.moments import rfc3339
from barque.daemon.networks.service import Networks
from barque.daemon.routes.events import parse_time


class Membership(Protocol):
    async def connect(
        self, reference: str, container: str, settings: Mapping[str, Any]
    ) -> None: ...

    async def disconnect(self, reference: str, container: str, *, force: bool = False) -> None: ...


def routes(networks: Networks, membership: Membership) -> list[Route]:
    async def list_networks(request: Request) -> Response:
        return json_response(networks.summaries(request.query.filters()))

    async def inspect(request: Request) -> Response:
        scope = request.query.get("scope")
        if scope not in {"", "local"}:
            raise errors.NotFound(f"network {request.params['id']} not found")
        told = request.version >= answers.TRIMMED_SINCE
        return json_response(networks.inspect(request.params["id"], status=told))

    async def create(request: Request) -> Response:
        network_id, warning = await networks.create(await request.json())
        return json_response({"Id": network_id, "Warning": warning}, 201)

    async def remove(request: Request) -> Response:
        await networks.remove(request.params["id"])
        return no_content()

    async def connect(request: Request) -> Response:
        body = await request.json()
        settings = body.get("EndpointConfig") or {}
        if not isinstance(settings, dict):
            raise errors.InvalidArgument("invalid JSON: EndpointConfig is not an object")
        await membership.connect(request.params["id"], _container(body), settings)
        return Response(200)

    async def disconnect(request: Request) -> Response:
        body = await request.json()
        force = bool(body.get("Force"))
        await membership.disconnect(request.params["id"], _container(body), force=force)
        return Response(200)

    async def prune(request: Request) -> Response:
        filters = request.query.filters()
        until = filters.get("until", [])
        if len(until) > 1:
            raise errors.InvalidArgument("more than one until filter specified")
        moment = parse_time(until[0]) if until else None
        before = None if moment is None else rfc3339(moment)
        return json_response({"NetworksDeleted": await networks.prune(filters, before=before)})

    return [
        Route("GET", "/networks", list_networks),
        Route("GET", "/networks/", list_networks),
        Route("POST", "/networks/create", create),
        Route("POST", "/networks/prune", prune),
        Route("GET", "/networks/{id:path}", inspect),
        Route("DELETE", "/networks/{id}", remove),
        Route("POST", "/networks/{id}/connect", connect),
        Route("POST", "/networks/{id}/disconnect", disconnect),
    ]


def _container(body: Mapping[str, Any]) -> str:
    container = body.get("Container")
    if not isinstance(container, str) or not container:
        raise errors.InvalidArgument("invalid container: name is empty")
    return container
