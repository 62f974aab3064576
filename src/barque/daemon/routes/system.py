"""`/version`, `/info`, `/events`, and the clear words for what is not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from barque import errors
from barque.daemon import answers, moments
from barque.daemon.disk_usage import DiskUsage
from barque.daemon.doctor import Doctor
from barque.daemon.events import Events
from barque.daemon.http.messages import Request, Response, Route, json_response
from barque.daemon.migration import Migration
from barque.daemon.system import System

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
JSON_SEQUENCE = "application/json-seq"
_ABOUT = ("container", "image", "network", "volume", "daemon")
_EVENT_TYPES = ("builder", "config", "node", "plugin", "secret", "service")
_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def routes(
    system: System, events: Events, disk: DiskUsage, migration: Migration, doctor: Doctor
) -> list[Route]:
    async def version(request: Request) -> Response:
        return json_response(system.version())

    async def info(request: Request) -> Response:
        return json_response(system.info())

    async def stream_events(request: Request) -> Response:
        until = parse_time(request.query.get("until"))
        since = parse_time(request.query.get("since"))
        filters = request.query.filters()
        _check_keys(filters)
        kind = _events_type(request)
        lines = _events(events, filters, since, until, request.version)
        if kind == JSON_SEQUENCE:
            lines = _as_sequence(lines)
        return Response(200, lines, kind)

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
        Route("GET", "/version", version),
        Route("GET", "/info", info),
        Route("GET", "/events", stream_events),
        Route("GET", "/system/df", usage),
        Route("POST", "/system/migrate", migrate),
        Route("GET", "/system/doctor", examine),
        Route("POST", "/system/doctor", repair),
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


def _events_type(request: Request) -> str:
    """What the client takes of what a stream of documents can be; plain lines else."""
    taken = [
        part.partition(";")[0].strip() for part in request.headers.get("accept", "").split(",")
    ]
    known = {"application/x-ndjson": (1, 52), JSON_SEQUENCE: (1, 52), "application/jsonl": (1, 53)}
    return next(
        (kind for kind in taken if kind in known and request.version >= known[kind]),
        "application/json",
    )


async def _as_sequence(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """RFC 7464: each text begins with a record separator."""
    async for line in lines:
        yield b"\x1e" + line


def parse_time(text: str, now_s: float | None = None) -> int | None:
    """Docker's times as ns since 1970: seconds[.fraction], RFC 3339, or a duration ago (10m)."""
    if not text:
        return None
    now_ns = time.time_ns() if now_s is None else int(now_s * moments.NS)
    try:
        return moments.moment_ns(text, now_ns)
    except ValueError:
        raise errors.InvalidArgument(f"invalid time {text[:64]!r}") from None


def _check_keys(filters: Mapping[str, list[str]]) -> None:
    for key in filters:
        if key not in {"event", "type", "scope", "label", *_ABOUT, *_EVENT_TYPES}:
            raise errors.InvalidArgument(f"invalid filter {key!r}")


async def _events(
    events: Events,
    filters: Mapping[str, list[str]],
    since: int | None,
    until: int | None,
    version: tuple[int, int],
) -> AsyncIterator[bytes]:
    """What happened since, then what happens, until the time, the filters applied."""
    with events.subscribe() as live:
        past = events.since(since) if since is not None else []
        for event in past:
            if (until is None or event["timeNano"] <= until) and matches(event, filters):
                yield msgspec.json.encode(answers.event(event, version)) + b"\n"
        wait_s = None if until is None else max(0.0, until / 1e9 - time.time())
        try:
            async with asyncio.timeout(wait_s):
                async for event in live:
                    if matches(event, filters):
                        yield msgspec.json.encode(answers.event(event, version)) + b"\n"
        except TimeoutError:
            return


def matches(event: Mapping[str, Any], filters: Mapping[str, list[str]]) -> bool:
    """Values of one key are alternatives; keys all hold. Docker: system events --filter."""
    actor = event["Actor"]
    attributes: Mapping[str, str] = actor["Attributes"]
    for key, wanted in filters.items():
        if key == "event":
            good = any(event["Action"] == w or event["Action"].split(":")[0] == w for w in wanted)
        elif key in {"type", "scope"}:
            good = event["Type" if key == "type" else "scope"] in wanted
        elif key == "label":
            good = all(_has_label(attributes, label) for label in wanted)
        else:
            good = _is_about(event, key, wanted)
        if not good:
            return False
    return True


def _has_label(attributes: Mapping[str, str], label: str) -> bool:
    key, equals, value = label.partition("=")
    return key in attributes and (not equals or attributes[key] == value)


def _is_about(event: Mapping[str, Any], kind: str, wanted: list[str]) -> bool:
    actor = event["Actor"]
    attributes = actor["Attributes"]
    if event["Type"] == kind:
        known = {actor["ID"], attributes.get("name", "")}
        return any(w in known or (len(w) >= 12 and actor["ID"].startswith(w)) for w in wanted)
    return attributes.get(kind) in wanted
