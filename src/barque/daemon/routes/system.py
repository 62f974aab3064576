"""`/version`, `/info`, and what is done with the engine as a whole."""

from __future__ import annotations

from barque.daemon import answers
from barque.daemon.disk_usage import DiskUsage
from barque.daemon.doctor import Doctor
from barque.daemon.events import Events
from barque.daemon.http.messages import Request, Response, Route, json_response
from barque.daemon.migration import Migration
from barque.daemon.routes import not_there
from barque.daemon.routes.events import routes as event_routes
from barque.daemon.system import System


def routes(
    system: System, events: Events, disk: DiskUsage, migration: Migration, doctor: Doctor
) -> list[Route]:
    async def version(request: Request) -> Response:
        return json_response(system.version())

    async def info(request: Request) -> Response:
        return json_response(system.info())

    async def usage(request: Request) -> Response:
        query, version = request.query, request.version
        verbose = query.flag("verbose") and version >= answers.TRIMMED_SINCE
        return json_response(await disk.usage(query.all("type"), version, verbose=verbose))

    async def migrate(request: Request) -> Response:
        return json_response(await migration.run())

    async def examine(request: Request) -> Response:
        return json_response(await doctor.run(repair=False))

    async def repair(request: Request) -> Response:
        return json_response(await doctor.run(repair=True))

    return [
        Route("GET", "/version", version),
        Route("GET", "/info", info),
        Route("GET", "/system/df", usage),
        Route("POST", "/system/migrate", migrate),
        Route("GET", "/system/doctor", examine),
        Route("POST", "/system/doctor", repair),
        *event_routes(events),
        *not_there.routes(),
    ]
