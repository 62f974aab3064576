"""`barque volume rm`."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] VOLUME [VOLUME...]"
SUMMARY = "Remove volumes"
ALIASES = ("volume rm", "volume remove")
OPTIONS: tuple[Row, ...] = (("force", "f", "bool", "No error for a volume that does not exist"),)
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    failures = []
    for name in arguments:
        try:
            session.client.volumes.remove(name, force=options.flag("force"))
        except errors.BarqueError as error:
            failures.append(str(error))
            continue
        terminal.out(f"{name}\n")
    if failures:
        terminal.err("\n".join(failures) + "\n")
    return 1 if failures else 0
