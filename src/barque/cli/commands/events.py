"""`barque events`: what happens in the engine, as it happens."""

from __future__ import annotations

from barque.cli import terminal
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Show what happens in the engine, as it happens"
ALIASES = ("system events", "events")
OPTIONS: tuple[Row, ...] = (
    ("filter", "f", "filter", "Show only what this applies to"),
    ("format", "", "string", "Print with this template, or as 'json'"),
    ("since", "", "string", "From this time on, or this long ago"),
    ("until", "", "string", "Up to this time, or this long ago"),
)
ARGUMENTS = (0, 0)
NOTHING = {"Type": "", "Action": "", "Actor": {"ID": "", "Attributes": {}}}  # to try templates on


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse
    from barque.cli.times import timestamp

    line = _line(options.text("format"))
    since, until = (timestamp(options.text(n)) if n in options else "" for n in ("since", "until"))
    reply = session.client.system.events(since=since, until=until, filters=parse(options))
    for event in reply.documents():
        terminal.out(line(event) + "\n")
    return 0


def _line(format: str) -> Callable[[Any], str]:
    """What makes the line of one event."""
    if not format:
        return _default
    if format == "json":
        from barque.cli.json_text import compact

        return compact
    from barque.cli.inspection import program

    try:
        made = program(format, _Event)
        made(NOTHING)
    except Failure as error:
        wrong = str(error).removeprefix("template parsing error: ")
        raise Failure(64, f"Error parsing format: {wrong}") from None
    return made


def _default(event: dict[str, Any]) -> str:
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    text = (
        f"{_moment(event)} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    )
    if attributes:
        pairs = ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes))
        text += f" ({pairs})"
    return text


def _moment(event: dict[str, Any]) -> str:
    """RFC 3339 with nine digits, in local time."""
    import time

    nanoseconds = int(event.get("timeNano", 0)) or int(event.get("time", 0)) * 10**9
    local = time.localtime(nanoseconds // 10**9)
    zone = time.strftime("%z", local)
    shown = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + f".{nanoseconds % 10**9:09d}" + shown


class _Event:
    """An event as templates name its parts."""

    kind = "events.Message"
    _NAMES = {"ID": "id", "Status": "status", "From": "from", "Scope": "scope", "Time": "time"}

    def __init__(self, event: dict[str, Any]) -> None:
        self._event = event

    def template_field(self, name: str) -> Any:
        if name == "Actor":
            from barque.cli.templates.functions import Strings

            actor = self._event[name]
            return {**actor, "Attributes": Strings(actor.get("Attributes") or {})}
        if name == "TimeNano":
            return self._event.get("timeNano", 0)
        if name in self._NAMES:
            return self._event.get(self._NAMES[name], "") or self._older(name)
        return self._event[name]

    def _older(self, name: str) -> str:
        """What an API before 1.52 repeats under these names."""
        actor = self._event.get("Actor") or {}
        return str(
            {
                "ID": actor.get("ID", ""),
                "Status": self._event.get("Action", ""),
                "From": (actor.get("Attributes") or {}).get("image", ""),
            }.get(name, "")
        )

    def document(self) -> dict[str, Any]:
        return self._event
