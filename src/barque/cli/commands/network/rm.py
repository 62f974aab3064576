"""`barque network rm`."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "NETWORK [NETWORK...]"
SUMMARY = "Remove networks"
ALIASES = ("network rm", "network remove")
OPTIONS: tuple[Row, ...] = (("force", "f", "bool", "No error for a network that does not exist"),)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    failed = False
    for name in arguments:
        try:
            session.client.networks.remove(name)
        except errors.BarqueError as error:
            if not (options.flag("force") and isinstance(error, errors.NotFound)):
                terminal.err(f"{error}\n")
                failed = True
            continue
        terminal.out(f"{name}\n")
    if failed:
        raise Failure(1, "exit status 1")
    return 0
