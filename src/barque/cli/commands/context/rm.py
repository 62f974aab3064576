"""`barque context rm`: forget named daemons."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal
from barque.cli.config import write_settings
from barque.cli.contexts.store import Contexts
from barque.cli.session import DEFAULT_CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTEXT [CONTEXT...]"
SUMMARY = "Remove one or more contexts"
ALIASES = ("context rm", "context remove")
OPTIONS: tuple[Row, ...] = (("force", "f", "bool", "Even the context in use"),)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    failed = 0
    for name in arguments:
        try:
            _remove(session, name, options.flag("force"))
            terminal.out(f"{name}\n")
        except errors.BarqueError as error:
            terminal.err(f"{error}\n")
            failed = 1
    return failed


def _remove(session: Session, name: str, force: bool) -> None:
    if name == DEFAULT_CONTEXT:
        raise errors.InvalidArgument('context "default" cannot be removed')
    contexts = Contexts(session.config_directory)
    current = session.context == name
    if not contexts.has(name):
        if force:
            return
        raise errors.NotFound(f'context "{name}" does not exist')
    if current and not force:
        raise errors.Conflict(f'context "{name}" is in use, set -f flag to force remove')
    contexts.remove(name)
    if session.settings.get("currentContext") == name:
        rest = {key: value for key, value in session.settings.items() if key != "currentContext"}
        write_settings(session.config_directory, rest)
