"""`barque container execs`: the commands that run in containers by `exec`."""

from __future__ import annotations

from barque import errors
from barque.cli import tables, terminal
from barque.cli.units import ellipsis, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] [CONTAINER...]"
SUMMARY = "List the commands that run in containers by exec"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "Those too that wait to be started"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("no-trunc", "", "bool", "Print whole ids and commands"),
    ("quiet", "q", "bool", "Print only the ids"),
)
ARGUMENTS = (0, -1)

COLUMNS = ("ID", "Container", "Pid", "Status", "Command")
COMMAND_CHARS = 40


def run(session: Session, options: Options, arguments: list[str]) -> int:
    names = arguments or [item["Id"] for item in session.client.containers.list()]
    found = [item for name in names for item in _of(session, name)]
    shown = [item for item in found if item["Running"] or options.flag("all")]
    whole = options.flag("no-trunc")
    if options.flag("quiet"):
        terminal.out("".join(f"{_id(item['ID'], whole)}\n" for item in shown))
        return 0
    tables.show(shown, fields(whole), COLUMNS, options.text("format"), kind="formatter.Context")
    return 0


def _of(session: Session, name: str) -> list[dict[str, Any]]:
    container = session.client.containers.inspect(name)
    found = []
    for exec_id in container["ExecIDs"] or ():
        try:
            item = session.client.execs.inspect(exec_id)
        except errors.NotFound:
            continue  # forgotten meanwhile
        found.append({**item, "Container": container["Name"].removeprefix("/")})
    return found


def _id(text: str, whole: bool) -> str:
    return text if whole else short_id(text)


def _status(item: dict[str, Any]) -> str:
    return "Running" if item["Running"] else "Created"


def _command(item: dict[str, Any], whole: bool) -> str:
    process = item["ProcessConfig"]
    text = " ".join([process["entrypoint"], *(process["arguments"] or ())])
    return text if whole else ellipsis(text, COMMAND_CHARS)


def fields(whole: bool) -> tables.Fields:
    return {
        "ID": ("EXEC ID", lambda item: _id(str(item["ID"]), whole)),
        "Container": ("CONTAINER", lambda item: item["Container"]),
        "Pid": ("PID", lambda item: str(item["Pid"] or "")),
        "Status": ("STATUS", _status),
        "Command": ("COMMAND", lambda item: _command(item, whole)),
    }
