"""`list`: the containers under one root, as a table, JSON or ids."""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument
from barque.linux.fs import write_all
from barque.oci.document import dump
from barque.runc.container import identifiers, load
from barque.runc.flags import SWITCH, VALUE, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (
    Flag("format,f", VALUE, "table (default) or json"),
    Flag("quiet,q", SWITCH, "display only container IDs"),
)
USAGE = "list [command options]"
WORDS = (0, 0)
COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
NARROWEST, PADDING = 12, 3
PASSWD_LIMIT = 1 << 20  # bytes


def run(given: Arguments, paths: Paths, log: Log) -> int:
    if given.on("quiet"):
        write_all(1, "".join(f"{name}\n" for name in identifiers(paths)).encode())
        return 0
    form = given.get("format", "table")
    if form not in ("table", "json"):
        raise InvalidArgument("invalid format option")
    found = []
    for name in identifiers(paths):
        try:
            container = load(paths, name)
            found.append(container.document(container.status()))
            found[-1]["owner"] = owner_of(paths.container(name))
        except BarqueError as error:
            log.warning(f"load container {name}: {error}")
    if form == "json":
        write_all(1, (dump(found) if found else b"null") + b"\n")
    else:
        write_all(1, table(found).encode())
    return 0


def table(found: list[dict[str, Any]]) -> str:
    rows = [COLUMNS, *(tuple(str(one[name.lower()]) for name in COLUMNS) for one in found)]
    widths = [max(NARROWEST, *(len(row[i]) + PADDING for row in rows)) for i in range(len(COLUMNS))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("".join([*cells, row[-1]]) + "\n")
    return "".join(lines)


def owner_of(path: str) -> str:
    """The user who made the container, by the host's own /etc/passwd."""
    uid = str(os.stat(path).st_uid)
    with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
        for line in file.read(PASSWD_LIMIT).splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[2] == uid:
                return fields[0]
    return f"#{uid}"
