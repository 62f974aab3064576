"""`barque context create`: name a daemon."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.contexts.given import PARTS, copied, described, endpoint_from
from barque.cli.contexts.store import ENDPOINT, Contexts, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTEXT"
SUMMARY = "Create a context"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    *PARTS,
    ("from", "", "string", "Context to copy"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    contexts = Contexts(session.config_directory)
    (name,) = arguments
    check_name(name)
    if contexts.has(name):
        raise errors.AlreadyExists(f'context "{name}" already exists')
    if "docker" in options and not options.text("from"):
        endpoint, tls = endpoint_from(session, contexts, options.all("docker"))
        parts: dict[str, Any] = {"Metadata": {}, "Endpoints": {ENDPOINT: endpoint}}
    else:
        source, tls = described(session, contexts, options.text("from") or session.context)
        parts = copied(source)
    if options.text("description"):
        parts["Metadata"] = {"Description": options.text("description")}
    contexts.write({"Name": name, **parts}, tls)
    terminal.out(f"{name}\n")
    terminal.err(f'Successfully created context "{name}"\n')
    return 0
