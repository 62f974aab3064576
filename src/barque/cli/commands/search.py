"""`barque search`: images by a word, in a registry that can be searched."""

from __future__ import annotations

from barque.cli import tables
from barque.cli.logins import registry_auth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] TERM"
SUMMARY = "Search a registry for images"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("filter", "f", "filter", "Show only what this applies to"),
    ("format", "", "string", "Print with this template"),
    ("limit", "", "int", "At most so many"),
    ("no-trunc", "", "bool", "Print everything in full"),
)
ARGUMENTS = (1, 1)

COLUMNS = ("Name", "Description", "StarCount", "IsOfficial")
SHOWN_CHARACTERS = 45


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse

    domain, slash, _ = arguments[0].partition("/")
    registry = domain if slash and ("." in domain or ":" in domain) else "docker.io"
    found = session.client.images.search(
        arguments[0],
        limit=max(0, options.number("limit")),
        filters=parse(options),
        auth=registry_auth(session.settings, registry),
    )
    full = options.flag("no-trunc")
    format = options.text("format")
    tables.show(found, _fields(full), COLUMNS, format, kind="formatter.searchContext")
    return 0


def _text(text: str, full: bool) -> str:
    text = text.replace("\n", " ").replace("\r", " ")
    if full or len(text) <= SHOWN_CHARACTERS:
        return text
    return text[: SHOWN_CHARACTERS - 1] + "\u2026"


def _fields(full: bool) -> tables.Fields:
    return {
        "Name": ("NAME", lambda i: str(i.get("name") or "")),
        "Description": ("DESCRIPTION", lambda i: _text(str(i.get("description") or ""), full)),
        "StarCount": ("STARS", lambda i: str(i.get("star_count") or 0)),
        "IsOfficial": ("OFFICIAL", lambda i: "[OK]" if i.get("is_official") else ""),
        "IsAutomated": ("AUTOMATED", lambda i: "[OK]" if i.get("is_automated") else ""),
    }
