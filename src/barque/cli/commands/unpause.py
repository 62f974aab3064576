"""`barque unpause`."""

from __future__ import annotations

from barque.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "CONTAINER [CONTAINER...]"
SUMMARY = "Let paused containers go on"
ALIASES = ("container unpause", "unpause")
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, -1)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    return each(arguments, session.client.containers.begin_unpause)
