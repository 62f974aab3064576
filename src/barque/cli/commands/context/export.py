"""`barque context export`: a context as a tar archive."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.contexts.archive import open_private, pack
from barque.cli.contexts.given import described
from barque.cli.contexts.store import Contexts
from barque.cli.session import DEFAULT_CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTEXT [FILE|-]"
SUMMARY = "Export a context to a tar archive"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    name = arguments[0]
    contexts = Contexts(session.config_directory)
    to = arguments[1] if len(arguments) > 1 else f"{name}.dockercontext"
    if name == DEFAULT_CONTEXT:
        document, tls = described(session, contexts, name)
    else:
        document, tls = contexts.read(name), contexts.tls(name)
    archive = pack(document, tls)
    if to == "-":
        if terminal.is_terminal(terminal.STDOUT):
            raise errors.InvalidArgument(
                "cowardly refusing to export to a terminal, specify a file path"
            )
        terminal.write(terminal.STDOUT, archive)
        return 0
    with open(to, "xb", opener=open_private) as file:
        file.write(archive)
    terminal.err(f'Written file "{to}"\n')
    return 0
