"""`GET /containers/json`: the list, its filters, and the words for how long and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.inspect import mount_points
from barque.daemon.containers.state import Status
from barque.daemon.containers.written import written_bytes
from barque.daemon.moments import parse_rfc3339

Filters = Mapping[str, Sequence[str]]
KNOWN_FILTERS = frozenset(
    {
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    }
)
HEALTH_WORDS = frozenset({"none", "starting", "healthy", "unhealthy"})
STATUS_WORDS = frozenset({*Status, "dead"})
_EVERY_STATE = frozenset({"status", "exited"})
MAX_PATTERN_CHARS = 256
_CREATED = attrgetter("record.created")


async def summaries(
    engine: Engine, *, everything: bool, limit: int, filters: Filters, size: bool = False
) -> list[dict[str, Any]]:
    """Newest first. `limit` > 0 counts containers in any state; `size` adds theirs."""
    chosen = await select(engine, everything=everything or limit > 0, filters=filters)
    now_ns = engine.clock_ns()
    chosen = chosen[:limit] if limit > 0 else chosen
    found = [summary(engine, item, now_ns) for item in chosen]
    links, known = _link_names(engine), await _known_images(engine, chosen)
    for container, document in zip(chosen, found, strict=True):
        document["Names"] += links.get(container.id, ())
        if known[container.record.config.image] != container.record.image:
            document["Image"] = container.record.image  # its name is another's now, or nobody's
    if size:
        for container, document in zip(chosen, found, strict=True):
            document |= await sizes(engine, container)
    return found


async def sizes(engine: Engine, container: Container) -> dict[str, int]:
    """SizeRw: what it wrote; SizeRootFs: with its image. Walks the container's own layer."""
    own, below = await written_bytes(engine, container), 0
    with suppress(errors.NotFound):  # its image was removed by force
        below = (await engine.images.resolve(container.record.image)).size
    return {"SizeRw": own, "SizeRootFs": own + below}


async def select(engine: Engine, *, everything: bool, filters: Filters) -> list[Container]:
    for name in filters:
        if name not in KNOWN_FILTERS:
            raise errors.InvalidArgument(f"invalid filter '{name}'")
    if _EVERY_STATE & filters.keys():
        everything = True
    tests = [await _test(engine, name, values) for name, values in filters.items() if values]
    found = list(engine.catalogue)
    if not everything:
        restarting = Status.RESTARTING
        found = [it for it in found if it.state.running or it.state.status is restarting]
    for test in tests:
        found = list(filter(test, found))
    found.sort(key=_CREATED, reverse=True)
    return found


Test = Callable[[Container], bool]


async def _test(engine: Engine, name: str, values: Sequence[str]) -> Test:
    """A container passes when any value of a filter fits; labels must all fit."""
    if name == "label":
        return lambda container: all(_has_label(container, value) for value in values)
    if name == "status":
        _check_statuses(values)
        return lambda container: container.state.status in values
    if name == "exited":
        codes = {_number(value, "exited") for value in values}
        return lambda container: _exited_with(container, codes)
    if name == "name":
        patterns = [_pattern(value) for value in values]
        return lambda container: any(_named(container, pattern) for pattern in patterns)
    if name == "id":
        return lambda container: any(container.id.startswith(value) for value in values)
    if name in {"before", "since"}:
        others = [engine.catalogue.find(value).record.created for value in values]
        if name == "before":
            return lambda container: all(container.record.created < other for other in others)
        return lambda container: all(container.record.created > other for other in others)
    if name == "ancestor":
        ids = await _image_ids(engine, values)
        return lambda container: container.record.image in ids
    return _plain_test(engine, name, values)


def _plain_test(engine: Engine, name: str, values: Sequence[str]) -> Test:
    if name == "volume":
        return lambda container: any(
            value in {point.name, point.source, point.destination}
            for point in container.record.mounts
            for value in values
        )
    if name == "network":
        return lambda container: _in_network(engine, container, values)
    if name in {"publish", "expose"}:
        wanted = [_port_range(value) for value in values]
        return lambda container: _has_port(engine, container, name, wanted)
    if name == "health":
        _check_health(values)
        return lambda container: _health(container) in values
    if name == "is-task":
        no_task = [_is_false(value) for value in values]
        return lambda container: all(no_task)
    return lambda container: set(values) <= {"", "default"}


def _check_health(values: Sequence[str]) -> None:
    for value in values:
        if value not in HEALTH_WORDS:
            raise errors.InvalidArgument(f"unrecognized filter value for health: {value}")


def _is_false(value: str) -> bool:
    if value.lower() not in {"true", "1", "false", "0"}:
        raise errors.InvalidArgument(f"invalid filter 'is-task=[{value}]'")
    return value.lower() in {"false", "0"}


def _check_statuses(values: Sequence[str]) -> None:
    for value in values:
        if value not in STATUS_WORDS:
            raise errors.InvalidArgument(f"invalid filter 'status={value}'")


def _health(container: Container) -> str:
    health = container.state.health
    return health.status if health and container.state.running else "none"


def _health_words(container: Container) -> str:
    status = _health(container)
    if status == "none":
        return ""
    return " (health: starting)" if status == "starting" else f" ({status})"


def _number(text: str, name: str) -> int:
    try:
        return int(text[:20])
    except ValueError:
        raise errors.InvalidArgument(f"invalid filter '{name}={text}'") from None


def _exited_with(container: Container, codes: set[int]) -> bool:
    ended = container.state.status is Status.EXITED
    return ended and container.state.exit_code in codes


def _has_label(container: Container, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    found = container.record.config.labels.get(name)
    return found is not None and (not equals or found == value)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text[:MAX_PATTERN_CHARS])
    except re.error:
        raise errors.InvalidArgument(f"invalid filter 'name={text[:100]}'") from None


def _named(container: Container, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.search(container.name) or pattern.search(f"/{container.name}"))


async def _image_ids(engine: Engine, references: Sequence[str]) -> set[str]:
    found = set()
    for reference in references:
        try:
            found.add((await engine.images.resolve(reference)).id)
        except errors.NotFound:
            continue
    return found


def _in_network(engine: Engine, container: Container, wanted: Sequence[str]) -> bool:
    """Whether any of `wanted` is the name of one of its networks, or the beginning of its id."""
    record = container.record
    settings = engine.networks.settings(container.id, record.host.network_mode, record.endpoints)
    networks = settings.get("Networks") or {}
    if not {record.host.network_mode, *networks}.isdisjoint(wanted):
        return True
    ids = [str(end.get("NetworkID", "")) for end in networks.values()]
    return any(found.startswith(value) for found in ids for value in wanted)


def _port_range(text: str) -> tuple[int, int, str]:
    numbers, _, protocol = text.partition("/")
    first, _, last = numbers.partition("-")
    low = _number(first, "publish")
    return low, _number(last, "publish") if last else low, protocol or "tcp"


def _has_port(
    engine: Engine, container: Container, name: str, wanted: list[tuple[int, int, str]]
) -> bool:
    key = "PublicPort" if name == "publish" else "PrivatePort"
    return any(
        low <= port[key] <= high and port["Type"] == protocol
        for port in ports(engine.networks.settings(container.id))
        if key in port
        for low, high, protocol in wanted
    )


async def _known_images(engine: Engine, containers: Iterable[Container]) -> dict[str, str]:
    """The ids of the images that the containers were made of by name; "" for one that has gone."""
    found = dict.fromkeys((container.record.config.image for container in containers), "")
    for name in found:
        with suppress(errors.BarqueError):
            found[name] = (await engine.images.resolve(name)).id
    return found


def _link_names(engine: Engine) -> dict[str, list[str]]:
    """What containers of the default network call others, by the others' ids: `/theirs/alias`."""
    found: dict[str, list[str]] = {}
    for container in engine.catalogue:
        for target, alias in container.record.legacy_links:
            found.setdefault(target, []).append(f"/{container.record.name}/{alias}")
    return found


def summary(engine: Engine, container: Container, now_ns: int) -> dict[str, Any]:
    """API: ContainerSummary."""
    record = container.record
    settings = engine.networks.settings(container.id, record.host.network_mode, record.endpoints)
    return {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": record.config.image,
        "ImageID": record.image,
        "Command": command(record.path, record.args),
        "Created": parse_rfc3339(record.created) // 1_000_000_000,
        "Ports": ports(settings),
        "Labels": record.config.labels,
        "State": str(container.state.status),
        "Status": status(container, now_ns),
        "HostConfig": {"NetworkMode": record.host.network_mode},
        "NetworkSettings": {"Networks": settings.get("Networks") or {}},
        "Mounts": mount_points(record, engine),
    }


def command(path: str, arguments: Sequence[str]) -> str:
    quoted = [f"'{item}'" if " " in item else item for item in arguments]
    return " ".join([path, *quoted])


def ports(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """API: PortSummary, from NetworkSettings.Ports."""
    result: list[dict[str, Any]] = []
    for port, bindings in (settings.get("Ports") or {}).items():
        number, _, protocol = port.partition("/")
        private = {"PrivatePort": int(number), "Type": protocol}
        if not bindings:
            result.append(private)
        for binding in bindings or ():
            public = int(binding["HostPort"])
            result.append({"IP": binding["HostIp"], **private, "PublicPort": public})
    return result


def status(container: Container, now_ns: int) -> str:
    """`Up 3 minutes`, `Exited (1) 2 hours ago`, ..."""
    now = container.state
    since_start = human_duration(now_ns - parse_rfc3339(now.started_at))
    since_end = human_duration(now_ns - parse_rfc3339(now.finished_at))
    if now.status is Status.RUNNING:
        return f"Up {since_start}{_health_words(container)}"
    if now.status is Status.PAUSED:
        return f"Up {since_start} (Paused)"
    if now.status is Status.RESTARTING:
        return f"Restarting ({now.exit_code}) {since_end} ago"
    if now.status is Status.REMOVING:
        return "Removal In Progress"
    if parse_rfc3339(now.finished_at) == 0:
        return "Created"
    return f"Exited ({now.exit_code}) {since_end} ago"


def human_duration(duration_ns: int) -> str:
    """A duration in the words of Docker's lists."""
    seconds = duration_ns // 1_000_000_000
    minutes, hours = seconds // 60, int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, unit, name in (
        (48, 1, "hours"),
        (24 * 14, 24, "days"),
        (24 * 60, 24 * 7, "weeks"),
        (24 * 730, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{hours // 24 // 365} years"
