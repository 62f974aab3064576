"""`barque context import`: a context from a tar or zip archive."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.contexts.archive import read_archive, unpack
from barque.cli.contexts.store import Contexts, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTEXT FILE|-"
SUMMARY = "Import a context from a tar or zip file"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    name, path = arguments
    check_name(name)
    contexts = Contexts(session.config_directory)
    if contexts.has(name):
        raise errors.AlreadyExists(f'context "{name}" already exists')
    document, tls = unpack(read_archive(path))
    contexts.write({**document, "Name": name}, tls)
    terminal.out(f"{name}\n")
    terminal.err(f'Successfully imported context "{name}"\n')
    return 0
