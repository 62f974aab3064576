"""`barque checkpoint rm`: remove a checkpoint."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER CHECKPOINT"
SUMMARY = "Remove a checkpoint"
ALIASES = ("checkpoint rm", "checkpoint remove")
OPTIONS: tuple[Row, ...] = (
    ("checkpoint-dir", "", "string", "Look there, instead of with the container"),
)
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    container, name = arguments
    session.client.containers.remove_checkpoint(
        container, name, directory=options.text("checkpoint-dir")
    )
    return 0
