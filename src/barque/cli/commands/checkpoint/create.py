"""`barque checkpoint create`: save what runs in a container, for a later start."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER CHECKPOINT"
SUMMARY = "Save the processes of a running container"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("checkpoint-dir", "", "string", "Keep it there, instead of with the container"),
    ("leave-running", "", "bool", "Let the container go on"),
)
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    container, name = arguments
    session.client.containers.checkpoint(
        container,
        name,
        directory=options.text("checkpoint-dir"),
        leave_running=options.flag("leave-running"),
    )
    terminal.out(f"{name}\n")
    return 0
