"""`barque create`: a container that is not started."""

from __future__ import annotations

from barque import errors
from barque.cli import creation, new_container, terminal
from barque.cli.container_options import CREATE_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options
    from barque.cli.session import Session

USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"
SUMMARY = "Create a new container"
ALIASES = ("container create", "create")
OPTIONS = CREATE_OPTIONS
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    body = creation.body(options, arguments[0], arguments[1:])
    if options.flag("rm") and options.text("restart", "no") not in ("", "no"):
        raise errors.InvalidArgument("conflicting options: cannot specify both --restart and --rm")
    terminal.out(new_container.create(session, options, body) + "\n")
    return 0
