"""`barque diff`: what a container changed of its image's files."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTAINER"
SUMMARY = "Show what a container changed of its image's files"
ALIASES = ("container diff", "diff")
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, 1)

KINDS = "CAD"


def run(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.containers.changes(arguments[0]) or ()
    terminal.out("".join(f"{KINDS[item['Kind']]} {item['Path']}\n" for item in found))
    return 0
