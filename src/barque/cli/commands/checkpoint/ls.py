"""`barque checkpoint ls`: the checkpoints of a container."""

from __future__ import annotations

from barque.cli import terminal
from barque.cli.tables import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER"
SUMMARY = "List the checkpoints of a container"
ALIASES = ("checkpoint ls", "checkpoint list")
OPTIONS: tuple[Row, ...] = (
    ("checkpoint-dir", "", "string", "Look there, instead of with the container"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    found = session.client.containers.checkpoints(
        arguments[0], directory=options.text("checkpoint-dir")
    )
    terminal.out(table([["CHECKPOINT NAME"], *([one["Name"]] for one in found)]))
    return 0
