"""`barque context ls`: the named daemons."""

from __future__ import annotations

from barque.cli import tables, terminal
from barque.cli.contexts.given import default
from barque.cli.contexts.store import DEFAULT_DESCRIPTION, Contexts, description_of, endpoint_of
from barque.cli.order import natural
from barque.cli.session import DEFAULT_CONTEXT, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "List contexts"
ALIASES = ("context ls", "context list")
OPTIONS: tuple[Row, ...] = (
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("quiet", "q", "bool", "Print only the names"),
)
ARGUMENTS = (0, 0)


COLUMNS = ("Name", "Description", "DockerEndpoint", "Error")


def run(session: Session, options: Options, arguments: list[str]) -> int:
    current = session.context
    contexts = Contexts(session.config_directory)
    documents = [default(session), *contexts.list()]
    documents.sort(key=lambda document: natural(str(document["Name"])))
    if current not in [document["Name"] for document in documents]:
        problem = "context not found"
        documents.append({"Name": current, "Error": f'context "{current}": {problem}'})
    if options.flag("quiet"):
        terminal.out("".join(f"{document['Name']}\n" for document in documents))
    else:
        format = options.text("format")
        tables.show(
            [{**document, "Current": document["Name"] == current} for document in documents],
            FIELDS if format in ("", "table") else {**FIELDS, "Name": _PLAIN_NAME},
            COLUMNS,
            format,
            kind="formatter.clientContextContext",
        )
    if variable("DOCKER_HOST"):
        terminal.err(
            "Warning: DOCKER_HOST environment variable overrides the active context. "
            "To use a context, either set the global --context flag, "
            "or unset DOCKER_HOST environment variable.\n"
        )
    return 0


def _name(document: dict[str, Any]) -> str:
    return f"{document['Name']} *" if document["Current"] else str(document["Name"])


def _description(document: dict[str, Any]) -> str:
    if document["Name"] == DEFAULT_CONTEXT:
        return DEFAULT_DESCRIPTION
    return description_of(document)


_PLAIN_NAME = ("NAME", lambda document: str(document["Name"]))
FIELDS: tables.Fields = {
    "Current": ("CURRENT", lambda document: document["Current"]),
    "Name": ("NAME", _name),
    "Description": ("DESCRIPTION", _description),
    "DockerEndpoint": ("DOCKER ENDPOINT", lambda d: str(endpoint_of(d).get("Host") or "")),
    "Error": ("ERROR", lambda document: str(document.get("Error") or "")),
}
