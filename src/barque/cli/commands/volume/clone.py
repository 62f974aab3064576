"""`barque volume clone`: a new volume with what another has. Docker has none."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] VOLUME COPY"
SUMMARY = "Copy a volume or a snapshot to a new volume"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("label", "", "list", "Set a label"),
    ("pause", "p", "bool", "Pause the containers that use it meanwhile", "true"),
)
ARGUMENTS = (2, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.commands.volume.create import pairs

    made = session.client.volumes.clone(
        arguments[0],
        arguments[1],
        labels=pairs(options.all("label")),
        pause=options.flag("pause", default=True),
    )
    terminal.out(f"{made['Name']}\n")
    return 0
