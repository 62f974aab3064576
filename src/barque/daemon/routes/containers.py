"""Routes of /containers: parse, call the service, render."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from barque import errors
from barque.daemon import answers
from barque.daemon.archive import service as archive
from barque.daemon.containers import changes, logs, stats, top
from barque.daemon.containers.container import Container, Exit
from barque.daemon.containers.service import Containers
from barque.daemon.containers.stdio import Wanted
from barque.daemon.http import websocket
from barque.daemon.http.framing import Plain
from barque.daemon.http.messages import (
    Duplex,
    Request,
    Response,
    Route,
    json_response,
    no_content,
)
from barque.daemon.networks.records import BUILTIN_NAMES
from barque.daemon.routes import older

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
PATH_STAT = "X-Docker-Container-Path-Stat"
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED_SINCE = (1, 42)
NO_OWN_MAC_SINCE = (1, 52)
COPIERS = ("Docker-Client/", "Barque-Client")  # whose commands write a log's bytes as they come
OWN_ALIASES_SINCE = (1, 45)  # before, a container's id was one of its aliases


def routes(containers: Containers) -> list[Route]:
    """Every route of /containers."""
    handlers = _Handlers(containers)
    one = "/containers/{id}"
    table: tuple[tuple[str, str, Callable[[Request], Awaitable[Response | None]]], ...] = (
        ("GET", "/containers/json", handlers.list),
        ("POST", "/containers/create", handlers.create),
        ("POST", "/containers/prune", handlers.prune),
        ("GET", "/containers/{id:path}/json", handlers.inspect),
        ("POST", f"{one}/start", handlers.start),
        ("POST", f"{one}/stop", handlers.stop),
        ("POST", f"{one}/restart", handlers.restart),
        ("POST", f"{one}/kill", handlers.kill),
        ("POST", f"{one}/pause", handlers.pause),
        ("POST", f"{one}/unpause", handlers.unpause),
        ("POST", f"{one}/rename", handlers.rename),
        ("POST", f"{one}/resize", handlers.resize),
        ("POST", f"{one}/update", handlers.update),
        ("POST", f"{one}/wait", handlers.wait),
        ("POST", f"{one}/attach", handlers.attach),
        ("GET", f"{one}/attach/ws", handlers.attach_websocket),
        ("GET", f"{one}/logs", handlers.logs),
        ("GET", f"{one}/top", handlers.top),
        ("GET", f"{one}/stats", handlers.stats),
        ("GET", f"{one}/archive", handlers.archive),
        ("PUT", f"{one}/archive", handlers.extract),
        ("GET", f"{one}/changes", handlers.changes),
        ("DELETE", one, handlers.remove),
        ("DELETE", f"{one}/{{alias}}", handlers.remove_link),
    )
    return [Route(*entry) for entry in table]


def _alias_by_id(found: dict[str, Any]) -> None:
    """Older clients look for a container's id among the aliases of its place in a network, before
    its first start too: docker-compose 1 connects it anew where it is not, without its address."""
    for network, endpoint in found["NetworkSettings"]["Networks"].items():
        if network not in BUILTIN_NAMES:
            names = (*(endpoint["Aliases"] or ()), found["Id"][:12])
            endpoint["Aliases"] = list(dict.fromkeys(names))


def _binding_warnings(bindings: Mapping[str, Any] | None) -> list[str]:
    return [
        f"Following HostConfig.PortBindings entry is deprecated: {port} has an empty list, which "
        "stands for a port of the host's choice; list a PortBinding without HostIp and HostPort"
        for port in answers.empty_bindings(bindings)
    ]


class _Handlers:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def list(self, request: Request) -> Response:
        query = request.query
        found = await self._containers.summaries(
            everything=query.flag("all"),
            limit=query.integer("limit", 0) or 0,
            filters=query.filters(),
            size=query.flag("size"),
        )
        return json_response(found)

    async def create(self, request: Request) -> Response:
        name = request.query.get("name")
        body, platform = await request.json(), request.query.get("platform")
        older.settle_create(body, request.version, self._containers.engine.machine.cgroup_version)
        if request.version >= NO_OWN_MAC_SINCE and body.get("MacAddress"):
            raise errors.InvalidArgument(
                "container-wide MAC address no longer supported; use endpoint-specific MAC address "
                "instead"
            )
        container, warnings = await self._containers.create(name, body, platform)
        if request.version >= answers.TRIMMED_SINCE:
            warnings = [*warnings, *_binding_warnings(container.record.host.port_bindings)]
        return json_response({"Id": container.id, "Warnings": warnings}, 201)

    async def prune(self, request: Request) -> Response:
        gone, freed = await self._containers.prune(request.query.filters())
        return json_response({"ContainersDeleted": gone or None, "SpaceReclaimed": freed})

    async def inspect(self, request: Request) -> Response:
        size = request.query.flag("size")
        found = await self._containers.inspect(request.params["id"], size=size)
        if request.version < OWN_ALIASES_SINCE:
            _alias_by_id(found)
        return json_response(answers.container(found, request.version))

    async def start(self, request: Request) -> Response:
        query = request.query
        await self._containers.start(
            request.params["id"], query.get("checkpoint"), query.get("checkpoint-dir")
        )
        return no_content()

    async def stop(self, request: Request) -> Response:
        await self._containers.stop(request.params["id"], *_signal_and_timeout(request))
        return no_content()

    async def restart(self, request: Request) -> Response:
        await self._containers.restart(request.params["id"], *_signal_and_timeout(request))
        return no_content()

    async def kill(self, request: Request) -> Response:
        await self._containers.kill(request.params["id"], request.query.get("signal"))
        return no_content()

    async def pause(self, request: Request) -> Response:
        await self._containers.pause(request.params["id"])
        return no_content()

    async def unpause(self, request: Request) -> Response:
        await self._containers.unpause(request.params["id"])
        return no_content()

    async def rename(self, request: Request) -> Response:
        await self._containers.rename(request.params["id"], request.query.get("name"))
        return no_content()

    async def resize(self, request: Request) -> Response:
        width, height = window_size(request)
        await self._containers.resize(request.params["id"], width, height)
        return Response(200)

    async def update(self, request: Request) -> Response:
        body = await request.json()
        older.settle_update(body, request.version)
        warnings = await self._containers.update(request.params["id"], body)
        return json_response({"Warnings": warnings})

    async def remove(self, request: Request) -> Response:
        query = request.query
        if query.flag("link"):
            raise errors.Conflict("Conflict, cannot remove the default link name of the container")
        await self._containers.remove(
            request.params["id"], force=query.flag("force"), volumes=query.flag("v")
        )
        return no_content()

    async def remove_link(self, request: Request) -> Response:
        """`rm --link PARENT/ALIAS`."""
        parent, alias = request.params["id"], request.params["alias"]
        if not request.query.flag("link"):
            raise errors.NotFound(f"No such container: {parent}/{alias}")
        await self._containers.unlink(parent, alias)
        return no_content()

    async def wait(self, request: Request) -> Response:
        """The head of the answer is sent at once: the client starts the container after it."""
        condition = request.query.get("condition")
        _, future = self._containers.waiting(request.params["id"], condition)
        return Response(200, _exit_document(future))

    async def attach(self, request: Request) -> None:
        container, keys = self._containers.check_attach(
            request.params["id"], request.query.get("detachKeys")
        )
        duplex = await request.hijack(stream_type(request, container.record.config.tty))
        await self._attach(request, container, keys, duplex)

    async def attach_websocket(self, request: Request) -> None:
        """The streams as they are, without Docker's frames: a message's kind says nothing."""
        container, keys = self._containers.check_attach(
            request.params["id"], request.query.get("detachKeys")
        )
        duplex = await websocket.accept(request)
        plain = duplex if container.record.config.tty else Plain(duplex)
        await self._attach(request, container, keys, plain)

    async def _attach(
        self, request: Request, container: Container, keys: bytes | None, duplex: Duplex
    ) -> None:
        query = request.query
        wanted = Wanted(query.flag("stdin"), query.flag("stdout"), query.flag("stderr"))
        await self._containers.attach(
            container,
            duplex,
            wanted,
            keys,
            history=query.flag("logs"),
            stream=query.flag("stream"),
        )

    async def archive(self, request: Request) -> Response:
        """GET: a tar; HEAD: what is there. Both tell it in a header."""
        reference, path = request.params["id"], request.query.get("path")
        engine = self._containers.engine
        body: bytes | AsyncIterator[bytes] = b""
        if request.method == "HEAD":
            found = await archive.stat(engine, reference, path)
        else:
            found, body = await archive.get(engine, reference, path)
        encoded = base64.b64encode(msgspec.json.encode(found)).decode()
        return Response(200, body, "application/x-tar", {PATH_STAT: encoded})

    async def extract(self, request: Request) -> Response:
        query = request.query
        await archive.put(
            self._containers.engine,
            request.params["id"],
            query.get("path"),
            request.source,
            keep_kinds=query.flag("noOverwriteDirNonDir"),
            copy_owner=query.flag("copyUIDGID"),
        )
        return Response(200)

    async def changes(self, request: Request) -> Response:
        container = self._containers.find(request.params["id"])
        return json_response(await changes.changes(self._containers.engine, container))

    async def logs(self, request: Request) -> Response:
        query = request.query
        container = self._containers.find(request.params["id"])
        asked = logs.Query(
            stdout=query.flag("stdout"),
            stderr=query.flag("stderr"),
            follow=query.flag("follow"),
            timestamps=query.flag("timestamps"),
            details=query.flag("details"),
            since_ns=logs.parse_time(query.get("since")),
            until_ns=logs.parse_time(query.get("until")),
            tail=logs.parse_tail(query.get("tail")),
            joined=request.headers.get("user-agent", "").startswith(COPIERS),
        )
        body = self._containers.logs(container.id, asked)
        return Response(200, body, stream_type(request, container.record.config.tty))

    async def top(self, request: Request) -> Response:
        container = self._containers.find(request.params["id"])
        options = request.query.get("ps_args", "-ef")
        return json_response(await top.top(self._containers.engine, container, options))

    async def stats(self, request: Request) -> Response:
        container = self._containers.find(request.params["id"])
        stream, one_shot = request.query.flag("stream", True), request.query.flag("one-shot")
        if stream:
            return Response(200, stats.stream(self._containers.engine, container))
        found = await stats.once(self._containers.engine, container, one_shot=one_shot)
        return json_response(found)


def stream_type(request: Request, terminal: bool) -> str:
    multiplexed = not terminal and request.version >= MULTIPLEXED_SINCE
    return MULTIPLEXED if multiplexed else RAW


def window_size(request: Request) -> tuple[int, int]:
    """Width and height. Raises InvalidArgument."""
    sizes = []
    for name, what in (("w", "width"), ("h", "height")):
        text = request.query.get(name)
        if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
            raise errors.InvalidArgument(f"invalid resize {what} {text!r}: not a number")
        sizes.append(int(text))
    return sizes[0], sizes[1]


def _signal_and_timeout(request: Request) -> tuple[str, int | None]:
    return request.query.get("signal"), request.query.integer("t")


async def _exit_document(future: asyncio.Future[Exit]) -> AsyncIterator[bytes]:
    """Nothing until the exit is known; the head goes out before."""
    yield b""
    ended = await future
    document: dict[str, object] = {"StatusCode": ended.code}
    if ended.error:
        document["Error"] = {"Message": ended.error}
    yield msgspec.json.encode(document) + b"\n"
