"""`barque top`: the processes of a container."""

from __future__ import annotations

from barque.cli import terminal
from barque.cli.tables import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTAINER [ps OPTIONS]"
SUMMARY = "Show the processes of a container"
ALIASES = ("container top", "top")
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, -1)

COLUMN_WIDTH = 20


def run(session: Session, options: Options, arguments: list[str]) -> int:
    answer = session.client.containers.top(arguments[0], " ".join(arguments[1:]))
    rows = [answer["Titles"], *answer["Processes"]]
    terminal.out(table(rows, least=COLUMN_WIDTH))
    return 0
