"""`barque logout`: forget what we logged in to a registry with."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[SERVER]"
SUMMARY = "Log out from a registry"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (0, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli import logins

    server = logins.address_of(arguments[0] if arguments else "")
    terminal.out(f"Removing login credentials for {server}\n")
    logins.drop_entry(session.config_directory, session.settings, server)
    return 0
