"""`barque volume ls`: list volumes."""

from __future__ import annotations

from barque import errors
from barque.cli import tables, terminal
from barque.cli.order import natural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "List volumes"
ALIASES = ("volume ls", "volume list")
OPTIONS: tuple[Row, ...] = (
    ("cluster", "", "bool", ""),
    ("filter", "f", "filter", "Show only what this applies to"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("quiet", "q", "bool", "Print only the names"),
)
ARGUMENTS = (0, 0)

COLUMNS = ("Driver", "Name")


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse

    if options.flag("cluster"):
        raise errors.Unsupported("cluster volumes are not there yet")
    found = session.client.volumes.list(parse(options))["Volumes"] or []
    found.sort(key=lambda volume: natural(volume["Name"]))
    format = session.format(options, "volumesFormat")
    if options.flag("quiet") and format in ("", "table"):
        terminal.out("".join(f"{volume['Name']}\n" for volume in found))
        return 0
    tables.show(found, FIELDS, COLUMNS, format, kind="formatter.volumeContext")
    return 0


def _labels(volume: dict[str, Any]) -> str:
    labels = volume.get("Labels") or {}
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _not_known(volume: dict[str, Any]) -> str:
    """What only `system df` knows."""
    return "N/A"


FIELDS: tables.Fields = {
    "Name": ("VOLUME NAME", lambda v: str(v["Name"])),
    "Driver": ("DRIVER", lambda v: str(v["Driver"])),
    "Scope": ("SCOPE", lambda v: str(v["Scope"])),
    "Mountpoint": ("MOUNTPOINT", lambda v: str(v["Mountpoint"])),
    "Labels": ("LABELS", _labels),
    "Links": ("LINKS", _not_known),
    "Size": ("SIZE", _not_known),
    "Availability": ("AVAILABILITY", _not_known),
    "Group": ("GROUP", _not_known),
    "Status": ("STATUS", _not_known),
}
