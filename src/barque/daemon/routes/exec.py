"""Routes of exec: parse, call the service, render."""

from __future__ import annotations

from barque import errors
from barque.api.frames import STDOUT, frame
from barque.daemon.containers.execs import Exec, inspect
from barque.daemon.containers.service import Containers
from barque.daemon.containers.stdio import Wanted
from barque.daemon.http.framing import Framed, Plain
from barque.daemon.http.messages import Duplex, Request, Response, Route, json_response
from barque.daemon.routes.containers import stream_type, window_size


def routes(containers: Containers) -> list[Route]:
    handlers = _Handlers(containers)
    return [
        Route("POST", "/containers/{id}/exec", handlers.create),
        Route("POST", "/exec/{id}/start", handlers.start),
        Route("POST", "/exec/{id}/resize", handlers.resize),
        Route("GET", "/exec/{id}/json", handlers.inspect),
        Route("POST", "/exec/{id}/kill", handlers.kill),
    ]


class _Handlers:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def create(self, request: Request) -> Response:
        made = self._containers.exec_create(request.params["id"], await request.json())
        return json_response({"Id": made.id}, 201)

    async def start(self, request: Request) -> Response | None:
        body = {key.lower(): value for key, value in (await request.json()).items()}
        process = self._containers.exec_find(request.params["id"])
        console_size = _console_size(body.get("consolesize"))
        if body.get("detach"):
            await self._containers.exec_start(process, None, console_size)
            return Response(200)
        if process.started:
            state = "is already running" if process.running else "has already run"
            raise errors.Conflict(f"exec command {process.id} {state}")
        await self._attached(request, process, bool(body.get("tty")), console_size)
        return None

    async def _attached(
        self, request: Request, process: Exec, terminal: bool, console_size: list[int] | None
    ) -> None:
        """The connection is taken over first, so a refusal of the runtime is its only output.

        Whether the client expects a `terminal` is what it says now, not what the exec was made
        with: that decides the form of the output.
        """
        config = process.config
        duplex: Duplex = await request.hijack(stream_type(request, terminal))
        if terminal is not config.tty:
            duplex = Plain(duplex) if terminal else Framed(duplex)
        wanted = Wanted(config.attach_stdin, config.attach_stdout, config.attach_stderr)
        try:
            stdio = await self._containers.exec_start(process, wanted, console_size)
        except errors.BarqueError as error:
            text = f"{error}\r\n".encode()
            await duplex.write(text if config.tty else frame(STDOUT, text))
            duplex.close()
            return
        assert stdio is not None
        await self._containers.exec_serve(process, stdio, duplex)

    async def resize(self, request: Request) -> Response:
        width, height = window_size(request)
        await self._containers.exec_resize(request.params["id"], width, height)
        return Response(200)

    async def kill(self, request: Request) -> Response:
        await self._containers.exec_kill(request.params["id"], request.query.get("signal", ""))
        return Response(204)

    async def inspect(self, request: Request) -> Response:
        return json_response(inspect(self._containers.exec_find(request.params["id"])))


def _console_size(value: object) -> list[int] | None:
    if not value:
        return None
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(item, int) and 0 <= item < 65536 for item in value)
    ):
        return [int(item) for item in value]
    raise errors.InvalidArgument(f"invalid ConsoleSize: {value!r}")
