"""`barque create`: a container that is not started."""

from __future__ import annotations

from barque import errors
from barque.cli import creation, flags, new_container, terminal
from barque.cli.container_options import CREATE_OPTIONS
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"
SUMMARY = "Make a container without starting it"
ALIASES = ("container create", "create")
OPTIONS = CREATE_OPTIONS
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    try:
        body = creation.body(options, arguments[0], arguments[1:])
    except (flags.UsageError, Failure):
        raise
    except errors.BarqueError as error:
        raise Failure(125, str(error)) from None
    terminal.out(new_container.create(session, options, body) + "\n")
    return 0
