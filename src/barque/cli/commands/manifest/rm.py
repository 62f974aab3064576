"""`barque manifest rm`: the client keeps a list no more."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.manifest_lists import Lists, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "MANIFEST_LIST [MANIFEST_LIST...]"
SUMMARY = "Remove manifest lists that are kept here"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    lists, failed = Lists(session.config_directory), 0
    for text in arguments:
        try:
            lists.remove(parse(text))
        except errors.BarqueError as error:
            terminal.err(f"{error}\n")
            failed = 1
    return failed
