"""`barque volume snapshot`: a copy of a volume that never changes. Docker has none."""

from __future__ import annotations

from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] VOLUME [SNAPSHOT]"
SUMMARY = "Copy a volume to one that can only be read"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("label", "", "list", "Set a label"),
    ("pause", "p", "bool", "Pause the containers that use it meanwhile", "true"),
)
ARGUMENTS = (1, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli.commands.volume.create import pairs

    volume, name = arguments[0], arguments[1] if len(arguments) > 1 else ""
    made = session.client.volumes.clone(
        volume,
        name or _name(volume),
        labels=pairs(options.all("label")),
        snapshot=True,
        pause=options.flag("pause", default=True),
    )
    terminal.out(f"{made['Name']}\n")
    return 0


def _name(volume: str) -> str:
    """Of the volume, and of the moment."""
    import time

    return f"{volume}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
