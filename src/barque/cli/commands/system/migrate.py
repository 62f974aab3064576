"""`barque system migrate`: carry over what other storage drivers hold."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = ""
SUMMARY = "Carry images and containers of other storage drivers over to the one in use"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    moved = session.client.system.migrate()
    for kind in ("Images", "Containers"):
        for name in moved[kind]:
            terminal.out(f"{kind[:-1].lower()} {name}\n")
    for entry in moved["Failed"]:
        terminal.err(f"{entry['Name']}: {entry['Error']}\n")
    return 1 if moved["Failed"] else 0
