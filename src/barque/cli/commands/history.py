"""`barque history`: the steps that an image was made in."""

from __future__ import annotations

from barque.cli import tables, terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE"
SUMMARY = "Show the history of an image"
ALIASES = ("image history", "history")
OPTIONS: tuple[Row, ...] = (
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("human", "H", "bool", "Print sizes and dates for people", "true"),
    ("no-trunc", "", "bool", "Print everything in full"),
    ("platform", "", "string", "History of the image of this platform"),
    ("quiet", "q", "bool", "Print only the ids"),
)
ARGUMENTS = (1, 1)

COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
SHOWN_CHARACTERS = 45


def run(session: Session, options: Options, arguments: list[str]) -> int:
    if "platform" in options:
        session.require("platform", "1.48")
    found = session.client.images.history(arguments[0], platform=options.text("platform"))
    full, human = options.flag("no-trunc"), options.flag("human", True)
    format = options.text("format")
    if options.flag("quiet") and format in ("", "table"):
        terminal.out("".join(f"{_id(item, full)}\n" for item in found))
        return 0
    tables.show(found, _fields(full, human), COLUMNS, format, kind="formatter.historyContext")
    return 0


def _id(item: dict[str, Any], full: bool) -> str:
    return str(item["Id"]) if full else units.short_id(item["Id"])


def _command(item: dict[str, Any], full: bool) -> str:
    text = str(item.get("CreatedBy") or "").replace("\t", " ")
    if full or len(text) <= SHOWN_CHARACTERS:
        return text
    return text[: SHOWN_CHARACTERS - 1] + "\u2026"


def _at(item: dict[str, Any]) -> str:
    """RFC 3339, in the caller's zone."""
    day, time, offset = units.local_time(item["Created"]).split()[:3]
    return f"{day}T{time}" + ("Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}")


def _size(item: dict[str, Any], human: bool) -> str:
    return units.size(item["Size"]) if human else str(item["Size"])


def _fields(full: bool, human: bool) -> tables.Fields:
    since = "CREATED" if human else "CREATED AT"
    return {
        "ID": ("IMAGE", lambda i: _id(i, full)),
        "CreatedSince": (since, lambda i: _since(i) if human else _at(i)),
        "CreatedAt": ("CREATED AT", _at),
        "CreatedBy": ("CREATED BY", lambda i: _command(i, full)),
        "Size": ("SIZE", lambda i: _size(i, human)),
        "Comment": ("COMMENT", lambda i: str(i.get("Comment") or "")),
    }


def _since(item: dict[str, Any]) -> str:
    return units.ago(item["Created"]) if item["Created"] > 0 else "N/A"
