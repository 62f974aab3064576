"""`/events`: what happened, then what happens, filtered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from barque import errors
from barque.daemon import answers, moments
from barque.daemon.events import Events
from barque.daemon.http.messages import Request, Response, Route

JSON_SEQUENCE = "application/json-seq"
_ABOUT = ("container", "image", "network", "volume", "daemon")
_EVENT_TYPES = ("builder", "config", "node", "plugin", "secret", "service")


def routes(events: Events) -> list[Route]:
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

    return [Route("GET", "/events", stream_events)]


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
