"""`barque volume restore`: a volume from an archive or a snapshot. Docker has none."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] VOLUME"
SUMMARY = "Give a volume what an archive or a snapshot has, and nothing else"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("from", "", "string", "Take it from this volume or snapshot"),
    ("input", "i", "string", "Read this archive in place of STDIN"),
)
ARGUMENTS = (1, 1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.commands.load import open_file, pieces

    source, path = options.text("from"), options.text("input")
    volumes = session.client.volumes
    if source and path:
        raise errors.InvalidArgument("conflicting options: cannot specify both --from and --input")
    if source:
        made = volumes.restore_from(arguments[0], source)
    elif path:
        made = volumes.restore(arguments[0], pieces(open_file(path)))
    elif terminal.is_terminal(terminal.STDIN):
        raise errors.InvalidArgument(
            "requested restore from stdin, but stdin is empty: use --input or --from"
        )
    else:
        made = volumes.restore(arguments[0], pieces(terminal.STDIN))
    terminal.out(f"{made['Name']}\n")
    return 0
