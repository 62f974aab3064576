"""`barque network ls`: list networks."""

from __future__ import annotations

from barque.cli import tables, terminal
from barque.cli.order import natural
from barque.cli.units import short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "List networks"
ALIASES = ("network ls", "network list")
OPTIONS: tuple[Row, ...] = (
    ("filter", "f", "filter", "Show only what this applies to"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("no-trunc", "", "bool", "Print everything in full"),
    ("quiet", "q", "bool", "Print only the ids"),
)
ARGUMENTS = (0, 0)

COLUMNS = ("ID", "Name", "Driver", "Scope")


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.filters import parse

    found = session.client.networks.list(parse(options))
    found.sort(key=lambda network: natural(network["Name"]))
    full = options.flag("no-trunc")
    format = session.format(options, "networksFormat")
    if options.flag("quiet") and format in ("", "table"):
        ids = (network["Id"] if full else short_id(network["Id"]) for network in found)
        terminal.out("".join(f"{text}\n" for text in ids))
        return 0
    tables.show(found, _fields(full), COLUMNS, format, kind="network.networkContext")
    return 0


def _truth(value: Any) -> str:
    return "true" if value else "false"


def _labels(network: dict[str, Any]) -> str:
    labels = network.get("Labels") or {}
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _created(network: dict[str, Any]) -> str:
    """RFC 3339 as Go prints a time: a space between its parts, the zone as number and name."""
    date, _, rest = str(network.get("Created", "")).partition("T")
    moment = rest.removesuffix("Z")
    return f"{date} {moment} +0000 UTC" if rest.endswith("Z") else f"{date} {moment}"


def _fields(full: bool) -> tables.Fields:
    return {
        "ID": ("NETWORK ID", lambda n: n["Id"] if full else short_id(n["Id"])),
        "Name": ("NAME", lambda n: str(n["Name"])),
        "Driver": ("DRIVER", lambda n: str(n["Driver"])),
        "Scope": ("SCOPE", lambda n: str(n["Scope"])),
        "IPv4": ("IPV4", lambda n: _truth(n.get("EnableIPv4"))),
        "IPv6": ("IPV6", lambda n: _truth(n.get("EnableIPv6"))),
        "Internal": ("INTERNAL", lambda n: _truth(n.get("Internal"))),
        "Labels": ("LABELS", _labels),
        "CreatedAt": ("CREATED AT", _created),
    }
