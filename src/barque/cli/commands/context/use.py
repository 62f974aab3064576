"""`barque context use`: the context of the commands to come."""

from __future__ import annotations

from barque.cli import terminal
from barque.cli.config import write_settings
from barque.cli.contexts.store import Contexts
from barque.cli.session import DEFAULT_CONTEXT, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTEXT"
SUMMARY = "Set the current context"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    (name,) = arguments
    if name != DEFAULT_CONTEXT:
        Contexts(session.config_directory).read(name)
    settings = {**session.settings, "currentContext": name}
    if name == DEFAULT_CONTEXT:
        del settings["currentContext"]
    write_settings(session.config_directory, settings)
    terminal.out(f"{name}\n")
    terminal.err(f'Current context is now "{name}"\n')
    if name != DEFAULT_CONTEXT and variable("DOCKER_HOST"):
        terminal.err(
            "Warning: DOCKER_HOST environment variable overrides the active context. "
            f'To use "{name}", either set the global --context flag, '
            "or unset DOCKER_HOST environment variable.\n"
        )
    return 0
