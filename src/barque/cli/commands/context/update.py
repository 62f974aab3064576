"""`barque context update`: change where a named daemon is, or its description."""

from __future__ import annotations

from barque.cli import terminal
from barque.cli.contexts.given import PARTS, endpoint_from
from barque.cli.contexts.store import ENDPOINT, Contexts, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTEXT"
SUMMARY = "Update a context"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = PARTS
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    contexts = Contexts(session.config_directory)
    (name,) = arguments
    check_name(name)
    document, tls = contexts.read(name), contexts.tls(name)
    if options.text("description"):
        document["Metadata"] = {
            **(document.get("Metadata") or {}),
            "Description": options.text("description"),
        }
    if "docker" in options:
        endpoint, tls = endpoint_from(session, contexts, options.all("docker"))
        document["Endpoints"] = {**(document.get("Endpoints") or {}), ENDPOINT: endpoint}
    contexts.write(document, tls)
    terminal.out(f"{name}\n")
    terminal.err(f'Successfully updated context "{name}"\n')
    return 0
